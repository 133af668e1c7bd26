"""What the fine-tuning benchmark says of its results, and that it goes on where it stood. The runs themselves take hours."""

import argparse
import json
import math
import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))
import finetune_check
import finetune_peer
from finetune_peer import standard_error, table


def lines(**scores):
    """Of `rte_ours=(.5, .6)` and so on, a second each."""
    return [
        {"side": name.split("_")[1], "task": name.split("_")[0], "seed": seed, "headline": score, "seconds": 3600.0}
        for name, seeds in scores.items()
        for seed, score in enumerate(seeds)
    ]


def test_standard_error_of_a_mean_over_tasks():
    """By hand: variances 1 and 4 over three seeds each: sqrt(1 / 3 + 4 / 3) / 2."""
    assert standard_error([[1.0, 2.0, 3.0], [0.0, 2.0, 4.0]]) == pytest.approx(math.sqrt(5 / 3) / 2)
    assert math.isnan(standard_error([[1.0], [1.0, 2.0]]))


def test_goals():
    """Medians 60 and 50 beside 61 and 53: the mean 2 below, outside of sqrt(2 (1 / 3)) / 2 = 0.41; one task is more than 2 below."""
    spread = lambda middle: (middle - 0.01, middle, middle + 0.01)
    told = table(lines(rte_ours=spread(0.60), rte_peer=spread(0.61), cb_ours=spread(0.50), cb_peer=spread(0.53), wic_ours=(0.5,)))
    assert "| rte | 3 | 60.0 | 59.0, 61.0 | 61.0 | 60.0, 62.0 | -1.0 | 3600 | 3600 |" in told
    assert "ours 55.00 (standard error 0.41, 6.00 h in all), peer 57.00" in told
    assert "or better: no (55.00 against 56.59)" in told and "more than 2 below: cb." in told and "wic" not in told
    assert "or better: yes" in table(lines(rte_ours=spread(0.606), rte_peer=spread(0.61)))


def test_goes_on_behind_the_last_line(tmp_path, monkeypatch):
    """Every (seed, task, side) once, the sides taking turns; a kill loses the run that it fell in."""
    asked = []

    class Fake(finetune_peer.Bench):
        def side(self, name, task, seed):
            asked.append((seed, task, name))
            if len(asked) == 4:
                raise KeyboardInterrupt
            return {"headline": 0.5, "seconds": 1.0, "scores": {}}

        ours = lambda self, task, seed: self.side("ours", task, seed)
        peer = lambda self, task, seed: self.side("peer", task, seed)

    monkeypatch.setattr(finetune_peer, "Bench", Fake)
    monkeypatch.setattr(finetune_peer, "_package", lambda: tmp_path)
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text("{}")
    flags = ["--data=x", f"--out={tmp_path}", "--tasks=rte,cb", "--seeds=0,1"]
    with pytest.raises(KeyboardInterrupt):
        finetune_peer.main(flags)
    finetune_peer.main(flags)
    plan = [(seed, task, side) for seed in (0, 1) for task in ("rte", "cb") for side in ("ours", "peer")]
    assert asked == plan[:4] + plan[3:]
    written = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(line["seed"], line["task"], line["side"]) for line in written] == plan
    with pytest.raises(SystemExit, match="was begun with"):
        finetune_peer.main([*flags, "--epochs=1"])


def test_seeds_whose_runs_are_gone_are_not_trained_again(tmp_path, monkeypatch):
    """Lines of seeds 0 and 1 lie in OUT, the run of seed 1 alone: the protocol is asked for 1 and 2."""
    from rootstock.finetune import superglue

    runs = tmp_path / "ours" / "cb" / "runs" / "cb"
    result = json.dumps({"tasks": {"cb": {"scores": {}}}, "headline": 0.5, "seconds": 1.0, "steps": 2})
    asked = []

    def protocol(arguments):
        asked.extend(argument for argument in arguments if "Protocol.seeds" in argument)
        (runs / "seed2").mkdir()
        (runs / "seed2" / "result.json").write_text(result)

    monkeypatch.setattr(superglue, "main", protocol)
    monkeypatch.setattr(finetune_peer, "_package", lambda: tmp_path)
    (runs / "seed1").mkdir(parents=True)
    (runs / "seed1" / "result.json").write_text(result)
    flags = argparse.Namespace(out=str(tmp_path), data="x", epochs=3.0, batch_size=16, learning_rate=5e-5)
    (tmp_path / "results.jsonl").write_text("".join(json.dumps({"side": "ours", "task": "cb", "seed": seed}) + "\n" for seed in (0, 1)))
    assert finetune_peer.Bench(flags).ours("cb", 2)["headline"] == 0.5
    assert asked == ["--gin_bindings=protocol.Protocol.seeds = (1, 2)"]


def test_steps_beside_each_other(tmp_path, monkeypatch):
    """The largest difference of a loss; of a norm as a share of it."""
    ours, theirs = np.array([[1.0, 10.0], [0.5, 20.0]]), np.array([[1.0, 10.1], [0.7, 20.0]])

    class Fake:
        out = tmp_path
        asked = staticmethod(lambda task, steps, rows, answer: {"answer": answer})
        call_peer = staticmethod(lambda asked: np.savez(asked["answer"], steps=theirs) or asked.pop("steps_of"))

    monkeypatch.setattr(finetune_check, "our_steps", lambda *_: ours)
    assert finetune_check.compare(Fake(), "rte", 2) == (pytest.approx(0.2), pytest.approx(0.1 / 10.1))
