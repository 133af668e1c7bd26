"""Blocks of transformers on random weights: SwitchTransformers (an expert takes so many tokens of a sequence) and Mixtral.

golden/moe/make.py made the file.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.models.layers import activations, parameters
from rootstock.models.layers.dense import normal
from rootstock.models.layers.mlp import MLP, GatedMLP
from rootstock.models.layers.moe import dispatch, mixture, routers
from rootstock.models.layers.tap import tapped

STORED = np.load(Path(__file__).parents[3] / "golden" / "moe" / "blocks.npz")
CAPACITY = 3


def layer(mlp, router, activation, values, go):
    build = mixture.Mixture(experts=4, mlp=mlp, router=router, dispatch=go)
    made = build(jax.random.key(0), 16, 24, activation=activation, init=normal(1.0), dtype="float32", bias=False)
    graphdef, params = parameters.split(made)
    assert {name: x.shape for name, x in params.items()} == {name: x.shape for name, x in values.items()}
    return parameters.merge(graphdef, jax.tree.map(jnp.asarray, values))


def test_switch():
    experts = {
        part: np.stack([STORED[f"switch/experts.expert_{e}.{theirs}.weight"].T for e in range(4)])
        for part, theirs in (("input", "wi"), ("output", "wo"))
    }
    values = {f"experts/{part}/kernel": value for part, value in experts.items()} | {
        "router/kernel": STORED["switch/router.classifier.weight"].T
    }
    router = routers.TopK(k=1, capacity=0.0, eval_capacity=0.0, min_capacity=CAPACITY)
    block = layer(MLP, router, activations.relu, values, dispatch.einsum)
    wanted = ["added/balance", "added/router_z", "added/dropped"]

    def run(x):
        with tapped(want=wanted) as taps:
            y = block(x)
        return y, {name: taps[name] for name in wanted}

    y, taps = jax.jit(run)(STORED["x"])
    np.testing.assert_allclose(y, STORED["switch/y"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(taps["added/balance"][0], STORED["switch/balance"], rtol=1e-5)
    np.testing.assert_allclose(taps["added/router_z"][0], STORED["switch/router_z"], rtol=1e-5)
    dropped = (STORED["switch/y"] == 0).all(-1)
    assert dropped.any() and taps["added/dropped"][0] == pytest.approx(dropped.mean())


@pytest.mark.parametrize("go", [dispatch.einsum, dispatch.ragged])
def test_mixtral(go):
    gate, up = np.split(np.swapaxes(STORED["mixtral/experts.gate_up_proj"], 1, 2), 2, axis=2)
    values = {
        "router/kernel": STORED["mixtral/gate.weight"].T,
        "experts/gate/kernel": gate,
        "experts/input/kernel": up,
        "experts/output/kernel": np.swapaxes(STORED["mixtral/experts.down_proj"], 1, 2),
    }
    router = routers.TopK(normalise=True, capacity=None, eval_capacity=None)
    block = layer(GatedMLP, router, activations.silu, values, go)
    np.testing.assert_allclose(jax.jit(block)(STORED["x"]), STORED["mixtral/y"], rtol=0, atol=1e-5)
