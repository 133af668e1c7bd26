"""One update, as a single jitted and donated program: prepare, view, gradient, accumulation, clipping, update.

Every loss term is divided by its weight over the whole global batch, known before the batch is cut into micro-batches, so that
accumulating over micro-batches, devices and processes gives the true means.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from rootstock.engine.sockets import Batch, Context, GradFn, Gradient, Loss, Objective, Params, Term, View
from rootstock.engine.state import Blueprint, TrainState
from rootstock.models.layers.axes import constrained_by


def identity(grad_fn: GradFn) -> GradFn:
    return grad_fn


@dataclasses.dataclass(frozen=True)
class Phase:
    """One objective, the parameters it moves, and their update. One phase is the rule; RTD with two optimizers has two, run in order."""

    objective: Objective
    tx: optax.GradientTransformation
    names: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Methods:
    """What changes a step: `gradient` stands outside accumulation (SAM), `micro_gradient` inside it (DP-SGD), `view` before the merge."""

    gradient: Gradient = identity
    micro_gradient: Gradient = identity
    view: View | None = None
    clip_norm: float | None = None


def make(
    blueprint: Blueprint, phases: Sequence[Phase], methods: Methods, micro_batches: int = 1
) -> Callable[[TrainState, Batch, Key[Array, ""]], tuple[TrainState, dict[str, Term]]]:
    """The function (state, batch, key) -> (state, metrics), to be jitted by `compile_step`. `key` is the run's own, the same at every
    step; it is no constant of the program, so that another seed compiles to the same one.
    """

    def step(state: TrainState, batch: Batch, key: Key[Array, ""]):
        metrics: dict[str, Term] = {}
        for index, phase in enumerate(phases):
            draws, dropout = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, index), state.step))
            ctx = Context(step=state.step, key=draws, dropout=dropout, carried=state.carried)
            state, measured = _update(blueprint, phase, index, methods, micro_batches, state, batch, ctx)
            metrics |= {name if len(phases) == 1 else f"{index}/{name}": term for name, term in measured.items()}
        return state.replace(step=state.step + 1), metrics

    return step


def _update(blueprint, phase, index, methods, micro_batches, state, batch, ctx):
    moved = {name: state.params[name] for name in sorted(phase.names)}
    still = {name: x for name, x in state.all_params.items() if name not in phase.names}
    batch = phase.objective.prepare(batch, ctx)
    grad_fn = methods.gradient(_accumulated(blueprint, phase.objective, methods, still, micro_batches))
    loss, grads = grad_fn(moved, batch, ctx)
    norm = optax.tree.norm(grads)
    if methods.clip_norm is not None:
        grads = jax.tree.map(lambda g: g * jnp.minimum(1.0, methods.clip_norm / (norm + 1e-6)), grads)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes integer counts with floats
        updates, opt_state = phase.tx.update(grads, state.opt_state[index], moved)
    moved = optax.apply_updates(moved, updates)
    state = state.replace(
        params={**state.params, **moved},
        carried=loss.carried,
        opt_state=(*state.opt_state[:index], opt_state, *state.opt_state[index + 1 :]),
    )
    return state, _measured(phase.objective, loss, norm, batch, ctx)


def _accumulated(blueprint: Blueprint, objective: Objective, methods: Methods, still: Params, micro_batches: int) -> GradFn:
    """The gradient of the whole batch, from `micro_batches` slices in a scan."""

    def grad_fn(params, batch, ctx):
        weights = objective.weights(batch)

        def scaled(params, micro, ctx):
            everything = {**params, **still}
            model = blueprint.merge(everything if methods.view is None else methods.view(everything, ctx))
            loss = objective(model, micro, ctx)
            return total(objective, loss, weights, ctx), loss

        def one(params, micro, ctx):
            (_, loss), grads = jax.value_and_grad(scaled, has_aux=True)(params, micro, ctx)
            return loss, grads

        one = methods.micro_gradient(one)
        if micro_batches == 1:
            return one(params, batch, ctx)
        slices = jax.tree.map(lambda x: _cut(x, micro_batches), batch)

        def add(so_far, indexed):
            (sums, carried), (number, micro) = so_far, indexed
            keys = {"key": jax.random.fold_in(ctx.key, number), "dropout": jax.random.fold_in(ctx.dropout, number)}
            loss, grads = one(params, micro, ctx.replace(carried=carried, **keys))
            sums = jax.tree.map(jnp.add, sums, (loss.terms, loss.metrics, grads))
            return (sums, loss.carried), loss.per_example

        shapes, grads = jax.eval_shape(one, params, jax.tree.map(lambda x: x[0], slices), ctx)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (shapes.terms, shapes.metrics, grads))
        (sums, carried), rows = jax.lax.scan(add, (zeros, ctx.carried), (jnp.arange(micro_batches), slices))
        terms, metrics, grads = sums
        rows = None if rows is None else jnp.moveaxis(rows, 0, 1).reshape(-1)
        return Loss(terms, metrics, carried, rows), grads

    return grad_fn


def total(objective: Objective, loss: Loss, weights: dict[str, Float[Array, ""]], ctx: Context) -> Float[Array, ""]:
    """sum_k scale_k(step) * total_k / weight_k; a term without any weight counts nothing."""
    return sum(objective.scales[name](ctx.step) * term.total / jnp.maximum(weights[name], 1e-6) for name, term in loss.terms.items())


def _cut(x: Array, parts: int) -> Array:
    """[B, ...] to [parts, B / parts, ...], every `parts`-th row to one slice, so that each device cuts its own rows and none moves."""
    return jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0)


def _measured(objective, loss, norm, batch, ctx) -> dict[str, Term]:
    one = jnp.ones((), jnp.float32)
    weights = objective.weights(batch)
    whole = Term(total(objective, loss, weights, ctx), one)
    terms = {f"loss/{name}": Term(term.total, weights[name]) for name, term in loss.terms.items()} if len(loss.terms) > 1 else {}
    return {"loss": whole, "grad_norm": Term(norm, one), **terms, **loss.metrics}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled step with its key: (state, batch) -> (state, metrics)."""

    program: jax.stages.Compiled
    key: Key[Array, ""]

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Term]]:
        return self.program(state, batch, self.key)


def compile_step(step: Callable, blueprint: Blueprint, state: TrainState, batch: Batch, key: Key[Array, ""]) -> Compiled:
    """Compiles `step` ahead of time for one batch shape.

    The state is donated and keeps its layout; metrics come back replicated.
    """
    partitioner = blueprint.partitioner
    key = jax.jit(lambda: key, out_shardings=partitioner.replicated)()  # device_put takes no keys to the devices of other processes
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    shardings = jax.tree.map(lambda x: x.sharding, state)
    with constrained_by(partitioner.constraint()):
        jitted = jax.jit(step, donate_argnums=0, out_shardings=(shardings, partitioner.replicated))
        return Compiled(jitted.lower(state, batch, key).compile(), key)
