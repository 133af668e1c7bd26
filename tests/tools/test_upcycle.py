"""The surgery on the disk: the bits of the surgery in memory, moments by policy, a step that goes on, and nothing left where it fails."""

import errno
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rootstock.engine import checkpoints, load, optimizers, schedules, state
from rootstock.engine.errors import UserError
from rootstock.methods import upcycling
from rootstock.models import bert, deberta, deberta_pair, t5
from rootstock.models.layers import parameters, stack
from rootstock.models.layers.mlp import GatedMLP
from rootstock.models.layers.moe import mixture
from rootstock.tools import lazy_arrays, upcycle
from rootstock.tools.converted import drawn, one_device, write_model_dir

STEP = 40
BERT = bert.Config(vocab_size=31, width=16, layers=4, heads=2, mlp_width=24, max_length=12)
T5 = t5.Config(vocab_size=31, width=16, layers=4, decoder_layers=3, heads=2, head_dim=8, mlp_width=24, mlp=GatedMLP)
RECIPE = """
from __gin__ import dynamic_registration
from rootstock.engine import optimizers
from rootstock.engine import schedules
from rootstock.engine import train
from rootstock.methods import upcycling
from rootstock.models.layers import mlp
from rootstock.models.layers.moe import mixture
from rootstock.models.layers.moe import routers

MODEL_DIR = %gin.REQUIRED
train.Run.model_dir = %MODEL_DIR
train.Run.update = @optimizers.{optimizer}()
optimizers.{optimizer}.learning_rate = @schedules.linear()
schedules.linear.peak = 1e-3
schedules.linear.steps = 100
schedules.linear.warmup = 10
optimizers.adafactor.min_dim_size_to_factor = 8
mixture.Mixture.experts = 4
"""
UPDATES = {
    "adamw": lambda: optimizers.adamw(schedules.linear(1e-3, 100, 10)),
    "adafactor": lambda: optimizers.adafactor(schedules.linear(1e-3, 100, 10), min_dim_size_to_factor=8),
}


class Dense:
    """A dense checkpoint of step 40 whose moments are random numbers."""

    def __init__(self, folder, family, config, optimizer, moved=(".*",)):
        self.folder, self.family, self.optimizer, self.moved = folder, family, optimizer, moved
        self.blueprint = drawn(family, config)
        self.params = jax.device_get(self.blueprint.init_params(jax.random.key(0)))
        planned = self.planned(self.blueprint)
        draws = np.random.default_rng(0)

        def value(x):
            return np.full(x.shape, STEP, x.dtype) if x.dtype == np.int32 else draws.random(x.shape).astype(x.dtype)

        self.opt_state = jax.tree.map(value, planned.opt_state)
        folder.mkdir(parents=True)
        write_model_dir(folder, self.blueprint, self.params, None, self.opt_state, STEP)
        self.recipe = folder / "recipe.gin"
        self.recipe.write_text(RECIPE.format(optimizer=optimizer))

    def upcycle(self, target, *bindings, flags=()):
        return upcycle.main(
            [f"--from={self.folder}", f"--to={target}", f"--gin_file={self.recipe}", *(f"--gin_bindings={b}" for b in bindings), *flags]
        )

    def whole(self, target):
        """The state of the checkpoint in `target`, as a run restores it."""
        blueprint = load.draw(target, one_device())
        return jax.device_get(checkpoints.read_state(target, self.planned(blueprint)))

    def planned(self, blueprint):
        """The state of a run with as many optimizers as patterns in `moved`."""
        names = [frozenset(name for name in blueprint.trainable if state.is_trainable(name, pattern)) for pattern in self.moved]
        return state.abstract(blueprint, [(UPDATES[self.optimizer]().tx, chosen) for chosen in names], ())


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense")
    return {
        "bert": Dense(folder / "bert", bert.PreTraining, BERT, "adamw"),
        "t5": Dense(folder / "t5", t5.T5, T5, "adafactor"),
    }


SURGERIES = {
    "bert": ("bert", (), mixture.Mixture(experts=4), upcycling.Surgery()),
    "bert, noise": (
        "bert",
        ("upcycling.Surgery.noise = 0.1", "upcycling.Surgery.redraw = 0.5"),
        mixture.Mixture(experts=4),
        upcycling.Surgery(noise=0.1, redraw=0.5),
    ),
    "t5": (
        "t5",
        ("mixture.Mixture.mlp = @mlp.GatedMLP", "mixture.Mixture.granularity = 2", "upcycling.Surgery.seed = 3"),
        mixture.Mixture(experts=4, granularity=2, mlp=GatedMLP),
        upcycling.Surgery(seed=3),
    ),
}


