"""The near end of the benchmarks: the sides are processes that take turns; `worker.py` is their far end."""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

Asked = Mapping[str, tuple[str, dict]]  # by the name in the table: whose it is, and what its worker is asked for


class Worker:
    """The near end: a process running `script` under `python`."""

    def __init__(self, python: str, script: str, environment: Mapping[str, str] | None = None):
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), script)
        self.process = subprocess.Popen(
            [python, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Raises RuntimeError with the reason if the worker could not do it, or is gone."""
        with contextlib.suppress(BrokenPipeError):  # the missing answer says so
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"error": "the process ended"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def parser(description: str, rounds: int) -> argparse.ArgumentParser:
    """The flags that all have."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--cores", type=int, default=2)
    found.add_argument("--rounds", type=int, default=rounds)
    found.add_argument("--peer_python", default=sys.executable)
    found.add_argument("--tiny", action="store_true", help="a toy model: shows that everything runs, not how fast")
    return found


def on_cpu(cores: int) -> dict[str, str]:
    """Keeps this process and its workers to so many cores; the workers' environment."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    return {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}


def start(sides: Mapping[str, tuple[str, str, Mapping[str, str]]]) -> dict[str, Worker]:
    """Workers by side, from (Python, script, environment). Says who is there; a peer whose packages are missing is left out."""
    workers = {}
    for side, how in sides.items():
        try:
            worker = Worker(*how)
            print(f"{side}: {worker.ask(question='device')['answer']}", flush=True)
            workers[side] = worker
        except (RuntimeError, OSError) as error:
            if side == "ours":
                raise
            print(f"no {side}: {how[0]} could not run {how[1]} ({error})", flush=True)
    return workers


def measure(workers: Mapping[str, Worker], asked: Asked, rounds: int, steps: int = 1) -> dict[str, dict[str, float]]:
    """Medians of seconds and of CPU seconds a step, and of losses. The first round, which builds everything, is thrown away."""
    answers = {name: [] for name, (side, _) in asked.items() if side in workers}
    for _ in range(rounds + 1):
        for name, found in answers.items():
            side, variant = asked[name]
            found.append(workers[side].ask(variant=variant, steps=steps))
    median = lambda found, what: statistics.median(answer[what] for answer in found[1:])
    return {name: {what: median(found, what) for what in ("seconds", "cpu", "loss")} for name, found in answers.items()}
