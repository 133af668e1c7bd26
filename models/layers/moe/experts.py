"""E position-wise feed-forward layers side by side: one module of the layer's own class whose arrays have a leading `experts` axis.

How the tokens lie before them is a matter of `dispatch`: the module is given another product in place of each of its Dense layers, and
runs its own code otherwise.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from rootstock.models.layers.dense import Dense
from rootstock.models.layers.products import einsum

AXIS = "experts"
Product = Callable[[Array, Array, Array], Array]  # (rows [N, d] sorted by expert, kernels [E, d, f], rows of each [E]) to [N, f]


def make(key: Key[Array, ""], count: int, build: Callable[[Key[Array, ""]], nnx.Module]) -> nnx.Module:
    """`build(key)` for each of `count` keys, as one module."""
    experts = jax.vmap(build)(jax.random.split(key, count))
    for path, part in nnx.iter_graph(experts):
        if isinstance(part, nnx.Param):
            if not isinstance(_at(experts, path[:-1]), Dense):
                raise ValueError(
                    f"an expert's parameter {'/'.join(map(str, path))} is not of a Dense layer; experts are made of Dense layers and "
                    "functions without parameters"
                )
            part.set_metadata("axes", (AXIS, *part.get_metadata("axes")))
    return experts


def _at(module: nnx.Module, path: tuple) -> nnx.Module:
    for name in path:
        module = getattr(module, name)
    return module


class Batched(nnx.Module):
    """In place of a Dense: rows [E, R, d] that belong to one expert after the other, [E, R, f] out.

    `summed`: mesh axes along which each device has a part of the hidden units.
    """

    def __init__(self, dense: Dense, summed: tuple[str, ...]):
        self.dense, self.summed = dense, summed

    def __call__(self, x: Float[Array, "E R d"]) -> Float[Array, "E R f"]:
        dense = self.dense
        y = _whole(dense, einsum("erd,edf->erf", x.astype(dense.dtype), dense.kernel[...].astype(dense.dtype)), self.summed)
        return y if dense.bias is None else y + dense.bias[...].astype(dense.dtype)[:, None]


class Ragged(nnx.Module):
    """In place of a Dense: rows [1, R, d] sorted by expert, `sizes` of them to each; [1, R, f] out, of which rows beyond mean nothing.

    `owners`: the expert of each row.
    """

    def __init__(self, dense: Dense, sizes: Int[Array, "E"], owners: Int[Array, "N"], summed: tuple[str, ...], product: Product):
        self.dense, self.sizes, self.owners, self.summed, self.product = dense, sizes, owners, summed, product

    def __call__(self, x: Float[Array, "1 R d"]) -> Float[Array, "1 R f"]:
        dense = self.dense
        y = _whole(dense, self.product(x[0].astype(dense.dtype), dense.kernel[...].astype(dense.dtype), self.sizes), self.summed)
        return (y if dense.bias is None else y + jnp.take(dense.bias[...].astype(dense.dtype), self.owners, axis=0))[None]


def _whole(dense: Dense, y: Array, summed: tuple[str, ...]) -> Array:
    """A product over hidden units, of which each device has done its own."""
    return jax.lax.psum(y, summed) if summed and dense.kernel.get_metadata("axes")[-2] == "mlp" else y


def with_products(experts: nnx.Module, product: Callable[[Dense], nnx.Module]) -> nnx.Module:
    """A copy of the module in which `product(dense)` stands for each Dense."""
    copy = nnx.merge(*nnx.split(experts))
    for name, dense in _denses(copy):
        if dense.delta is not None:
            raise ValueError(f"an adapter fills `delta` of the experts' layer {name}; experts take none")
        setattr(copy, name, product(dense))
    return copy


def _denses(module: nnx.Module) -> Iterator[tuple[str, Dense]]:
    return iter([(name, part) for name, part in vars(module).items() if isinstance(part, Dense)])
