"""tokamax's kernels in place of `jax.lax.ragged_dot`; on a CPU the library takes its plain one."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.models.layers import activations, parameters
from rootstock.models.layers.dense import normal
from rootstock.models.layers.mlp import GatedMLP
from rootstock.models.layers.moe import dispatch, mixture, routers
from rootstock.models.layers.tap import tapped

X = np.random.default_rng(0).standard_normal((2, 12, 8)).astype(np.float32)
REAL = np.array([[1] * 7 + [0] * 5, [1] * 12], np.int32)  # padding is nobody's: rows beyond those of the experts
BY_TOKAMAX = functools.partial(dispatch.ragged, product=dispatch.tokamax)


def value_and_gradients(go):
    router = routers.TopK(normalise=True, capacity=None, eval_capacity=None, route_padding=False)
    build = mixture.Mixture(experts=4, mlp=GatedMLP, router=router, router_std=0.5, dispatch=go)
    made = build(jax.random.key(0), 8, 12, activation=activations.silu, init=normal(0.5), dtype="float32")
    graphdef, params = parameters.split(made)

    def loss(params, x):
        with tapped(want=[]):
            return jnp.sum(jnp.sin(parameters.merge(graphdef, params)(x, None, jnp.asarray(REAL))))

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, X)


def test_values_and_gradients_are_those_of_jax():
    pytest.importorskip("tokamax")
    assert dispatch.drops(dispatch.einsum) and not dispatch.drops(BY_TOKAMAX)
    found, wanted = value_and_gradients(BY_TOKAMAX), value_and_gradients(dispatch.ragged)
    assert all(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(wanted[1]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), found, wanted)


def test_without_the_library_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokamax", None)
    with pytest.raises(ValueError, match=r"pip install --editable '\.\[tokamax\]'"):
        value_and_gradients(BY_TOKAMAX)
