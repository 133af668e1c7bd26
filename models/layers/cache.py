"""What attention keeps of the past while a sequence is being generated."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from rootstock.models.layers.axes import constrain

_AXES = (None, "batch", "heads", None, "length")


@struct.dataclass
class Cache:
    """Keys and values of every layer of a stack. It goes through the stack as part of the carry, so a step writes it in place.

    Positions lie innermost, as XLA wants them for attention's two products: otherwise it turns the whole cache round at every step, on a
    CPU a third of a step's time.
    """

    keys: Float[Array, "layers B H D S"]
    values: Float[Array, "layers B H D S"]

    @classmethod
    def zeros(cls, layers: int, batch: int, length: int, heads: int, head_dim: int, dtype: str) -> "Cache":
        """Room for `length` positions."""
        empty = constrain(jnp.zeros((layers, batch, heads, head_dim, length), dtype), *_AXES)
        return cls(empty, empty)

    @property
    def length(self) -> int:
        return self.keys.shape[-1]

    def write(self, layer: Int[Array, ""], index: Int[Array, ""] | int, k: Float[Array, "B T H D"], v: Float[Array, "B T H D"]) -> "Cache":
        """With `k` and `v` at the positions from `index` on of one layer."""

        def put(old, new):
            new = jnp.moveaxis(new, 1, -1).astype(old.dtype)
            return jax.lax.dynamic_update_slice(old, new[None], (layer, 0, 0, 0, index))

        return Cache(put(self.keys, k), put(self.values, v))

    def spread(self, times: int) -> "Cache":
        """With each row `times` over, one copy beside the other."""
        return jax.tree.map(lambda x: constrain(jnp.repeat(x, times, axis=1), *_AXES), self)

    def reorder(self, chosen: Int[Array, "B K"]) -> "Cache":
        """Of a cache whose rows are B groups of K: in each group the rows that `chosen` names, by their place in it."""
        groups, places = chosen.shape

        def pick(x):
            grouped = x.reshape(x.shape[0], groups, places, *x.shape[2:])
            picked = jax.vmap(jax.vmap(lambda rows, which: rows[which]), in_axes=(0, None))(grouped, chosen)
            return constrain(picked.reshape(x.shape), *_AXES)

        return jax.tree.map(pick, self)

    def read(self, layer: Int[Array, ""]) -> tuple[Float[Array, "B S H D"], Float[Array, "B S H D"]]:
        """All positions of one layer."""
        return jnp.moveaxis(self.keys[layer], -1, 1), jnp.moveaxis(self.values[layer], -1, 1)
