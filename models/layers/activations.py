"""Elementwise functions by the names that configurations use.

A configuration's `activation` is a function, or a module class (such as a learned activation) that is built once a layer.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Activation = Callable[[Float[Array, "..."]], Float[Array, "..."]]


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x * Phi(x) with the error function: what Hugging Face calls "gelu"."""
    return jax.nn.gelu(x, approximate=False)


def gelu_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The tanh approximation of GELU: BERT's released code, "gelu_new" in Hugging Face."""
    return jax.nn.gelu(x, approximate=True)


def relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.maximum(x, 0)


def tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.tanh(x)


def silu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x * sigmoid(x), also called swish."""
    return jax.nn.silu(x)


def build(activation: Activation | type) -> Activation:
    """The callable that a layer keeps: a module class is instantiated, a function is returned as it is."""
    return activation() if isinstance(activation, type) else activation
