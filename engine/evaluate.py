"""Runs a Probe over finite data under the mesh and rules of training."""

import dataclasses
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from tqdm import tqdm

from rootstock.engine import feed
from rootstock.engine.schedules import BatchRamp
from rootstock.engine.sockets import Context, Data, Objective, Params, Probe, Term, View
from rootstock.engine.state import Blueprint
from rootstock.models.layers.axes import constrained_by


class Evaluation:
    """One probe over one data set, compiled once; call it with the parameters of any step, which `view` makes those of the model."""

    def __init__(self, blueprint: Blueprint, probe: Probe, data: Data, batch_size: int, view: View | None = None):
        self.blueprint, self.probe, self.data = blueprint, probe, data
        shards = blueprint.partitioner.batch_shards
        self.batch_size = -(-batch_size // shards) * shards

        def add(params, step, batch, statistic):
            seen = params if view is None else view(params, Context(step=step, key=jax.random.key(0)))
            return probe.add(blueprint.merge(seen), batch, statistic)

        self._add = jax.jit(add, out_shardings=blueprint.partitioner.replicated)

    def __call__(self, params: Params, step: int = 0) -> dict[str, float]:
        """The probe's result over all examples; `step` is the view's."""
        partitioner = self.blueprint.partitioner
        statistic: PyTree = jax.device_put(self.probe.zero(), partitioner.replicated)
        steps, at = -(-len(self.data) // self.batch_size), np.int32(step)
        with constrained_by(partitioner.constraint()):
            batches = feed.batches(self.data, BatchRamp([(0, self.batch_size)]), 0, steps, partitioner)
            for batch in tqdm(batches, "evaluating", steps, leave=False, disable=not sys.stderr.isatty()):
                statistic = self._add(params, at, batch, statistic)
        return self.probe.finish(jax.device_get(statistic))


@dataclasses.dataclass
class ObjectiveLoss:
    """The objective itself as a probe: its terms over held-out data, with the same masks at every evaluation and no dropout."""

    objective: Objective
    seed: int = 0

    def zero(self) -> Any:
        nothing = Term(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))
        return {"batches": jnp.zeros((), jnp.int32), "terms": dict.fromkeys(self.objective.scales, nothing)}

    def add(self, model, batch, statistic):
        key = jax.random.fold_in(jax.random.key(self.seed), statistic["batches"])
        ctx = Context(step=jnp.zeros((), jnp.int32), key=key, carried=getattr(self.objective, "carried", ()))
        loss = self.objective(model, self.objective.prepare(batch, ctx), ctx)
        return {"batches": statistic["batches"] + 1, "terms": jax.tree.map(jnp.add, statistic["terms"], loss.terms)}

    def finish(self, statistic) -> dict[str, float]:
        means = {name: float(term.total) / max(float(term.weight), 1e-6) for name, term in statistic["terms"].items()}
        loss = sum(float(self.objective.scales[name](0)) * mean for name, mean in means.items())
        return {"loss": loss, **({f"loss/{name}": mean for name, mean in means.items()} if len(means) > 1 else {})}
