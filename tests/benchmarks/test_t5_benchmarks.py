"""The benchmarks of encoder-decoders run and fill their tables; what they measure here means nothing."""

import math
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def run(script, *flags):
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / script, "--tiny", *flags], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_step():
    losses = re.findall(r"^\| ours, (adafactor|adamw) \|.* ([\d.]+) \|$", run("t5_step.py", "--rounds=1"), re.MULTILINE)
    assert [kind for kind, _ in losses] == ["adafactor", "adamw"] * 2
    assert all(abs(float(loss) - math.log(300)) < 1 for _, loss in losses)  # random weights, a few steps


@pytest.mark.slow
def test_decode():
    said = run("decode.py", "--rounds=1")
    assert re.findall(r"^\| ours, (greedy|beam 4) \| [\d.]+ \| [\d,]+ \| 1.00 \|$", said, re.MULTILINE) == ["greedy", "beam 4"]
