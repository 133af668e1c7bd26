"""What the files of a MODEL_DIR say about its run, whatever is there of them."""

import collections
import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Iterator

import numpy as np

from rootstock.engine import metrics
from rootstock.engine.errors import UserError

ENTROPY = "unigram_entropy"
HOLDS = ("config.gin", "metrics.jsonl")  # any one of them makes a folder a run's


@dataclasses.dataclass
class Curve:
    """A metric over steps, in their order; NaN where the run wrote no finite number."""

    steps: np.ndarray
    values: np.ndarray

    @property
    def last(self) -> float:
        return float(self.values[-1])

    @property
    def untrained(self) -> float | None:
        """The value at step 0, before training, where it was measured and something after it."""
        return float(self.values[0]) if len(self.steps) > 1 and self.steps[0] == 0 else None


@dataclasses.dataclass
class Record:
    """One run: `curves` by (split, task, name), `baselines` by (task, name), `goodput` in seconds by category. Missing texts are empty."""

    name: str
    curves: dict[tuple[str, str, str], Curve]
    baselines: dict[tuple[str, str], float]
    goodput: dict[str, float]
    seconds: float
    command: str
    versions: str
    config: str
    config_json: str
    model_info: str

    def train(self, name: str) -> Curve | None:
        return self.curves.get(("train", "", name))

    def evaluated(self) -> dict[tuple[str, str], Curve]:
        """Curves of what was evaluated, by (task, metric)."""
        return {(_task(split, task), name): curve for (split, task, name), curve in self.curves.items() if split != "train"}

    def baseline(self, task: str, metric: str) -> tuple[str, float] | None:
        """What a model has to beat, with its name: for a score that of the most frequent label, for a loss the unigram entropy."""
        if (task, metric) in self.baselines:
            return "majority", self.baselines[task, metric]
        if metric == "loss" and (task, ENTROPY) in self.baselines:
            return "unigram entropy", self.baselines[task, ENTROPY]
        return None

    def validation_loss(self) -> tuple[str, Curve] | None:
        """The held-out loss and its task, where the run has exactly one."""
        losses = [(task, curve) for (task, name), curve in self.evaluated().items() if name == "loss"]
        return losses[0] if len(losses) == 1 else None

    @property
    def parameters(self) -> str:
        found = re.search(r"^([\d,]+) parameters\b", self.model_info, re.MULTILINE)
        return found[1] if found else ""


def read(model_dir: str | pathlib.Path, name: str | None = None) -> Record:
    """The record of a run, also of one that has only begun or was killed."""
    folder = pathlib.Path(model_dir)
    if not folder.is_dir():
        raise UserError(f"{model_dir} is not a MODEL_DIR: there is no such folder")
    if not any((folder / name).is_file() for name in HOLDS):
        raise UserError(f"{model_dir} is not a MODEL_DIR: it holds neither {' nor '.join(HOLDS)}")
    points: dict[tuple[str, str, str], list[tuple[int, float]]] = collections.defaultdict(list)
    times = []
    for step, split, task, metric, value, time in _lines(folder):
        points[split, task, metric].append((step, value))
        times.append(time)
    baselines = {(task, metric): found[-1][1] for (split, task, metric), found in points.items() if split == "baseline"}
    goodput = {metric: found[-1][1] for (split, _, metric), found in points.items() if split == "goodput" and found[-1][1] >= 0}
    config = _text(folder / "config.gin")
    header = re.match(r"(#.*\n?)*", config)[0]
    command, *versions = [line.lstrip("# ") for line in header.splitlines()] or [""]
    return Record(
        name=folder.resolve().name if name is None else name,
        curves={key: _curve(found) for key, found in points.items() if key[0] not in ("baseline", "goodput")},
        baselines={key: value for key, value in baselines.items() if math.isfinite(value)},
        goodput=goodput,
        seconds=sum(goodput.values()) or (max(times) - min(times) if times else 0.0),
        command=command,
        versions=" ".join(versions),
        config=config[len(header) :].strip(),
        config_json=_text(folder / "config.json").strip(),
        model_info=_text(folder / "model-info.txt").strip(),
    )


def _lines(folder: pathlib.Path) -> Iterator[tuple[int, str, str, str, float, float]]:
    """The well-formed lines of metrics.jsonl. An infinite value reads as NaN: neither has a place on an axis."""
    for line in metrics.read(folder):
        try:
            value, time = float(line["value"]), float(line["time"])
            split = {"val": "validation"}.get(line["split"], line["split"])
            yield int(line["step"]), str(split), str(line["task"]), str(line["name"]), value if math.isfinite(value) else math.nan, time
        except (KeyError, TypeError, ValueError):
            continue


def _curve(points: list[tuple[int, float]]) -> Curve:
    """Sorted; a step that was written twice counts as it was written last."""
    ordered = sorted(dict(points).items())
    return Curve(np.array([step for step, _ in ordered]), np.array([value for _, value in ordered], float))


def _task(split: str, task: str) -> str:
    name = task or "held out"
    return name if split == "validation" else f"{name} ({split})"


def _text(path: pathlib.Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def pretty(text: str) -> str:
    """JSON, indented; anything else as it is."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text
