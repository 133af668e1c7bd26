"""Where numbers go."""

import json
import math

import jax.numpy as jnp
import pytest

from rootstock.engine import metrics
from rootstock.engine.sockets import Term


def term(total, weight):
    return Term(jnp.asarray(total, jnp.float32), jnp.asarray(weight, jnp.float32))


def test_means_add_halves():
    """The mean over steps of unequal weight is not the mean of their means."""
    window = [{"loss": term(2.0, 1.0), "only": term(1.0, 4.0)}, {"loss": term(3.0, 4.0)}]
    assert metrics.means(window) == {"loss": 1.0, "only": 0.25}
    assert math.isnan(metrics.means([{"loss": term(0.0, 0.0)}])["loss"])
    assert metrics.means([]) == {}


@pytest.fixture
def writer(tmp_path):
    opened = []

    def make(resumed_at=0):
        opened.append(metrics.Writer(tmp_path, resumed_at))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def test_lines(writer, tmp_path):
    one = writer()
    one.write(3, "train", {"loss": jnp.asarray(2.5), "mfu": 0.5})
    one.write(3, "validation", {"accuracy": 1}, task="boolq")
    lines = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [list(line) for line in lines] == [["step", "split", "task", "name", "value", "time"]] * 3
    assert [list(line.values())[:5] for line in lines] == [
        [3, "train", "", "loss", 2.5],
        [3, "train", "", "mfu", 0.5],
        [3, "validation", "boolq", "accuracy", 1.0],
    ]
    assert metrics.read(tmp_path) == lines


def test_lines_are_there_at_once(writer, tmp_path):
    """A killed process takes no line with it."""
    writer().write(1, "train", {"loss": 1.0})
    assert len(metrics.read(tmp_path)) == 1


def test_resumed(writer, tmp_path):
    one = writer()
    for step in range(1, 6):
        one.write(step, "train", {"loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "split": "tr')  # what a kill leaves
    assert [line["step"] for line in metrics.read(tmp_path)] == [1, 2, 3, 4, 5]
    writer(resumed_at=3).write(4, "train", {"loss": 40.0})
    assert [(line["step"], line["value"]) for line in metrics.read(tmp_path)] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]
    writer()  # a run that begins at step 0 begins its log
    assert metrics.read(tmp_path) == []


def test_nothing_written(tmp_path):
    assert metrics.read(tmp_path) == []


def test_tensorboard(writer, tmp_path):
    """Events can be read back, under split/task/name."""
    one = writer()
    one.write(7, "train", {"loss": 2.5})
    one.write(7, "validation", {"accuracy": 0.5}, task="boolq")
    one.close()
    content = b"".join(path.read_bytes() for path in (tmp_path / "tb").iterdir())
    assert b"train/loss" in content and b"validation/boolq/accuracy" in content
