"""Scaled dot-product attention: one dispatcher, `attend`, and the self-attention layer of BERT on top of it."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from rootstock.models.layers import tap
from rootstock.models.layers.axes import constrain
from rootstock.models.layers.dense import Dense
from rootstock.models.layers.dropout import dropout
from rootstock.models.layers.parameters import Initializer

MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)


def visibility(
    length: int, *, segment_ids: Int[Array, "B L"] | None = None, window: int | None = None, causal: bool = False
) -> Bool[Array, "..."] | None:
    """Who may look at whom, [B or 1, 1, L, L], or None if everybody may look at everybody.

    A position sees those of its own segment, at most `window` away on either side, and not later ones if `causal`. Padding is segment 0:
    it sees only padding, so no row is empty.
    """
    seen = []
    if segment_ids is not None:
        seen.append(segment_ids[:, None, :, None] == segment_ids[:, None, None, :])
    if window is not None or causal:
        distance = jnp.arange(length)[:, None] - jnp.arange(length)[None, :]
        near = jnp.ones_like(distance, bool) if window is None else jnp.abs(distance) <= window
        seen.append((near & (distance >= 0) if causal else near)[None, None])
    return None if not seen else seen[0] if len(seen) == 1 else seen[0] & seen[1]


def attend(
    q: Float[Array, "B L H D"],
    k: Float[Array, "B L H D"],
    v: Float[Array, "B L H D"],
    *,
    bias: Float[Array, "..."] | None = None,
    segment_ids: Int[Array, "B L"] | None = None,
    window: int | None = None,
    causal: bool = False,
    scale: float | None = None,
    rate: float = 0.0,
    key: Key[Array, ""] | None = None,
) -> Float[Array, "B L H D"]:
    """softmax(q k^T scale + bias) v over the visible positions (Vaswani et al. 2017, eq. 1); `scale` is 1/sqrt(D) by default.

    `bias` broadcasts to [B, H, L, L]. `rate` is dropout on the probabilities, active when there is a `key`. On a GPU an eligible call
    runs in cuDNN's fused kernel; everything else, and any call whose scores a tap wants, is plain XLA.
    """
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    mask = visibility(q.shape[1], segment_ids=segment_ids, window=window, causal=causal)
    if _cudnn_takes(q, dropping=key is not None and rate > 0):
        return jax.nn.dot_product_attention(q, k, v, bias, mask, scale=scale, implementation="cudnn")
    return _xla(q, k, v, bias, mask, scale, rate, key)


def _cudnn_takes(q: Array, dropping: bool) -> bool:
    """cuDNN's kernel wants half precision, an even length for its backward pass, heads of at most 128 in steps of 8, and no dropout."""
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    shape = q.shape[1] % 2 == 0 and q.shape[-1] <= 128 and q.shape[-1] % 8 == 0
    return jax.default_backend() == "gpu" and half and shape and not dropping and not (tap.wanted("scores") or tap.wanted("probabilities"))


def _xla(q, k, v, bias, mask, scale, rate, key):
    scores = jnp.einsum("bqhd,bkhd->bhqk", q * jnp.asarray(scale, q.dtype), k, preferred_element_type=jnp.float32)
    if bias is not None:
        scores = scores + bias.astype(jnp.float32)
    scores = tap.tap("scores", scores)
    if mask is not None:
        scores = jnp.where(mask, scores, MASKED)
    probabilities = tap.tap("probabilities", jax.nn.softmax(scores, axis=-1))
    probabilities = dropout(probabilities, rate, key).astype(v.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", probabilities, v)


class SelfAttention(nnx.Module):
    """Multi-head self-attention with biases: [B, L, width] to [B, L, width]."""

    def __init__(self, key: Key[Array, ""], width: int, heads: int, *, rate: float, init: Initializer, dtype: str):
        if width % heads:
            raise ValueError(f"{heads} heads do not divide the width {width}")
        keys = jax.random.split(key, 4)
        self.heads, self.rate = heads, rate
        into, out_of = ("embed", "heads"), ("heads", "embed")
        self.query = Dense(keys[0], width, width, axes=into, init=init, dtype=dtype)
        self.key = Dense(keys[1], width, width, axes=into, init=init, dtype=dtype)
        self.value = Dense(keys[2], width, width, axes=into, init=init, dtype=dtype)
        self.output = Dense(keys[3], width, width, axes=out_of, init=init, dtype=dtype)

    def __call__(
        self, x: Float[Array, "B L width"], *, segment_ids: Int[Array, "B L"] | None = None, key: Key[Array, ""] | None = None
    ) -> Float[Array, "B L width"]:
        def project(dense):
            return constrain(dense(x).reshape(*x.shape[:2], self.heads, -1), "batch", "length", "heads", None)

        y = attend(project(self.query), project(self.key), project(self.value), segment_ids=segment_ids, rate=self.rate, key=key)
        return self.output(y.reshape(*x.shape[:2], -1))
