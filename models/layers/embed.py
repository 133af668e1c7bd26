"""Tables of vectors: token, position and segment embeddings, and the tied output projection."""

import dataclasses

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from rootstock.models.layers.axes import constrain
from rootstock.models.layers.dense import BERT_INIT
from rootstock.models.layers.parameters import Initializer, parameter


class Embedding(nnx.Module):
    """A table [entries, width]; `entries` is named by `axis` ("vocab" tables are split over the tensor axis)."""

    def __init__(
        self,
        key: Key[Array, ""],
        entries: int,
        width: int,
        *,
        axis: str | None = None,
        init: Initializer = BERT_INIT,
        dtype: str = "float32",
    ):
        self.table = parameter(init(key, (entries, width)), (axis, "embed"))
        self.axis, self.dtype = axis, dtype

    def __call__(self, ids: Int[Array, "*batch"]) -> Float[Array, "*batch width"]:
        """Rows of the table; an id outside it gives NaN instead of another entry's vector."""
        table = constrain(self.table[...], self.axis, None)  # whole rows: looking ids up in split ones makes XLA replicate the result
        return jnp.take(table, ids, axis=0, mode="fill").astype(self.dtype)

    def attend(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch entries"]:
        """Scores of `x` against every row: the tied output projection. Accumulated and returned in float32."""
        return jnp.einsum("...d,vd->...v", x.astype(self.dtype), self.table[...].astype(self.dtype), preferred_element_type=jnp.float32)


@dataclasses.dataclass(frozen=True)
class Sinusoids:
    """Draws a table of positions as sines and cosines of geometric wavelengths (Vaswani et al. 2017, section 3.5), of root mean square
    `std`: a starting point that is trained on, from which attention to a fixed distance is one rotation for every position.
    """

    std: float = 0.02

    def __call__(self, key: Key[Array, ""], shape: tuple[int, int]) -> Float[Array, "positions width"]:
        positions, width = shape
        rates = 10000.0 ** (-2 * jnp.arange(width // 2, dtype=jnp.float32) / width)
        angles = jnp.arange(positions, dtype=jnp.float32)[:, None] * rates[None]
        return self.std * 2**0.5 * jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
