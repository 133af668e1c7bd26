"""Scaled dot-product attention: one dispatcher, `attend`, and the layer with its projections on top of it."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from rootstock.models.layers import tap
from rootstock.models.layers.axes import constrain
from rootstock.models.layers.dense import Dense
from rootstock.models.layers.dropout import dropout
from rootstock.models.layers.parameters import Initializer
from rootstock.models.layers.products import einsum, plus

MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)
Rotation = Callable[[Float[Array, "B L H D"], Int[Array, "B L"]], Float[Array, "B L H D"]]


def visibility(
    queries: int,
    keys: int | None = None,
    *,
    segment_ids: Int[Array, "B Q"] | None = None,
    key_segment_ids: Int[Array, "B K"] | None = None,
    window: int | None = None,
    causal: bool = False,
) -> Bool[Array, "..."] | None:
    """Who may look at whom, [B or 1, 1, Q, K], or None if everybody may look at everybody.

    A position sees those of its own segment, at most `window` away on either side, and not later ones if `causal`. Padding is segment 0:
    it sees only padding. `keys` and their segments are the queries' own by default.
    """
    keys = queries if keys is None else keys
    seen = []
    if segment_ids is not None:
        others = segment_ids if key_segment_ids is None else key_segment_ids
        seen.append(segment_ids[:, None, :, None] == others[:, None, None, :])
    if window is not None or causal:
        distance = jnp.arange(queries)[:, None] - jnp.arange(keys)[None, :]
        near = jnp.ones_like(distance, bool) if window is None else jnp.abs(distance) <= window
        seen.append((near & (distance >= 0) if causal else near)[None, None])
    return None if not seen else seen[0] if len(seen) == 1 else seen[0] & seen[1]


def attend(
    q: Float[Array, "B Q H D"],
    k: Float[Array, "B K H D"],
    v: Float[Array, "B K H D"],
    *,
    bias: Float[Array, "..."] | None = None,
    mask: Bool[Array, "..."] | None = None,
    segment_ids: Int[Array, "B Q"] | None = None,
    key_segment_ids: Int[Array, "B K"] | None = None,
    window: int | None = None,
    causal: bool = False,
    scale: float | None = None,
    rate: float = 0.0,
    key: Key[Array, ""] | None = None,
) -> Float[Array, "B Q H D"]:
    """softmax(q k^T scale + bias) v over the visible positions (Vaswani et al. 2017, eq. 1); `scale` is 1/sqrt(D) by default.

    Who sees whom is said by a `mask` or by the other four (see `visibility`); `bias` and `mask` broadcast to [B, H, Q, K]. A query that
    sees nothing gives the mean of all values. `rate` is dropout on the probabilities, active when there is a `key`. On a GPU an eligible
    call runs in cuDNN's fused kernel; everything else, and any call whose scores a tap wants, is plain XLA.
    """
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    if mask is None:
        segments = {"segment_ids": segment_ids, "key_segment_ids": key_segment_ids}
        mask = visibility(q.shape[1], k.shape[1], **segments, window=window, causal=causal)
    if _cudnn_takes(q, k, dropping=key is not None and rate > 0):
        return jax.nn.dot_product_attention(q, k, v, bias, mask, scale=scale, implementation="cudnn")
    return _xla(q, k, v, bias, mask, scale, rate, key)


def _cudnn_takes(q: Array, k: Array, dropping: bool) -> bool:
    """cuDNN's kernel wants half precision, even lengths for its backward pass, heads of at most 128 in steps of 8, and no dropout."""
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    shape = q.shape[1] % 2 == 0 and k.shape[1] % 2 == 0 and q.shape[-1] <= 128 and q.shape[-1] % 8 == 0
    return jax.default_backend() == "gpu" and half and shape and not dropping and not (tap.wanted("scores") or tap.wanted("probabilities"))


def _xla(q, k, v, bias, mask, scale, rate, key):
    scores = jnp.einsum("bqhd,bkhd->bhqk", q * jnp.asarray(scale, q.dtype), k, preferred_element_type=jnp.float32)
    if bias is not None:
        bias = bias.astype(jnp.float32)
        scores = plus(scores, bias[0]) if bias.shape == (1, *scores.shape[1:]) else scores + bias
    scores = tap.tap("scores", scores)
    if mask is not None:
        scores = jnp.where(mask, scores, MASKED)
    probabilities = tap.tap("probabilities", jax.nn.softmax(scores, axis=-1))
    probabilities = dropout(probabilities, rate, key).astype(v.dtype)
    return einsum("bhqk,bkhd->bqhd", probabilities, v)


