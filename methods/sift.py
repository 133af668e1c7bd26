"""Scale-invariant fine-tuning (SiFT: He et al. 2020, arXiv 2006.03654, section 4): virtual adversarial training on normalised embeddings.

    d_0 ~ N(0, 1e-2), cut at two deviations;   g = d CE(p(x), p(x + d)) / d d at d_0;   d = d_0 + 1e-4 g / (1e-6 + max|g|), max over a token
    loss = task loss + scale * mean over rows of [CE(p(x), p(x + d)) + CE(p(x + d), p(x))]

The symmetric cross-entropy has the gradient of the symmetric KL: the first argument of each half is held fixed. The weights are held
fixed in the ascent. A regression takes squared differences. `SiFT` wraps the objective of fine-tuning; `scale` 0 is plain fine-tuning.
Published scales: 3 to 5 (MNLI).

Deviation: the perturbation is added at the tap `embeddings`, after the norm with its scale and bias, and after dropout; the released code
puts a norm without scale and bias in front of the model's own, and adds it between the two, without gradient to the embeddings there.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Key

from rootstock.engine.errors import UserError
from rootstock.engine.sockets import Batch, Context, Loss, Objective, Term
from rootstock.models.layers.tap import tapped

TAP = "embeddings"

Logits = Float[Array, "*batch classes"]


@dataclasses.dataclass(frozen=True)
class Ascent:
    """How far the perturbation begins from zero, and how far it climbs."""

    start: float = 1e-2
    step: float = 1e-4


@dataclasses.dataclass
class SiFT:
    """Over a model of `heads` by task and batches by task, as `finetune.objective.Multitask` has them."""

    objective: Objective
    scale: float = 4.0
    ascent: Ascent = dataclasses.field(default_factory=Ascent)

    def __post_init__(self):
        scales = {_name(task): optax.constant_schedule(self.scale) for task in self.objective.scales}
        self.scales = {**self.objective.scales, **scales}

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        return self.objective.prepare(batch, ctx)

    def weights(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        weights = self.objective.weights(batch)
        return weights | {_name(task): weight for task, weight in weights.items()}

    def __call__(self, model: nnx.Module, batch: Batch, ctx: Context) -> Loss:
        loss = self.objective(model, batch, ctx)
        if ctx.dropout is None:  # an evaluation: the noise is for training
            return loss.replace(terms=loss.terms | {_name(task): Term(0.0 * t.total, t.weight) for task, t in loss.terms.items()})
        terms = {}
        for number, (task, part) in enumerate(sorted(batch.items())):
            run = lambda key, task=task, part=part: model.heads[task](model.encoder, part, key)
            keys = jax.random.split(jax.random.fold_in(ctx.key, number), 3)
            clean = run(jax.random.fold_in(ctx.dropout, number))  # the forward pass of the loss itself
            rows = divergence(run, clean, keys, self.ascent)
            weights = model.heads[task].weights(part)
            if rows.shape != weights.shape:
                raise UserError(f"SiFT compares one distribution over the classes of each row; the head for {task} gives {clean.shape}")
            terms[_name(task)] = Term((rows * weights).sum(), weights.sum())
        return loss.replace(terms=loss.terms | terms)


def divergence(run: Callable[[Key[Array, ""]], Logits], clean: Logits, keys: Key[Array, "3"], ascent: Ascent) -> Float[Array, "*batch"]:
    """Of each row, between the clean logits and those at the worst nearby point; `keys`: of the start, and of two dropouts."""
    start = ascent.start * jnp.clip(jax.random.normal(keys[0], _tapped_shape(run, keys[1])), -2.0, 2.0)

    def uphill(delta):
        return _cross_entropy(jax.lax.stop_gradient(clean), _perturbed(run, keys[1], delta)).sum()

    slope = jax.grad(uphill)(start)
    climbed = start + ascent.step * slope / (1e-6 + jnp.abs(slope).max(-1, keepdims=True))
    delta = jax.lax.stop_gradient(jnp.where(jnp.isfinite(climbed).all(), climbed, start))
    worst = _perturbed(run, keys[2], delta)
    return _cross_entropy(clean, worst) + _cross_entropy(worst, clean)


def _cross_entropy(fixed: Logits, moving: Logits) -> Float[Array, "*batch"]:
    """-sum p log q, without gradient to p; squared differences where there is one number."""
    fixed = jax.lax.stop_gradient(fixed)
    if fixed.shape[-1] == 1:
        return jnp.square(moving - fixed)[..., 0]
    return -(jax.nn.softmax(fixed) * jax.nn.log_softmax(moving)).sum(-1)


def _perturbed(run, key, delta):
    with tapped(add={TAP: delta}):
        return run(key)


def _tapped_shape(run: Callable[[Any], Any], key) -> tuple[int, ...]:
    def record():
        with tapped(want={TAP}) as taps:
            run(key)
        return taps[TAP]

    [value] = jax.eval_shape(record)
    return value.shape


def _name(task: str) -> str:
    return f"sift/{task}"
