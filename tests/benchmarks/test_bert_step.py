"""The benchmark itself runs and fills its table; what it measures here means nothing."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_tiny():
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "bert_step.py", "--tiny", "--rounds=1"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    losses = re.findall(r"^\| ours, (float32|bfloat16) \|.* ([\d.]+) \|$", done.stdout, re.MULTILINE)
    assert [kind for kind, _ in losses] == ["float32", "bfloat16"] * 2
    assert all(abs(float(loss) - 5.7) < 0.2 for _, loss in losses)  # log 300, for random weights


@pytest.mark.slow
def test_tiny_parts():
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "bert_step_parts.py", "--tiny", "--rounds=1"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| ([^|]+) \| [\d.]+ \|", done.stdout, re.MULTILINE)
    assert rows[0] == "encoder, forward and backward" and rows[-1] == "the whole step" and len(rows) == 7
