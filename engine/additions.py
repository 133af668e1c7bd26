"""Loss terms and metrics that layers add by themselves, whatever the objective: the balance loss of a mixture of experts, for one.

A module that adds something has

    added_losses: Mapping[str, float]     names of losses with their factors
    added_metrics: Collection[str]        names of scalars or vectors to log

and taps each as `tap("added/NAME", value)`, a mean over the rows that it was given. The loss then has a term NAME, the mean over all such
layers and all rows of the batch; a micro-batch counts by its rows, so accumulation does not change it.
"""

import dataclasses
from collections.abc import Collection, Mapping

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from rootstock.engine.sockets import Batch, Context, Loss, Objective, Term
from rootstock.models.layers.tap import tapped

LISTED = 64  # the longest vector that is logged number by number


def including(objective: Objective, model: nnx.Module) -> Objective:
    """The objective with what the model's layers add; itself where they add nothing."""
    losses: dict[str, float] = {}
    metrics: set[str] = set()
    for _, part in nnx.iter_graph(model):
        if isinstance(part, nnx.Module):
            losses |= getattr(part, "added_losses", {})
            metrics |= set(getattr(part, "added_metrics", ()))
    return Including(objective, losses, sorted(metrics)) if losses or metrics else objective


@dataclasses.dataclass
class Including:
    """An objective and what layers add to it."""

    objective: Objective
    losses: Mapping[str, float]
    metrics: Collection[str]

    def __post_init__(self):
        if twice := sorted(self.objective.scales.keys() & self.losses.keys()):
            raise ValueError(f"the objective has a loss term {twice[0]!r}, and so have the model's layers")
        self.scales = {**self.objective.scales, **{name: optax.constant_schedule(factor) for name, factor in self.losses.items()}}

    @property
    def carried(self):
        return getattr(self.objective, "carried", ())

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        return self.objective.prepare(batch, ctx)

    def weights(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        return {**self.objective.weights(batch), **dict.fromkeys(self.losses, _rows(batch))}

    def __call__(self, model: nnx.Module, batch: Batch, ctx: Context) -> Loss:
        names = [*self.losses, *self.metrics]
        with tapped(want=[f"{where}added/{name}" for where in ("", "layers/") for name in names]) as taps:
            loss = self.objective(model, batch, ctx)
        rows, terms, metrics = _rows(batch), dict(loss.terms), dict(loss.metrics)
        for name in names:
            found = [value for where in ("", "layers/") for value in taps.values.get(f"{where}added/{name}", ())]
            if not found:
                raise ValueError(f"no layer told its {name!r}: the objective calls the model inside taps of its own")
            mean = jnp.stack(found).mean(0)
            if name in self.losses:
                terms[name] = Term(mean * rows, rows)
            elif mean.ndim == 0:
                metrics[name] = Term(mean * rows, rows)
            elif len(mean) <= LISTED:
                metrics |= {f"{name}/{i}": Term(mean[i] * rows, rows) for i in range(len(mean))}
        return loss.replace(terms=terms, metrics=metrics)


def _rows(batch: Batch) -> Float[Array, ""]:
    return jnp.asarray(jax.tree.leaves(batch)[0].shape[0], jnp.float32)
