"""Position-wise feed-forward layers: [B, L, width] to the same.

They are called with the layer's input, a key in training, and the segments, by which those that route tokens know padding.
"""

import dataclasses
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from rootstock.models.layers import activations
from rootstock.models.layers.axes import constrain
from rootstock.models.layers.dense import Dense
from rootstock.models.layers.dropout import dropout
from rootstock.models.layers.parameters import Initializer


class MLP(nnx.Module):
    """activation(x W1 + b1) W2 + b2, with dropout (T5) before W2 at `rate`."""

    def __init__(
        self,
        key: Key[Array, ""],
        width: int,
        hidden: int,
        *,
        activation: activations.Activation | type,
        init: Initializer,
        dtype: str,
        bias: bool = True,
        rate: float = 0.0,
    ):
        key_in, key_out = jax.random.split(key)
        self.input = Dense(key_in, width, hidden, axes=("embed", "mlp"), bias=bias, init=init, dtype=dtype)
        self.activation = nnx.data(activations.build(activation)) if isinstance(activation, type) else activation
        self.output = Dense(key_out, hidden, width, axes=("mlp", "embed"), bias=bias, init=init, dtype=dtype)
        self.rate = rate

    def __call__(
        self, x: Float[Array, "B L width"], key: Key[Array, ""] | None = None, segment_ids: Int[Array, "B L"] | None = None
    ) -> Float[Array, "B L width"]:
        return self.output(dropout(constrain(self.hidden(x), "batch", "length", "mlp"), self.rate, key))

    def hidden(self, x: Float[Array, "B L width"]) -> Float[Array, "B L hidden"]:
        return self.activation(self.input(x))


class GatedMLP(MLP):
    """(activation(x Wg) * x W1) W2: a gated linear unit (Shazeer 2020, arXiv 2002.05202); GEGLU with gelu, SwiGLU with silu."""

    def __init__(self, key: Key[Array, ""], width: int, hidden: int, *, init: Initializer, dtype: str, bias: bool = True, **options):
        key, key_gate = jax.random.split(key)
        super().__init__(key, width, hidden, init=init, dtype=dtype, bias=bias, **options)
        self.gate = Dense(key_gate, width, hidden, axes=("embed", "mlp"), bias=bias, init=init, dtype=dtype)

    def hidden(self, x: Float[Array, "B L width"]) -> Float[Array, "B L hidden"]:
        return self.activation(self.gate(x)) * self.input(x)


def at_layer(config: Any, index: int, layers: int, causal: bool = False) -> Any:
    """The configuration as layer `index` of a stack reads it: a mixture of experts (`moe.mixture`) stands only in some layers."""
    return dataclasses.replace(config, mlp=config.mlp.at(index, layers, causal)) if hasattr(config.mlp, "at") else config


def unlike(config: Any, layers: int) -> tuple[int, ...]:
    """The layers that differ from the rest, for `stack.layout`."""
    return config.mlp.layers(layers) if hasattr(config.mlp, "at") else ()