class Attention(nnx.Module):
    """Multi-head attention of a sequence to itself, to a memory, or to what was kept of its past: [B, L, width] to the same.

    `head_dim` is width / heads by default, `scale` 1/sqrt(head_dim); `kv_heads` heads of keys and values serve equal groups of the queries'
    (Ainslie et al. 2023, arXiv 2305.13245), by default one each; `query_init` is of the query projection alone. A `rotation` turns
    queries and keys by their positions; `window` and `causal` say how far a position sees.
    """

    def __init__(
        self,
        key: Key[Array, ""],
        width: int,
        heads: int,
        *,
        rate: float,
        init: Initializer,
        dtype: str,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = True,
        scale: float | None = None,
        query_init: Initializer | None = None,
        rotation: Rotation | None = None,
        window: int | None = None,
        causal: bool = False,
    ):
        if head_dim is None and width % heads:
            raise ValueError(f"{heads} heads do not divide the width {width}")
        kv_heads = heads if kv_heads is None else kv_heads
        if heads % kv_heads:
            raise ValueError(f"{kv_heads} heads of keys and values do not divide the {heads} of queries")
        head_dim = width // heads if head_dim is None else head_dim
        inner, kv_inner = heads * head_dim, kv_heads * head_dim
        keys = jax.random.split(key, 4)
        self.heads, self.kv_heads, self.rate, self.scale = heads, kv_heads, rate, scale
        self.rotation, self.window, self.causal = rotation, window, causal
        into, out_of = ("embed", "heads"), ("heads", "embed")
        self.query = Dense(keys[0], width, inner, axes=into, bias=bias, init=query_init or init, dtype=dtype)
        self.key = Dense(keys[1], width, kv_inner, axes=into, bias=bias, init=init, dtype=dtype)
        self.value = Dense(keys[2], width, kv_inner, axes=into, bias=bias, init=init, dtype=dtype)
        self.output = Dense(keys[3], inner, width, axes=out_of, bias=bias, init=init, dtype=dtype)

    def __call__(
        self,
        x: Float[Array, "B L width"],
        *,
        bias: Float[Array, "..."] | None = None,
        segment_ids: Int[Array, "B L"] | None = None,
        positions: Int[Array, "B L"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "B L width"]:
        """To itself. `bias` broadcasts to [B, heads, L, L]; `positions` are for a rotation."""
        k, v = self.keys_values(x, positions)
        seen = {"segment_ids": segment_ids, "window": self.window, "causal": self.causal}
        return self.over(x, k, v, bias=bias, positions=positions, key=key, **seen)

    def keys_values(
        self, memory: Float[Array, "B K width"], positions: Int[Array, "B K"] | None = None
    ) -> tuple[Float[Array, "B K G D"], Float[Array, "B K G D"]]:
        """What a memory is to those who attend to it."""
        k, v = (self._project(dense, memory, self.kv_heads) for dense in (self.key, self.value))
        return k if self.rotation is None else self.rotation(k, positions), v

    def over(
        self,
        x: Float[Array, "B Q width"],
        k: Float[Array, "B K G D"],
        v: Float[Array, "B K G D"],
        *,
        positions: Int[Array, "B Q"] | None = None,
        **how,
    ) -> Float[Array, "B Q width"]:
        """To given keys and values, those of a memory or of the past; `how`: what `attend` takes of bias, visibility and dropout's key."""
        q = self._project(self.query, x, self.heads)
        k, v = (jnp.repeat(y, self.heads // self.kv_heads, axis=2) for y in (k, v))
        if self.rotation is not None:
            q = self.rotation(q, positions)
        y = attend(q, k, v, scale=self.scale, rate=self.rate, **how)
        return self.output(y.reshape(*x.shape[:2], -1))

    def _project(self, dense: Dense, x: Float[Array, "B L width"], heads: int) -> Float[Array, "B L heads D"]:
        return constrain(dense(x).reshape(*x.shape[:2], heads, -1), "batch", "length", "heads", None)
