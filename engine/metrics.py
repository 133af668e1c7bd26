"""Where numbers go: metrics.jsonl (one object a line) and TensorBoard events. Only the first process writes.

TensorBoard events are written with tensorboardX: clu's writer would import TensorFlow into every run.
"""

import json
import logging
import math
import pathlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from rootstock.engine.model_dir import write_atomically
from rootstock.engine.sockets import Term


def means(window: Iterable[Mapping[str, Term]]) -> dict[str, float]:
    """The means over several steps of metrics that came from the device: totals and weights are added before they are divided."""
    totals: dict[str, list[float]] = {}
    for metrics in jax.device_get(list(window)):
        for name, term in metrics.items():
            pair = totals.setdefault(name, [0.0, 0.0])
            pair[0] += float(term.total)
            pair[1] += float(term.weight)
    return {name: total / weight if weight else math.nan for name, (total, weight) in totals.items()}


class Writer:
    """Appends to MODEL_DIR. Lines of steps after `resumed_at` are cut away first: the resumed run writes them again."""

    def __init__(self, model_dir: pathlib.Path, resumed_at: int = 0):
        self.path = model_dir / "metrics.jsonl"
        self.writes = jax.process_index() == 0
        if not self.writes:
            return
        kept = [line for line in read(model_dir) if line["step"] <= resumed_at] if resumed_at else []
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.file = self.path.open("a", buffering=1)
        logging.getLogger("tensorboardX").setLevel(logging.ERROR)
        from tensorboardX import SummaryWriter

        self.events = SummaryWriter(str(model_dir / "tb"), purge_step=resumed_at + 1 if resumed_at else None)

    def write(self, step: int, split: str, values: Mapping[str, float], task: str = "") -> None:
        """One line and one event for each value."""
        if not self.writes:
            return
        now = time.time()
        for name, value in values.items():
            line = {"step": step, "split": split, "task": task, "name": name, "value": float(value), "time": now}
            self.file.write(json.dumps(line) + "\n")
            self.events.add_scalar("/".join(part for part in (split, task, name) if part), float(value), step, now)

    def close(self) -> None:
        if self.writes:
            self.file.close()
            self.events.close()


def read(model_dir: str | pathlib.Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that a kill cut short is left out."""
    path = pathlib.Path(model_dir) / "metrics.jsonl"
    lines = []
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines
