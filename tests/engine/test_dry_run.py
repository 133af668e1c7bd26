"""--dry_run tells what a run would take, and writes nothing."""

import re

import pytest

ROWS = [
    "model directory", "devices", "parameters", "state per device", "step per device", "batch", "steps", "a step", "whole run", "disk"
]  # fmt: skip


@pytest.fixture
def rows(tiny, capfd):
    def rows(folder, *flags):
        assert tiny.run(folder, "--dry_run", *flags) == 0
        return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in capfd.readouterr().out.splitlines())

    return rows


def test_rows(tiny, trained, rows, tmp_path):
    found = rows(tmp_path / "run", "TRAIN_STEPS=24")
    assert list(found) == ROWS
    assert not (tmp_path / "run").exists()
    total = re.search(r"([\d,]+) parameters", (trained / "model-info.txt").read_text())[1]
    assert found["parameters"] == f"{total}, of which trained {total}"
    assert found["devices"].startswith("8 x ") and "'data': 8" in found["devices"]
    assert found["batch"] == "8 examples in 1 micro-batches, 128 tokens"
    assert found["steps"] == "24, 192 examples"


def test_of_a_run_that_stands(rows, trained):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    assert rows(trained, "TRAIN_STEPS=24")["would resume at"] == "step 24"
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before
