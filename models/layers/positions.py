"""Positions inside attention: T5's relative buckets, and rotations of queries and keys."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from rootstock.models.layers.parameters import Initializer, parameter


def relative_buckets(
    distance: Int[Array, "..."], *, buckets: int = 32, max_distance: int = 128, bidirectional: bool = True
) -> Int[Array, "..."]:
    """T5's bucket of a distance, key position less query position (Raffel et al. 2019, section 2.1).

    Half of the buckets are exact distances, the others grow logarithmically up to `max_distance`; with `bidirectional` each half of the
    table serves one side, otherwise keys of the future share bucket 0.
    """
    side = buckets // 2 if bidirectional else buckets
    offset = jnp.where(distance > 0, side, 0) if bidirectional else 0
    distance = jnp.abs(distance) if bidirectional else jnp.maximum(-distance, 0)
    exact = side // 2
    octaves = jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / exact) / math.log(max_distance / exact)
    far = exact + (octaves * (side - exact)).astype(jnp.int32)
    return offset + jnp.where(distance < exact, distance, jnp.minimum(far, side - 1))


class RelativeBias(nnx.Module):
    """A learned number for each bucket and head, added to the scores."""

    def __init__(
        self, key: Key[Array, ""], heads: int, *, bidirectional: bool, buckets: int = 32, max_distance: int = 128, init: Initializer
    ):
        self.table = parameter(init(key, (buckets, heads)), (None, "heads"))
        self.buckets, self.max_distance, self.bidirectional = buckets, max_distance, bidirectional

    def __call__(self, queries: Int[Array, " Q"], keys: Int[Array, " K"]) -> Float[Array, "1 H Q K"]:
        """The bias between queries and keys at these positions."""
        distance = keys[None, :] - queries[:, None]
        found = relative_buckets(distance, buckets=self.buckets, max_distance=self.max_distance, bidirectional=self.bidirectional)
        return jnp.moveaxis(self.table[...][found], -1, 0)[None]


@dataclasses.dataclass(frozen=True)
class Rotary:
    """Rotates pairs (i, i + D/2) of a head by position * theta^(-2i/D) (Su et al. 2021, arXiv 2104.09864, in the order of GPT-NeoX)."""

    theta: float = 10_000.0

    def __call__(self, x: Float[Array, "B L H D"], positions: Int[Array, "B L"] | None) -> Float[Array, "B L H D"]:
        half = x.shape[-1] // 2
        rates = jnp.asarray(self.theta ** (-np.arange(half) / half), jnp.float32)
        positions = jnp.arange(x.shape[1])[None] if positions is None else positions
        angles = positions.astype(jnp.float32)[:, :, None, None] * rates[None, None, None]
        cos, sin = jnp.cos(angles), jnp.sin(angles)
        a, b = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
