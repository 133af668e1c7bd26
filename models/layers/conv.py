"""Convolution along the sequence."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from rootstock.models.layers.dense import Dense
from rootstock.models.layers.parameters import Initializer


class Convolution(nnx.Module):
    """y_i = sum_o x_{i+o} W_o + b over `size` neighbouring positions (odd), as one product of the neighbours side by side.

    Positions outside the row, and those of another segment, count as zero.
    """

    def __init__(self, key: Key[Array, ""], width: int, size: int, *, init: Initializer, dtype: str):
        if size % 2 == 0:
            raise ValueError(f"a convolution has a middle, so its size is odd; got {size}")
        self.reach = size // 2
        self.kernel = Dense(key, size * width, width, axes=(None, "embed"), init=init, dtype=dtype)

    def __call__(self, x: Float[Array, "B L width"], segment_ids: Int[Array, "B L"] | None = None) -> Float[Array, "B L width"]:
        near = []
        for offset in range(-self.reach, self.reach + 1):
            moved = _moved(x, offset)
            if segment_ids is not None:
                moved = jnp.where((_moved(segment_ids, offset) == segment_ids)[..., None], moved, jnp.zeros((), x.dtype))
            near.append(moved)
        return self.kernel(jnp.concatenate(near, axis=-1))


def _moved(x: Array, offset: int) -> Array:
    """y_i = x_{i + offset}, zero outside."""
    wide = [(0, 0), (max(-offset, 0), max(offset, 0))] + [(0, 0)] * (x.ndim - 2)
    start = max(offset, 0)
    return jnp.pad(x, wide)[:, start : start + x.shape[1]]
