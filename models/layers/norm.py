"""Normalisation over the last axis, computed in float32 whatever the compute dtype."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from rootstock.models.layers.parameters import parameter


class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(var + eps) * scale + bias (Ba et al. 2016, arXiv 1607.06450). Same shape and dtype out."""

    def __init__(self, features: int, *, eps: float = 1e-12, bias: bool = True):
        self.scale = parameter(jnp.ones(features), ("norm",))
        self.bias = parameter(jnp.zeros(features), ("norm",)) if bias else None
        self.eps = eps

    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
        x32 = x.astype(jnp.float32)
        centred = x32 - x32.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        lead = (1,) * (x.ndim - 1)
        y = centred * jax.lax.rsqrt(variance + self.eps) * self.scale[...].reshape(*lead, -1)
        return (y if self.bias is None else y + self.bias[...].reshape(*lead, -1)).astype(x.dtype)


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + eps) * scale (Zhang and Sennrich 2019, arXiv 1910.07467). Same shape and dtype out."""

    def __init__(self, features: int, *, eps: float = 1e-6):
        self.scale = parameter(jnp.ones(features), ("norm",))
        self.eps = eps

    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
        x32 = x.astype(jnp.float32)
        root = jax.lax.rsqrt(jnp.square(x32).mean(-1, keepdims=True) + self.eps)
        return (x32 * root * self.scale[...].reshape(*(1,) * (x.ndim - 1), -1)).astype(x.dtype)
