"""Tables of vectors: token, position and segment embeddings, and the tied output projection."""

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
