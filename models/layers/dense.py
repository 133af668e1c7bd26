"""The affine map y = x W + b: the only matrix product in the house that creates a parameter."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from rootstock.models.layers import products
from rootstock.models.layers.parameters import Initializer, parameter


def truncated_normal(std: float) -> Initializer:
    """Normal with standard deviation `std`, cut at two standard deviations, as BERT's `truncated_normal_initializer`.

    The cut is not corrected for (the resulting deviation is 0.88 std), like the released code.
    """

    def init(key, shape, dtype=jnp.float32):
        return std * jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)

    return init


def normal(std: float) -> Initializer:
    """Normal with standard deviation `std`."""

    def init(key, shape, dtype=jnp.float32):
        return std * jax.random.normal(key, shape, dtype)

    return init


def fan_in_normal(scale: float = 1.0) -> Initializer:
    """Normal with standard deviation scale / sqrt(inputs of the product)."""

    def init(key, shape, dtype=jnp.float32):
        return scale * shape[0] ** -0.5 * jax.random.normal(key, shape, dtype)

    return init


BERT_INIT = truncated_normal(0.02)


class Dense(nnx.Module):
    """y = x W + b + delta(x). A Graft (LoRA and its kin) fills `delta`; names of parameters never change by that."""

    def __init__(
        self,
        key: Key[Array, ""],
        features_in: int,
        features_out: int,
        *,
        axes: tuple[str | None, str | None],
        bias: bool = True,
        init: Initializer = BERT_INIT,
        dtype: str = "float32",
    ):
        self.kernel = parameter(init(key, (features_in, features_out)), axes)
        self.bias = parameter(jnp.zeros(features_out), (axes[1],)) if bias else None
        self.delta = nnx.data(None)
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*batch features_in"]) -> Float[Array, "*batch features_out"]:
        y = products.times(x.astype(self.dtype), self.kernel[...].astype(self.dtype))
        if self.bias is not None:
            y = products.plus(y, self.bias[...].astype(self.dtype))
        return y if self.delta is None else y + self.delta(x)