@pytest.mark.parametrize("case", SURGERIES)
def test_the_bits_of_the_graft(dense, tmp_path, case):
    family, bindings, moe, surgery = SURGERIES[case]
    source, target = dense[family], tmp_path / "sparse"
    assert source.upcycle(target, *bindings) == 0
    model = source.blueprint.merge(jax.tree.map(jnp.asarray, source.params))
    wanted = parameters.split(upcycling.Upcycle(moe, surgery)(model, jax.random.key(9)))[1]
    found = source.whole(target)
    assert found.params.keys() == wanted.keys()
    for name, value in wanted.items():
        assert np.asarray(found.params[name]).tobytes() == np.asarray(value).tobytes(), name
    assert int(found.step) == STEP
    assert load.load(target)[1].keys() == wanted.keys()


TWO_PHASES = """
from rootstock.engine import train
train.Run.trainable = '^generator/|/base/'
train.Run.then = [@train.Phase()]
train.Phase.update = @optimizers.adamw()
train.Phase.trainable = '^detection/|^encoder/(?!.*/base/)'
"""


def test_two_phases(tmp_path):
    """A pair whose halves have an optimizer each keeps the moments of both."""
    config = deberta_pair.PairConfig(
        deberta.Config(vocab_size=31, width=16, layers=2, heads=2, mlp_width=24, max_length=12, buckets=4), generator_layers=2
    )
    moved = ("^generator/|/base/", "^detection/|^encoder/(?!.*/base/)")
    source = Dense(tmp_path / "pair", deberta_pair.Pair, config, "adamw", moved)
    with source.recipe.open("a") as recipe:
        recipe.write(TWO_PHASES)
    assert source.upcycle(tmp_path / "sparse", "upcycling.Surgery.moments = @upcycling.keep_dense") == 0
    found = source.whole(tmp_path / "sparse").opt_state
    assert len(found) == 2 and all(any("/experts/" in name for name in tree[0].nu) for tree in found)
    for before, after in zip(source.opt_state, found, strict=True):
        before, after = (stack.unstack(tree[0].nu) for tree in (before, after))
        for name, value in after.items():
            kind = upcycling.origin(name).kind
            np.testing.assert_array_equal(value, before[name] if kind == "same" else 0, err_msg=name)
    assert counts(found) == ({STEP}, {STEP})


def counts(opt_state):
    """Of schedules, and of everything else."""
    is_schedule = lambda part: isinstance(part, optax.ScaleByScheduleState)
    parts = jax.tree.leaves(opt_state, is_leaf=is_schedule)
    return {int(x) for part in parts if is_schedule(part) for x in np.ravel(part.count)}, {
        int(x) for part in parts if not is_schedule(part) and part.dtype == np.int32 for x in np.ravel(part)
    }


@pytest.mark.parametrize("policy, moments", [("reset", ()), ("keep_dense", ("same",)), ("broadcast", ("same", "experts"))])
def test_moments_of_adam(dense, tmp_path, policy, moments):
    source = dense["bert"]
    assert source.upcycle(tmp_path / "sparse", f"upcycling.Surgery.moments = @upcycling.{policy}") == 0
    found = source.whole(tmp_path / "sparse").opt_state
    before, after = (stack.unstack(tree[0][0].nu) for tree in (source.opt_state, found))
    for name, value in after.items():
        of = upcycling.origin(name)
        wanted = np.broadcast_to(before[of.dense], value.shape) if of.kind in moments else np.zeros(value.shape)
        np.testing.assert_array_equal(value, wanted, err_msg=name)
    assert counts(found) == ({STEP}, {0 if policy == "reset" else STEP})


def test_moments_of_adafactor_are_each_experts_own(dense, tmp_path):
    source = dense["t5"]
    bindings = ("mixture.Mixture.mlp = @mlp.GatedMLP", "upcycling.Surgery.moments = @upcycling.broadcast")
    assert source.upcycle(tmp_path / "sparse", *bindings) == 0
    found = source.whole(tmp_path / "sparse").opt_state[0]
    before = source.opt_state[0].mapped["4"][0].v_row["encoder/layers/0:4:1/mlp/input/kernel"]
    after = found.mapped["2x4"][0].v_row["encoder/layers/1:4:2/mlp/experts/input/kernel"]
    assert after.shape == (2, 4, before.shape[1])
    np.testing.assert_array_equal(after, np.broadcast_to(before[[1, 3]][:, None], after.shape))
    assert counts(found) == ({STEP}, {STEP})
    assert not found.alone[0].v["decoder/layers/1/mlp/router/kernel"].any()


