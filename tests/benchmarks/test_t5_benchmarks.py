"""The benchmarks of encoder-decoders run and fill their tables; what they measure here means nothing."""

import math
import re

import pytest


@pytest.mark.slow
def test_step(benchmark):
    said = benchmark("t5_step.py", "--tiny", "--rounds=1")
    losses = re.findall(r"^\| ours, (adafactor|adamw) \|.* ([\d.]+) \|$", said, re.MULTILINE)
    assert [kind for kind, _ in losses] == ["adafactor", "adamw"] * 2
    assert all(abs(float(loss) - math.log(300)) < 1 for _, loss in losses)  # random weights, a few steps


@pytest.mark.slow
def test_decode(benchmark):
    said = benchmark("decode.py", "--tiny", "--rounds=1")
    assert re.findall(r"^\| ours, (greedy|beam 4) \| [\d.]+ \| [\d,]+ \| 1.00 \|$", said, re.MULTILINE) == ["greedy", "beam 4"]
