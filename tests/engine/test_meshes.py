"""One run, whatever the mesh: the same losses, and arrays that no device holds whole."""

import jax
import numpy as np
import pytest

from rootstock.engine import optimizers

EIGHT = ["data8", "data2_fsdp2_tensor2", "fsdp8"]
# Each mesh with the plain step and with all at once (two terms, four micro-batches); the mixed cases only in the long suite.
CASES = [
    pytest.param(where, micro, nsp, marks=[] if (micro, nsp) in ((1, 0.0), (4, 0.5)) else [pytest.mark.slow])
    for where in EIGHT
    for micro, nsp in ((1, 0.0), (4, 0.5), (4, 0.0), (1, 0.5))
]


@pytest.fixture(scope="module")
def one_device(toy):
    return {nsp: toy.train("one", nsp_scale=nsp)[0] for nsp in (0.0, 0.5)}


@pytest.mark.parametrize("where, micro, nsp", CASES)
def test_loss_curve_equals_one_device(toy, one_device, where, micro, nsp):
    """Micro-batches and devices hold unequal numbers of masked tokens, so that means of means would differ."""
    curve, state = toy.train(where, micro_batches=micro, nsp_scale=nsp)
    assert curve.keys() == one_device[nsp].keys() and ("loss/nsp" in curve) == (nsp > 0)
    for name, values in curve.items():
        np.testing.assert_allclose(values, one_device[nsp][name], rtol=0, atol=1e-5, err_msg=name)
    assert len(curve["loss"]) == 20 and curve["loss"][-1] < curve["loss"][0] - 0.1
    if where == "fsdp8":
        assert_sharded(state, {"kernel": 8, "token/table": 8})
    if where == "data2_fsdp2_tensor2":
        assert_sharded(state, {"query/kernel": 4, "mlp/input/kernel": 4, "token/table": 4, "query/bias": 2, "norm/scale": 1})


def test_accumulation_on_one_device(toy, one_device):
    curve, _ = toy.train("one", micro_batches=4, nsp_scale=0.5)
    for name in ("loss", "loss/mlm", "loss/nsp", "grad_norm"):
        np.testing.assert_allclose(curve[name], one_device[0.5][name], rtol=0, atol=1e-5, err_msg=name)


def parts(array):
    """Into how many pieces the array is cut: its bytes over those that one device holds."""
    held = {shard.data.nbytes for shard in array.addressable_shards}
    assert len(held) == 1
    return array.nbytes / held.pop()


def assert_sharded(state, wanted):
    """Parameters and both moments of AdamW are cut into the wanted number of pieces."""
    adam = state.opt_state[0][0]
    for tree in (state.params, adam.mu, adam.nu):
        for ending, pieces in wanted.items():
            names = [name for name in tree if name.endswith(ending)]
            assert names
            assert {name: parts(tree[name]) for name in names} == dict.fromkeys(names, pieces)


@pytest.mark.parametrize("optimizer", ["adamw", "lamb", "adafactor", "muon"])
def test_moments_are_born_sharded(toy, optimizer):
    """Whole matrices of moments lie as their parameters, Adafactor's rows and columns as the dimensions that remain."""
    options = dict(min_dim_size_to_factor=8) if optimizer == "adafactor" else {}
    _, state = toy.state("data2_fsdp2_tensor2", getattr(optimizers, optimizer)(1e-2, **options))
    shapes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state):
        name = next(
            (str(key.key) for key in reversed(path) if isinstance(key, jax.tree_util.DictKey) and str(key.key) in state.params), None
        )
        if name == "encoder/layers/0:4:1/mlp/input/kernel":
            shapes.setdefault(leaf.shape, set()).add(parts(leaf))
    kernel, rows, columns = (4, 16, 32), (4, 16), (4, 32)
    if optimizer == "adafactor":  # the third is optax's placeholder where a moment is factored
        assert shapes == {rows: {2}, columns: {2}, (4, 1): {1}}
    else:
        assert shapes[kernel] == {4} and shapes.keys() <= {kernel, (4,)}


def test_a_device_holds_its_share(toy):
    """Bytes of parameters and moments on each device of (fsdp 8): an eighth of all but norms and biases."""
    _, state = toy.state("fsdp8", optimizers.adamw(1e-2))
    held = dict.fromkeys(jax.devices(), 0)
    for leaf in jax.tree.leaves((state.params, state.opt_state)):
        for shard in leaf.addressable_shards:
            held[shard.device] += shard.data.nbytes
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves((state.params, state.opt_state)))
    assert len(set(held.values())) == 1
    assert whole / 8 <= held[jax.devices()[0]] < whole / 5


def test_initial_values_do_not_depend_on_the_mesh(toy):
    blueprint = toy.blueprint("data2_fsdp2_tensor2")
    params, wanted = blueprint.init_params(jax.random.key(0)), toy.params(blueprint)
    for name, value in params.items():
        np.testing.assert_array_equal(value, wanted[name], err_msg=name)
        assert value.sharding == blueprint.shardings[name]
