"""Timing in processes that take turns: each has its own threads and sits still while another is timed.

A worker reads one variant a line from its input, as JSON, and answers with the seconds that one step of it took. Every turn begins with a
step that is not counted: while the others had theirs, the system took memory back. The first request of a variant also builds it.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

Step = Callable[[int], float]  # takes so many steps, waits for the last, gives its loss

_built: dict[str, Step] = {}  # at the far end, by variant


def serve(answers: Mapping[str, Callable[..., Any]], make: Callable[..., Step]) -> None:
    """The far end: `make(**variant)` builds a step, `answers` are other questions by name; until the input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print does not get between the answers
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "question" in request:
                answer = {"answer": answers[request.pop("question")](**request)}
            else:
                answer = _timed(make, request["variant"], request["steps"])
        except Exception as error:  # of whatever kind: the near end decides what it means
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=out, flush=True)


def forget() -> None:
    """At the far end: drops the steps that were built, for what is next to have the memory."""
    _built.clear()


def _timed(make, variant, steps) -> dict[str, float]:
    name = json.dumps(variant, sort_keys=True)
    if name not in _built:
        _built[name] = make(**variant)
    _built[name](1)
    cpu, begin = resource.getrusage(resource.RUSAGE_SELF).ru_utime, time.perf_counter()
    loss = _built[name](steps)
    seconds = time.perf_counter() - begin
    return {"seconds": seconds / steps, "cpu": (resource.getrusage(resource.RUSAGE_SELF).ru_utime - cpu) / steps, "loss": loss}
