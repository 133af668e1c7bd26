"""All arms run and fill the table; what so few steps show means nothing, but for the losses before the first of them."""

import re

import pytest


@pytest.mark.slow
def test_few_steps(benchmark, tmp_path):
    said = benchmark("upcycling_effect.py", f"--out={tmp_path}", "--steps=4", "--seeds=0")
    starts = {arm: float(loss) for arm, loss in re.findall(r"^\| (\w+) \| ([\d.]+) \| [\d.]+ \| [\d.]+ \| [\d.]+ \|$", said, re.MULTILINE)}
    assert list(starts) == ["more", "upcycled", "plain", "scratch"]
    assert starts["scratch"] > starts["more"]  # which begins with the dense run's last loss
    assert abs(starts["upcycled"] - starts["more"]) < 0.05  # but for dropped tokens it is the same function
    dense, sparse = map(float, re.search(r"([\d.]+) GFLOP dense, ([\d.]+) sparse", said).groups())
    assert 1 < sparse / dense < 2
    assert (tmp_path / "curves.html").stat().st_size > 10_000
