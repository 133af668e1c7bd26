"""Work between steps: when it is due, what it writes."""

import math
import types

import jax.numpy as jnp
import pytest

from rootstock.engine import hooks, metrics, telemetry
from rootstock.engine.errors import UserError


def test_evaluate_is_due():
    hook = hooks.Evaluate({}, every=4)
    assert [step for step in range(11) if hook.due(step, step == 10)] == [0, 4, 8, 10]
    hook = hooks.Evaluate({}, every=4, first=5)
    assert [step for step in range(11) if hook.due(step, step == 10)] == [8, 10]
    with pytest.raises(UserError, match=r"hooks\.Evaluate\.every is 0; expected at least 1\. To evaluate never: train\.Run\.hooks"):
        hooks.Evaluate({}, every=0)
    with pytest.raises(UserError, match=r"hooks\.Evaluate\.batch_size is 0"):
        hooks.Evaluate({}, every=1, batch_size=0)


@pytest.mark.parametrize(
    "steps, called",
    [(range(1, 11), [2, 5]), (range(1, 5), [2, 4]), (range(1, 3), []), (range(3, 11), []), (range(2, 11), [2, 5])],
    ids=["whole", "the run ends inside", "the run ends where it begins", "begun again inside", "begun again before"],
)
def test_profile(tmp_path, steps, called):
    said, seen = [], []
    running = types.SimpleNamespace(step=0, model_dir=tmp_path, say=said.append, state=types.SimpleNamespace(step=jnp.zeros(())))
    hook = hooks.Profile(first=2, steps=3)
    for running.step in steps:
        if hook.due(running.step, running.step == steps[-1]):
            hook.call(running)
            seen.append(running.step)
    assert seen == called
    assert any(path.name.endswith(".xplane.pb") for path in (tmp_path / "profile").rglob("*")) == bool(called)
    assert said == [f"profile written to {tmp_path / 'profile'}"] * bool(called)


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
    goodput.continue_from({"train": 5.0, "index": 1.0}, elapsed=5.5)
    with goodput.measure("save"):
        pass
    found = goodput.breakdown()
    assert found["train"] >= 5.0 and found["index"] == 1.0 and "save" in found
    # The last start was killed: it told nothing, its checkpoint knows.
    goodput.continue_from({"train": 5.0, "index": 1.0, "compile": 70.0}, elapsed=60.0)
    assert goodput.before == {"train": pytest.approx(59.0), "index": 1.0, "compile": 70.0}
