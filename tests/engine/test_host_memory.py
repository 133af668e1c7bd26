"""engine/host_memory.py: large arrays that come and go take no new pages, on CPUs."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from rootstock.engine import host_memory
host_memory.keep()
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(50_000_000, np.uint8) for _ in range(4)]
    del arrays
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*faults)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's option")
@pytest.mark.parametrize("platforms, kept", [("cpu", True), ("cuda,cpu", False)])
def test_pages_are_taken_once(monkeypatch, platforms, kept):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    first, *_, last = map(int, done.stdout.split())
    assert first > 100
    assert (last < 0.01 * first) == kept
