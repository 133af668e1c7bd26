"""Disentangled attention (DeBERTa: He et al. 2020, arXiv 2006.03654): content and relative position have projections of their own.

    A_ij = Qc_i . Kc_j + Qc_i . Kr_d(i,j) + Kc_j . Qr_d(i,j),    scaled by 1 / sqrt(D (1 + terms))

d(i,j) is the row of the table of relative positions for the distance i - j, clipped or in logarithmic buckets. The paper's second
index is d(j,i); the released code uses d(i,j) in both terms, and so does this. Because a row depends on the distance alone, the table is
first laid out over the distances that a block of C rows has to all L columns; a product gives scores by distance, [C, C + L], and `skew`
moves them to [C, L]. No gather over the scores and no [L, L, D] is made.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from rootstock.models.layers.attention import attend
from rootstock.models.layers.axes import constrain
from rootstock.models.layers.dense import Dense
from rootstock.models.layers.dropout import dropout, split
from rootstock.models.layers.parameters import Initializer


def log_buckets(distance: Int[np.ndarray, "..."], buckets: int, max_distance: int) -> Int[np.ndarray, "..."]:
    """DeBERTa-v2's bucket: the distance itself up to buckets / 2, then logarithmic, up to `buckets` at `max_distance`; odd."""
    middle = buckets // 2
    size = np.where(np.abs(distance) < middle, middle - 1, np.abs(distance)).astype(np.float32)
    octaves = np.log(size / np.float32(middle)) / np.log(np.float32((max_distance - 1) / middle))
    far = (np.ceil(octaves * (middle - 1)) + middle) * np.sign(distance)
    return np.where(size <= middle, distance, far).astype(np.int64)


def rows_of(distance: Int[np.ndarray, "..."], span: int, buckets: int, max_distance: int) -> Int[np.ndarray, "..."]:
    """The rows of a table of 2 * span relative positions for distances."""
    bucket = log_buckets(distance, buckets, max_distance) if buckets else distance
    return np.clip(bucket + span, 0, 2 * span - 1)


def block_of(length: int, most: int = 128) -> int:
    """Rows of a block: the largest divisor of the length up to `most`, or all of them where that is too small to be worth it."""
    size = next(size for size in range(min(most, length), 0, -1) if length % size == 0)
    return size if size >= most // 4 else length


def skew(x: Float[Array, "*batch C M"], length: int) -> Float[Array, "*batch C L"]:
    """y[r, j] = x[r, C - 1 - r + j] for M = C + L: scores by distance j - r become scores by place."""
    *batch, size, many = x.shape
    flat = x.reshape(*batch, size * many)[..., size - 1 : size - 1 + size * (many - 1)]
    return flat.reshape(*batch, size, many - 1)[..., :length]


class DisentangledAttention(nnx.Module):
    """[B, L, width] to the same. `share_key`: positions go through the content's projections (v2, v3); otherwise through their own, of
    which the key's has no bias in v1 (`position_key_bias`), nor has the content's key (`key_bias`). `terms`: those of c2p and p2c.
    """

    def __init__(
        self,
        key: Key[Array, ""],
        width: int,
        heads: int,
        *,
        rate: float,
        position_rate: float,
        init: Initializer,
        dtype: str,
        span: int,
        buckets: int = 0,
        max_distance: int = 512,
        share_key: bool = True,
        key_bias: bool = True,
        position_key_bias: bool = True,
        terms: tuple[str, ...] = ("c2p", "p2c"),
    ):
        if width % heads:
            raise ValueError(f"{heads} heads do not divide the width {width}")
        if unknown := set(terms) - {"c2p", "p2c"}:
            raise ValueError(f"the terms of disentangled attention are c2p and p2c, got {', '.join(sorted(unknown))}")
        keys = jax.random.split(key, 6)
        into = dict(axes=("embed", "heads"), init=init, dtype=dtype)
        self.heads, self.rate, self.position_rate, self.terms = heads, rate, position_rate, terms
        self.span, self.buckets, self.max_distance = span, buckets, max_distance
        self.query = Dense(keys[0], width, width, **into)
        self.key = Dense(keys[1], width, width, bias=key_bias, **into)
        self.value = Dense(keys[2], width, width, **into)
        self.output = Dense(keys[3], width, width, axes=("heads", "embed"), init=init, dtype=dtype)
        own = not share_key
        self.position_key = Dense(keys[4], width, width, bias=position_key_bias, **into) if own and "c2p" in terms else None
        self.position_query = Dense(keys[5], width, width, **into) if own and "p2c" in terms else None

    def __call__(
        self,
        x: Float[Array, "B L width"],
        *,
        table: Float[Array, "rows width"],
        queries: Float[Array, "B L width"] | None = None,
        segment_ids: Int[Array, "B L"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "B L width"]:
        """`table` holds the 2 * span vectors of relative positions; `queries` (the mask decoder's) are those of `x` by default."""
        keys = split(key, 2)
        q = self._project(self.query, x if queries is None else queries)
        k, v = self._project(self.key, x), self._project(self.value, x)
        scale = 1 / math.sqrt(q.shape[-1] * (1 + len(self.terms)))
        bias = self._position_scores(q, k, dropout(table, self.position_rate, keys[0])) * scale if self.terms else None
        y = attend(q, k, v, bias=bias, segment_ids=segment_ids, scale=scale, rate=self.rate, key=keys[1])
        return self.output(y.reshape(*x.shape[:2], -1))

    def _position_scores(
        self, q: Float[Array, "B L H D"], k: Float[Array, "B L H D"], table: Float[Array, "rows width"]
    ) -> Float[Array, "B H L L"]:
        length = q.shape[1]
        size = block_of(length)
        first = np.arange(0, length, size)[:, None]
        away = np.arange(size + length)[None] - (size - 1)  # after the first row, by column; the last is unused
        rows = lambda distance: rows_of(distance, self.span, self.buckets, self.max_distance)
        scores = jnp.zeros((), jnp.float32)
        if "c2p" in self.terms:  # rows are queries i, columns keys j: distance i - j
            scores = scores + _by_place(q, self._rows(self.position_key or self.key, table)[rows(first - away)])
        if "p2c" in self.terms:  # here the roles are changed: rows are keys j, columns queries i
            by_place = _by_place(k, self._rows(self.position_query or self.query, table)[rows(away - first)])
            scores = scores + jnp.swapaxes(by_place, 2, 3)
        return scores

    def _rows(self, dense: Dense, table: Float[Array, "rows width"]) -> Float[Array, "rows H D"]:
        return dense(table).reshape(table.shape[0], self.heads, -1)

    def _project(self, dense: Dense, x: Float[Array, "B L width"]) -> Float[Array, "B L H D"]:
        return constrain(dense(x).reshape(*x.shape[:2], self.heads, -1), "batch", "length", "heads", None)


def _by_place(x: Float[Array, "B L H D"], rows: Float[Array, "N M H D"]) -> Float[Array, "B H L L"]:
    """Products of each block of `x` with its rows by distance, by place."""
    batch, length, heads, _ = x.shape
    blocks = x.reshape(batch, len(rows), -1, heads, x.shape[-1])
    scores = jnp.einsum("bnchd,nmhd->nhbcm", blocks, rows, preferred_element_type=jnp.float32)
    return jnp.transpose(skew(scores, length), (2, 1, 0, 3, 4)).reshape(batch, heads, length, length)
