"""The benchmark itself runs and fills its table; what it measures here means nothing."""

import re

import pytest


@pytest.mark.slow
def test_tiny(benchmark):
    said = benchmark("encoders_step.py", "--tiny", "--rounds=1", "--no_memory", "--dtypes=float32")
    rows = re.findall(r"^\| (\w+) \| (train|infer) \| float32 \| 4 x 16 \| [\d.]+ \|", said, re.MULTILINE)
    assert len(rows) == len(set(rows)) == 14
