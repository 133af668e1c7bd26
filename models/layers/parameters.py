"""Parameters as a flat dictionary of arrays, each with a name and the logical names of its axes.

A model is an NNX module; the engine sees it as `(graphdef, params)` where `params` maps a storage name such as
`encoder/layers/0:12/attention/query/kernel` to an array. `0:12` says that the leading axis holds layers 0 to 11 (see stack.py).
"""

import dataclasses
from collections.abc import Callable

import jax
from flax import nnx
from jaxtyping import Array, Float

Params = dict[str, Array]
Initializer = Callable[..., Array]


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is known of a parameter without its values: shape, dtype and one logical axis name (or None) for each dimension."""

    shape: tuple[int, ...]
    dtype: str
    axes: tuple[str | None, ...]


def parameter(value: Float[Array, "..."], axes: tuple[str | None, ...]) -> nnx.Param:
    """A trainable array whose dimensions are named by `axes`; the partitioning rules turn the names into mesh axes."""
    if len(axes) != value.ndim:
        raise ValueError(f"a parameter of shape {value.shape} needs {value.ndim} axis names, got {axes}")
    return nnx.Param(value, axes=axes)


def split(model: nnx.Module) -> tuple[nnx.GraphDef, Params]:
    """Takes a module apart into its structure and its parameters by storage name."""
    graphdef, state = nnx.split(model, nnx.Param)
    return graphdef, {_name(path): variable.get_value() for path, variable in nnx.to_flat_state(state)}


def merge(graphdef: nnx.GraphDef, params: Params) -> nnx.Module:
    """The inverse of `split`."""
    return nnx.merge(graphdef, nnx.from_flat_state([(tuple(name.split("/")), value) for name, value in params.items()]))


def specs(model: nnx.Module) -> dict[str, Spec]:
    """Shapes, dtypes and logical axes of a module's parameters; works on an abstract module (`nnx.eval_shape`) too."""
    found = {}
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        value, axes = variable.get_value(), variable.get_metadata().get("axes")
        if axes is None:
            raise ValueError(f"the parameter {_name(path)} names no axes; make it with models.layers.parameters.parameter(value, axes)")
        if value.ndim == len(axes) + 1:
            axes = ("layers", *axes)
        found[_name(path)] = Spec(tuple(value.shape), str(value.dtype), axes)
    return found


def abstract(build: Callable[[Array], nnx.Module]) -> nnx.Module:
    """The module that `build(key)` would make, with shapes in place of arrays: nothing is allocated."""
    return nnx.eval_shape(lambda: build(jax.random.key(0)))


def _name(path: tuple) -> str:
    return "/".join(str(part) for part in path)
