"""The position-wise feed-forward layer."""

import jax
from flax import nnx
from jaxtyping import Array, Float, Key

from rootstock.models.layers import activations
from rootstock.models.layers.axes import constrain
from rootstock.models.layers.dense import Dense
from rootstock.models.layers.parameters import Initializer


class MLP(nnx.Module):
    """activation(x W1 + b1) W2 + b2: [B, L, width] to the same."""

    def __init__(
        self, key: Key[Array, ""], width: int, hidden: int, *, activation: activations.Activation | type, init: Initializer, dtype: str
    ):
        key_in, key_out = jax.random.split(key)
        self.input = Dense(key_in, width, hidden, axes=("embed", "mlp"), init=init, dtype=dtype)
        self.activation = nnx.data(activations.build(activation)) if isinstance(activation, type) else activation
        self.output = Dense(key_out, hidden, width, axes=("mlp", "embed"), init=init, dtype=dtype)

    def __call__(self, x: Float[Array, "B L width"]) -> Float[Array, "B L width"]:
        return self.output(self.activation(constrain(self.input(x), "batch", "length", "mlp")))
