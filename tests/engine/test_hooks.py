"""Work between steps: when it is due, what it writes."""

import math
import types

import jax.numpy as jnp

from rootstock.engine import hooks, metrics, telemetry


def test_evaluate_is_due():
    hook = hooks.Evaluate({}, every=4)
    assert [step for step in range(11) if hook.due(step, step == 10)] == [0, 4, 8, 10]
    hook = hooks.Evaluate({}, every=4, first=5)
    assert [step for step in range(11) if hook.due(step, step == 10)] == [8, 10]


def test_profile(tmp_path):
    hook = hooks.Profile(first=2, steps=3)
    assert [step for step in range(1, 11) if hook.due(step, step == 10)] == [2, 5]
    assert [step for step in range(1, 5) if hook.due(step, step == 4)] == [2, 4]  # the run ends inside


def test_profile_writes_a_trace(tmp_path):
    said = []
    running = types.SimpleNamespace(step=2, model_dir=tmp_path, say=said.append, state=types.SimpleNamespace(step=jnp.zeros(())))
    hook = hooks.Profile(first=2, steps=3)
    hook.call(running)
    running.step = 5
    hook.call(running)
    assert any(path.name.endswith(".xplane.pb") for path in (tmp_path / "profile").rglob("*"))
    assert said == [f"profile written to {tmp_path / 'profile'}"]


def test_evaluation_of_a_run(tiny, trained):
    """Before the first step, every 4 steps and at the end, with the same masks each time: the curve falls."""
    lines = tiny.lines(trained, "validation")
    assert [step for step, _ in lines] == [0, 4, 8, 12, 16, 20, 24]
    values = [value for _, value in lines]
    assert values == sorted(values, reverse=True) and values[-1] < values[0] - 0.5
    assert abs(values[0] - math.log(160)) < 0.02  # random weights give every word of the vocabulary nearly the same probability
    assert tiny.lines(trained, "baseline", "unigram_entropy")[0][1] > 0


def test_goodput_adds_up(tiny, trained):
    seconds = {line["name"]: line["value"] for line in metrics.read(trained) if line["split"] == "goodput"}
    assert {"train", "init", "compile", "data", "save", "evaluate"} <= seconds.keys()
    assert all(value >= 0 for value in seconds.values())
    goodput = telemetry.Goodput()
    goodput.before = {"train": 5.0, "index": 1.0}
    with goodput.measure("save"):
        pass
    found = goodput.breakdown()
    assert found["train"] >= 5.0 and found["index"] == 1.0 and "save" in found
