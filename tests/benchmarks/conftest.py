"""Benchmarks are run as users do: in a process of their own, with the devices that there are and not the eight of the tests."""

import os
import pathlib
import subprocess
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark():
    """(script, flags) -> what it prints."""

    def run(script, *flags):
        environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
        done = subprocess.run([sys.executable, BENCHMARKS / script, *flags], capture_output=True, text=True, timeout=600, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
