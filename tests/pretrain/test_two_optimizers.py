"""DeBERTa-v3's recipe at tiny size: both phases train, are told of, and go on after a stop as if there had been none."""

import pathlib

import numpy as np
import pytest

from rootstock.engine import checkpoints, launch
from rootstock.models.layers import stack

RECIPE = pathlib.Path(__file__).parents[1] / "recipes" / "tiny_rtd.gin"


def run(tiny, model_dir, *more):
    places = {"MODEL_DIR": model_dir, "DATA_DIR": tiny.folder / "corpus", "CACHE_DIR": tiny.folder / "cache"}
    places |= {"VOCABULARY": tiny.folder / "vocab.txt"}
    flags = [f"--gin_file={RECIPE}", *(f"--gin.{name}='{path}'" for name, path in places.items()), *more]
    return launch.main("rootstock.pretrain", "", flags)


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rtd") / "run"
    assert run(tiny, folder) == 0
    return folder


@pytest.mark.slow
def test_both_halves_are_told_of_and_move(tiny, whole):
    both = [dict(tiny.lines(whole, name=name)) for name in ("loss", "0/loss", "1/loss")]
    assert list(both[0]) == [1, 2, 3, 4]
    for step, total in both[0].items():
        assert total == pytest.approx(both[1][step] + both[2][step], rel=1e-5)
    assert 4.5 < both[1][1] < 5.5 and 6.5 < both[2][1] < 9  # log 160; 10 log 2, for random weights
    assert len(tiny.lines(whole, "validation", "loss/mlm")) == len(tiny.lines(whole, "validation", "loss/rtd")) == 2
    first, last = (stack.unstack(checkpoints.read_params(whole, step=step)) for step in (2, 4))
    still = [name for name in last if np.array_equal(first[name], last[name])]
    assert not still


@pytest.mark.slow
def test_goes_on_where_it_stopped(tiny, whole, tmp_path):
    assert run(tiny, tmp_path / "run", "--gin.TRAIN_STEPS=2", "--gin_bindings=schedules.linear.steps = 4") == 0
    assert run(tiny, tmp_path / "run", "--gin_bindings=schedules.linear.steps = 4") == 0
    assert tiny.hash(tmp_path / "run") == tiny.hash(whole)


def test_a_phase_that_moves_nothing(tiny, tmp_path, capfd):
    assert run(tiny, tmp_path / "run", "--gin_bindings=train.Phase.trainable = '^nothing/'") == 2
    assert "no parameter's name matches trainable='^nothing/'" in capfd.readouterr().err
