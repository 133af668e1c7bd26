"""The benchmark itself runs and fills its table; what it measures here means nothing."""

import re

import pytest


@pytest.mark.slow
def test_tiny(benchmark):
    said = benchmark("bert_step.py", "--tiny", "--rounds=1")
    losses = re.findall(r"^\| ours, (float32|bfloat16) \|.* ([\d.]+) \|$", said, re.MULTILINE)
    assert [kind for kind, _ in losses] == ["float32", "bfloat16"] * 2
    assert all(abs(float(loss) - 5.7) < 0.2 for _, loss in losses)  # log 300, for random weights


@pytest.mark.slow
def test_tiny_parts(benchmark):
    rows = re.findall(r"^\| ([^|]+) \| [\d.]+ \|", benchmark("bert_step_parts.py", "--tiny", "--rounds=1"), re.MULTILINE)
    assert rows[0] == "encoder, forward and backward" and rows[-1] == "the whole step" and len(rows) == 7
