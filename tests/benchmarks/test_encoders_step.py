"""The benchmark itself runs and fills its table; what it measures here means nothing."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_tiny():
    command = [sys.executable, ROOT / "benchmarks" / "encoders_step.py", "--tiny", "--rounds=1", "--no_memory", "--dtypes=float32"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (\w+) \| (train|infer) \| float32 \| 4 x 16 \| [\d.]+ \|", done.stdout, re.MULTILINE)
    assert len(rows) == len(set(rows)) == 14
