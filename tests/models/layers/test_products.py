"""models/layers/products.py: the values and every derivative of the plain x W + b."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rootstock.models.layers import products


def plain(x, kernel, bias):
    return jnp.tensordot(x, kernel, 1) + bias.reshape(*(1,) * (x.ndim - 1), -1)


def ours(x, kernel, bias):
    return products.plus(products.times(x, kernel), bias)


def arguments(lead, dtype):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (*lead, 5), (5, 7), (7,)
    return tuple(jax.random.normal(key, shape).astype(dtype) for key, shape in zip(keys, shapes, strict=True))


@pytest.mark.parametrize("backend, many", [("cpu", 0), ("cpu", 10**6), ("gpu", 0)])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (0, 3)])
def test_values_and_derivatives(monkeypatch, lead, backend, many):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(products, "_MANY", many)
    given = arguments(lead, "float32")
    moved = tuple(jnp.cos(x) for x in given)

    def everything(f):
        gradient = jax.grad(lambda *given: (f(*given) ** 3).sum(), argnums=(0, 1, 2))
        turned = lambda *given: sum((x * y).sum() for x, y in zip(gradient(*given), moved, strict=True))
        return f(*given), jax.jvp(gradient, given, moved), jax.grad(turned, argnums=(0, 1, 2))(*given)

    for found, wanted in zip(*(jax.tree.leaves(jax.jit(everything, static_argnums=0)(f)) for f in (ours, plain)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_a_bias_of_more_axes(monkeypatch, backend):
    """As attention's scores [B, H, Q, K] have one of [H, Q, K]."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    y, bias, factor = (jax.random.normal(jax.random.key(seed), shape) for seed, shape in enumerate([(3, 2, 4, 5), (2, 4, 5), (3, 2, 4, 5)]))
    value, (of_y, of_bias) = jax.value_and_grad(lambda *given: (products.plus(*given) * factor).sum(), argnums=(0, 1))(y, bias)
    np.testing.assert_allclose(value, ((y + bias[None]) * factor).sum(), rtol=1e-5)
    np.testing.assert_array_equal(of_y, factor)
    np.testing.assert_allclose(of_bias, factor.sum(0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("axes", [("fsdp",), (None, "fsdp")])
def test_a_mesh_gathers_no_more_than_for_the_plain_product(axes):
    """Of a matrix with more inputs than outputs, whose gradient is copied on one device."""
    mesh = Mesh(jax.devices(), ("fsdp",))
    kernel, rows = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in (axes, ("fsdp",)))

    def gathered(times):
        step = jax.jit(jax.grad(lambda kernel, x: (times(x, kernel) ** 2).sum()), in_shardings=(kernel, rows), out_shardings=kernel)
        return step.lower(jnp.ones((64, 32)), jnp.ones((16, 64))).compile().as_text().count(" all-gather(")

    assert jax.device_count() == 8 and gathered(products.times) == gathered(jnp.dot)


def test_half_precision():
    given = arguments((2, 3), "bfloat16")
    gradients = [jax.grad(lambda *given, f=f: f(*given).astype(jnp.float32).sum(), argnums=(0, 1, 2))(*given) for f in (ours, plain)]
    for found, wanted in zip(*gradients, strict=True):
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(found), np.float32(wanted), rtol=2**-7)


@pytest.mark.parametrize("backend, asked", [("cpu", "float32"), ("gpu", "bfloat16")])
def test_what_a_product_of_halves_is_asked_for(monkeypatch, backend, asked):
    """On a CPU float32, rounded then: the same values in half the time."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    x, y = (jax.random.normal(jax.random.key(seed), shape, jnp.bfloat16) for seed, shape in enumerate([(3, 4, 5), (3, 5, 6)]))
    found = products.einsum("bij,bjk->bik", x, y)
    wanted = jnp.einsum("bij,bjk->bik", x.astype(jnp.float32), y.astype(jnp.float32)).astype(jnp.bfloat16)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(found), np.float32(wanted), rtol=2**-7, atol=2**-7)
    (line,) = [one for one in jax.make_jaxpr(lambda x, y: products.einsum("bij,bjk->bik", x, y))(x, y).jaxpr.eqns if "dot" in str(one)]
    assert f"preferred_element_type={asked}" in str(line)