def test_there_and_back(dense, tmp_path):
    """Averages give back the dense checkpoint, bit for bit, and its configuration."""
    source = dense["t5"]
    assert source.upcycle(tmp_path / "sparse", "mixture.Mixture.mlp = @mlp.GatedMLP", "mixture.Mixture.experts = 3") == 0
    assert upcycle.main(["--reverse", f"--from={tmp_path / 'sparse'}", f"--to={tmp_path / 'dense'}"]) == 0
    configs = [json.loads((folder / "config.json").read_text()) for folder in (source.folder, tmp_path / "dense")]
    assert configs[0] == configs[1]
    found = load.load(tmp_path / "dense")[1]
    assert {name: np.asarray(x).tobytes() for name, x in found.items()} == {name: x.tobytes() for name, x in source.params.items()}


def refused(capsys, code, *words):
    said = capsys.readouterr().err
    assert code == 2 and all(word in said for word in words), said
    assert "Traceback" not in said


def nothing_left(folder):
    return list(pathlib.Path(folder).iterdir()) == []


def test_a_disk_that_fills_half_way(dense, tmp_path, capsys, monkeypatch):
    source, written = dense["bert"], []

    def full(self, array, index, value):
        written.append(value.nbytes)
        if sum(written) > 20_000:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lazy_arrays.Writing, "write", full)
    monkeypatch.setattr("atexit.register", lambda function: None)
    refused(capsys, source.upcycle(tmp_path / "sparse"), "No space left on device")
    assert nothing_left(tmp_path) and sum(written) > 20_000


def test_what_is_no_dense_checkpoint(dense, tmp_path, capsys):
    source = dense["bert"]
    assert source.upcycle(tmp_path / "sparse") == 0
    flags = [f"--from={tmp_path / 'sparse'}", f"--to={tmp_path / 'more'}", f"--gin_file={source.recipe}"]
    refused(capsys, upcycle.main(flags), "experts already")
    refused(capsys, upcycle.main(["--reverse", f"--from={source.folder}", f"--to={tmp_path / 'more'}"]), "no experts")
    refused(capsys, dense["t5"].upcycle(tmp_path / "more"), "GatedMLP", "must be the same")
    refused(capsys, source.upcycle(tmp_path / "more", "optimizers.adamw.b3 = 1"), "b3")
    refused(capsys, source.upcycle(tmp_path / "sparse"), "exists")
    refused(capsys, source.upcycle(tmp_path / "more", "mixture.Mixture.experts = 0"), "experts is 0")
    assert not (tmp_path / "more").exists()


def test_another_optimizer_than_the_checkpoints(dense, tmp_path, capsys):
    source = dense["bert"]
    recipe = tmp_path / "other.gin"
    recipe.write_text(RECIPE.format(optimizer="adafactor") + "upcycling.Surgery.moments = @upcycling.broadcast\n")
    code = upcycle.main([f"--from={source.folder}", f"--to={tmp_path / 'sparse'}", f"--gin_file={recipe}"])
    refused(capsys, code, "holds no moments of this recipe's optimizer", "upcycling.reset")
    assert not (tmp_path / "sparse").exists()


def test_another_number_of_experts_does_not_fit(dense, tmp_path):
    assert dense["bert"].upcycle(tmp_path / "sparse") == 0
    config = tmp_path / "sparse" / "config.json"
    config.write_text(config.read_text().replace('"experts": 4', '"experts": 8'))
    with pytest.raises(UserError, match=r"mlp/experts/input/bias \(4, 24\) instead of \(8, 24\)"):
        load.load(tmp_path / "sparse")


def test_memory_counts_in_slices(dense, tmp_path, monkeypatch):
    """No slice that is read or written is larger than one layer's matrix of one expert, tables aside."""
    sizes = []
    read, write = lazy_arrays.Saved.read, lazy_arrays.Writing.write
    monkeypatch.setattr(lazy_arrays.Saved, "read", lambda *a: (lambda x: sizes.append(x.size) or x)(read(*a)))
    monkeypatch.setattr(lazy_arrays.Writing, "write", lambda self, array, index, x: (sizes.append(x.size), write(self, array, index, x))[1])
    assert dense["bert"].upcycle(tmp_path / "sparse") == 0
    assert max(sizes) == max(16 * 31, 16 * 24)
