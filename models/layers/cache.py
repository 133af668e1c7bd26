"""What attention keeps of the past while a sequence is being generated."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from rootstock.models.layers.axes import constrain

_AXES = (None, "batch", "length", "heads", None)


@struct.dataclass
class Cache:
    """Keys and values of every layer of a stack. It goes through the stack as part of the carry, so a step writes it in place."""

    keys: Float[Array, "layers B S H D"]
    values: Float[Array, "layers B S H D"]

    @classmethod
    def zeros(cls, layers: int, batch: int, length: int, heads: int, head_dim: int, dtype: str) -> "Cache":
        """Room for `length` positions."""
        empty = constrain(jnp.zeros((layers, batch, length, heads, head_dim), dtype), *_AXES)
        return cls(empty, empty)

    @property
    def length(self) -> int:
        return self.keys.shape[2]

    def write(self, layer: Int[Array, ""], index: Int[Array, ""] | int, k: Float[Array, "B T H D"], v: Float[Array, "B T H D"]) -> "Cache":
        """With `k` and `v` at the positions from `index` on of one layer."""

        def put(old, new):
            return jax.lax.dynamic_update_slice(old, new[None].astype(old.dtype), (layer, 0, index, 0, 0))

        return Cache(put(self.keys, k), put(self.values, v))

    def read(self, layer: Int[Array, ""]) -> tuple[Float[Array, "B S H D"], Float[Array, "B S H D"]]:
        """All positions of one layer."""
        return self.keys[layer], self.values[layer]
