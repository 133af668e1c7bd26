"""The state of a run: what a checkpoint holds. Born sharded: nothing is ever whole on one device."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct
from jaxtyping import Array, Float, Int, Key

from rootstock.engine.errors import UserError
from rootstock.engine.partitioning import Partitioner
from rootstock.models.layers import parameters, stack
from rootstock.models.layers.axes import constrained_by
from rootstock.models.layers.parameters import Params, Spec


@struct.dataclass
class TrainState:
    """Frozen parameters have no gradient and no moments. `opt_state` is a tuple, one entry a phase."""

    params: Params
    frozen: Params
    opt_state: Any
    carried: Any
    step: Int[Array, ""]
    elapsed: Float[Array, ""]  # seconds of training so far, over all restarts

    @property
    def all_params(self) -> Params:
        return {**self.params, **self.frozen}


@dataclasses.dataclass(frozen=True)
class Blueprint:
    """All that is known of a model before it has values: structure, parameters, their layout on the mesh, which are trainable.

    `model` has shapes in place of arrays.
    """

    model: nnx.Module
    graphdef: nnx.GraphDef
    specs: dict[str, Spec]
    shardings: dict[str, jax.sharding.NamedSharding]
    trainable: frozenset[str]
    build: Callable[[Key[Array, ""]], nnx.Module]
    partitioner: Partitioner

    @classmethod
    def draw(cls, build: Callable[[Key[Array, ""]], nnx.Module], partitioner: Partitioner, trainable: str = ".*") -> "Blueprint":
        """From a constructor; `trainable` is a regular expression searched in canonical names."""
        model = parameters.abstract(build)
        specs = parameters.specs(model)
        chosen = frozenset(name for name in specs if is_trainable(name, trainable))
        if not chosen:
            raise UserError(f"no parameter's name matches trainable={trainable!r}; one of them is {next(iter(specs))!r}")
        return cls(model, nnx.split(model)[0], specs, partitioner.parameters(specs), chosen, build, partitioner)

    def merge(self, params: Params) -> nnx.Module:
        return parameters.merge(self.graphdef, params)

    def init_params(self, key: Key[Array, ""]) -> Params:
        """Random parameters, each device making its own part; the same values on every mesh."""
        return jax.jit(lambda key: parameters.split(self.build(key))[1], out_shardings=self.shardings)(key)


def is_trainable(name: str, pattern: str) -> bool:
    """Stacked layers are trainable together: a pattern that splits them is refused."""
    hits = [re.search(pattern, canonical) is not None for canonical, _ in stack.address(name)]
    if any(hits) and not all(hits):
        raise UserError(
            f"trainable={pattern!r} names some layers of {name} and not others; set scan off (Config.scan = False) to train single layers"
        )
    return all(hits)


Optimizers = Sequence[tuple[optax.GradientTransformation, frozenset[str]]]  # each with the names of the parameters it moves


def init(blueprint: Blueprint, params: Params, optimizers: Optimizers, carried: Any) -> TrainState:
    """The state before the first step. Moments are laid out as their parameters."""
    planned, partitioner = abstract(blueprint, optimizers, carried), blueprint.partitioner
    trainable = {name: params[name] for name in planned.params}
    with constrained_by(partitioner.constraint()):
        shardings = jax.tree.map(lambda x: x.sharding, planned.opt_state)
        opt_state = jax.jit(lambda trainable: _moments(optimizers, trainable), out_shardings=shardings)(trainable)
    put = lambda x: jax.device_put(x, partitioner.replicated)
    return TrainState(
        params=trainable,
        frozen={name: params[name] for name in planned.frozen},
        opt_state=opt_state,
        carried=jax.tree.map(put, carried),
        step=put(jnp.zeros((), jnp.int32)),
        elapsed=put(jnp.zeros((), jnp.float32)),
    )


def abstract(blueprint: Blueprint, optimizers: Optimizers, carried: Any) -> TrainState:
    """Shapes, dtypes and shardings of that state: into them a checkpoint is restored, with no other copy in memory."""
    partitioner = blueprint.partitioner

    def struct(x, sharding):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    params = {name: struct(jax.ShapeDtypeStruct(s.shape, s.dtype), blueprint.shardings[name]) for name, s in blueprint.specs.items()}
    trainable = {name: x for name, x in params.items() if name in blueprint.trainable}
    moments = jax.eval_shape(lambda trainable: _moments(optimizers, trainable), trainable)
    replicated = lambda x: struct(jnp.asarray(x), partitioner.replicated)
    return TrainState(
        params=trainable,
        frozen={name: x for name, x in params.items() if name not in blueprint.trainable},
        opt_state=jax.tree.map(struct, moments, partitioner.like(moments, blueprint.shardings, blueprint.specs)),
        carried=jax.tree.map(replicated, carried),
        step=replicated(jnp.zeros((), jnp.int32)),
        elapsed=replicated(jnp.zeros((), jnp.float32)),
    )


def _moments(optimizers: Optimizers, trainable: Params) -> tuple:
    return tuple(tx.init({name: trainable[name] for name in sorted(names)}) for tx, names in optimizers)
