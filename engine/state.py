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
        with self.partitioner.mesh:
            return jax.jit(lambda key: parameters.split(self.build(key))[1], out_shardings=self.shardings)(key)


def is_trainable(name: str, pattern: str) -> bool:
    """Stacked layers are trainable together: a pattern that splits them is refused."""
    hits = [re.search(pattern, canonical) is not None for canonical, _ in stack.address(name)]
    if any(hits) and not all(hits):
        raise UserError(
            f"trainable={pattern!r} names some layers of {name} and not others; set scan off (Config.scan = False) to train single layers"
        )
    return all(hits)


def init(
    blueprint: Blueprint, params: Params, txs: Sequence[optax.GradientTransformation], filters: Sequence[frozenset[str]], carried: Any
) -> TrainState:
    """The state before the first step. Moments are laid out as their parameters."""
    trainable = {name: x for name, x in params.items() if name in blueprint.trainable}
    frozen = {name: x for name, x in params.items() if name not in blueprint.trainable}

    def moments(trainable):
        return tuple(tx.init({n: trainable[n] for n in sorted(names)}) for tx, names in zip(txs, filters, strict=True))

    partitioner = blueprint.partitioner
    shardings = partitioner.like(jax.eval_shape(moments, trainable), blueprint.shardings, blueprint.specs)
    with partitioner.mesh, constrained_by(partitioner.constraint()):
        opt_state = jax.jit(moments, out_shardings=shardings)(trainable)
    put = lambda x: jax.device_put(x, partitioner.replicated)
    return TrainState(
        trainable, frozen, opt_state, jax.tree.map(put, carried), put(jnp.zeros((), jnp.int32)), put(jnp.zeros((), jnp.float32))
    )


def abstract(state: TrainState) -> TrainState:
    """Shapes, dtypes and shardings of a state, for restoring into its layout."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
