"""The two halves of an affine map, with derivatives that suit the processor.

On a CPU, XLA's own backward pass of a layer leaves time on the table. A product with a transposed matrix takes up to twice as long as one
with a transposed copy of it. The gradient of W transposes what comes from behind, computing it anew while it does, even where x is
narrower. The sum over all rows, a bias' gradient, takes up to forty times as long as the product of a row of ones with them
(benchmarks/RESULTS.md). And a product of bfloat16 is computed in float32 unless its result is asked for in float32, and rounded then:
so it takes half the time. Values are the same everywhere; elsewhere XLA is left alone.
"""

import math

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

_MANY = 2048  # rows from which a copy of the matrix is worth its time


def times(x: Float[Array, "*batch inputs"], kernel: Float[Array, "inputs outputs"]) -> Float[Array, "*batch outputs"]:
    """x W. On a CPU it has no forward-mode derivative of its own; jvp over grad is fine."""
    return _times(x, kernel) if jax.default_backend() == "cpu" else jnp.dot(x, kernel)


def plus(y: Float[Array, "*batch outputs"], bias: Float[Array, "..."]) -> Float[Array, "*batch outputs"]:
    """y + b, whose shape is that of y without some leading axes. On a CPU as `times`."""
    return _plus(y, bias) if jax.default_backend() == "cpu" else y + _rows(bias, y)


def einsum(spec: str, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """Of two arrays of one type, in that type."""
    return _rounded(x, lambda **kind: jnp.einsum(spec, x, y, **kind)) if jax.default_backend() == "cpu" else jnp.einsum(spec, x, y)


def _product(x, y, axes):
    return _rounded(x, lambda **kind: jnp.tensordot(x, y, axes, **kind))


def _rounded(x, product):
    """Asked for in float32 at least, then in the type of `x`."""
    return product(preferred_element_type=jnp.float32 if x.dtype.itemsize < 4 else x.dtype).astype(x.dtype)


@jax.custom_vjp
def _times(x, kernel):
    return _product(x, kernel, 1)


def _times_forward(x, kernel):
    return _product(x, kernel, 1), (x, kernel)


def _times_backward(kept, gradient):
    x, kernel = kept
    rows = tuple(range(x.ndim - 1))
    narrow_first = x.shape[-1] <= gradient.shape[-1]  # the first is transposed
    of_kernel = _product(x, gradient, (rows, rows)) if narrow_first else _turned(_product(gradient, x, (rows, rows)))
    transposed = kernel.T if math.prod(x.shape[:-1]) < _MANY else jax.lax.optimization_barrier(kernel.T)
    return _product(gradient, transposed, 1), of_kernel


_times.defvjp(_times_forward, _times_backward)


def _turned(matrix):
    """Its transposed copy. The first barrier keeps XLA from swapping the operands of the product before it, whose kernel is then slower;
    the layout and the second barrier make the copy a real one, which is read along its rows. A mesh cannot see through the layout and
    would gather the matrix.
    """
    if jax.device_count() > 1:
        return matrix.T
    turned = with_layout_constraint(jax.lax.optimization_barrier(matrix).T, Layout(major_to_minor=(0, 1)))
    return jax.lax.optimization_barrier(turned)


@jax.custom_vjp
def _plus(y, bias):
    return y + _rows(bias, y)


def _plus_forward(y, bias):
    return y + _rows(bias, y), bias


def _plus_backward(bias, gradient):
    rows = gradient.ndim - bias.ndim
    return gradient, _product(jnp.ones(gradient.shape[:rows], gradient.dtype), gradient, rows)


_plus.defvjp(_plus_forward, _plus_backward)


def _rows(bias: Array, y: Array) -> Array:
    return jnp.expand_dims(bias, tuple(range(y.ndim - bias.ndim)))
