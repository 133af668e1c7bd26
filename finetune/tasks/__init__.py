"""What a fine-tuning task is, and how one is found by name."""

import copy
import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

from rootstock.data.arrays import Arrays
from rootstock.data.errors import DataError
from rootstock.data.tasks import Task as Rows
from rootstock.engine.describe import resolve
from rootstock.engine.errors import UserError
from rootstock.finetune import heads
from rootstock.finetune.metrics import Metric, accuracy
from rootstock.finetune.predictions import Predictions

Example = Mapping[str, Any]
_ADDED: dict[str, "Task"] = {}  # by `add`


class Split(Arrays):
    """The rows of one split, tokenised now and kept in memory; `counts` is what the reader counted on its way."""

    def __init__(self, rows: Rows, split: str):
        self.rows, self.split, self.counts = rows, split, Counter()
        read = list(rows.rows(split, self.counts))
        if not read:
            raise DataError(f"the split '{split}' of {rows.name} is empty: {', '.join(map(str, rows.inputs()))}.")
        super().__init__(Arrays.of(read).arrays, rows.vocabulary)

    def examples(self) -> Iterator[Example]:
        """What the rows were made of, with the names of TFDS; every example makes one row or several."""
        return self.rows.examples(self.split)

    def first(self, count: int) -> "Split":
        """The first `count` rows, to train on; `counts` stay those of all."""
        short = copy.copy(self)
        short.arrays = {name: array[:count] for name, array in self.arrays.items()}
        return short

    @property
    def full(self) -> int:
        """How many rows hold as many tokens as they may."""
        return int((self.arrays["segment_ids"] > 0).reshape(len(self), -1, self.arrays["segment_ids"].shape[-1]).all(-1).any(-1).sum())

    @property
    def idx(self) -> np.ndarray:
        """Which row is which: as the data set says, else by number."""
        return self.arrays.get("idx", np.arange(len(self), dtype=np.int32))

    @property
    def labels(self) -> Shaped[np.ndarray, "N ..."]:
        """As the data has them; `Task.golds` tells which are none."""
        return self.arrays["label"]


@dataclasses.dataclass(frozen=True)
class Task:
    """Rows, head and scores of one task. `rows(data_dir, vocabulary, length)` gives its data; `labels` are the class names in order.

    The mean of its metrics is the one number that averages over tasks use.
    """

    name: str
    rows: Callable[[str, str, int], Rows]
    head: type
    labels: Sequence[str]
    metrics: Sequence[Metric] = (accuracy,)
    answered_by: str | None = None  # the task whose head this one uses: it has no training rows of its own
    splits: Mapping[str, str] = dataclasses.field(default_factory=dict)  # what its data calls train, validation and test, where otherwise
    scale: tuple[float, float] | None = None  # of a number; a label outside it is none (TFDS writes -1)
    regroup: Callable[[Predictions, Iterable[Example]], Predictions] | None = None  # from rows to what the metrics are of

    @property
    def head_name(self) -> str:
        return self.answered_by or self.name

    def describe_head(self, dropout: float = 0.1) -> heads.Head:
        return heads.Head(self.head, max(len(self.labels), 1), dropout, tuple(self.labels))

    def read(self, data_dir: str, vocabulary: str, length: int, split: str) -> Split:
        """The rows of a split."""
        rows, split = self.rows(data_dir, vocabulary, length), self.splits.get(split, split)
        if split not in rows.splits:
            raise DataError(f"{self.name} has no split '{split}' in '{data_dir}'; it has {', '.join(rows.splits)}.")
        return Split(rows, split)

    def golds(self, split: Split) -> Shaped[np.ndarray, "N ..."]:
        """The labels of the rows, NaN or negative where there are none."""
        labels = split.labels
        return labels if self.scale is None else np.where((labels >= self.scale[0]) & (labels <= self.scale[1]), labels, np.nan)

    def predictions(self, split: Split, answers: heads.Answers) -> Predictions:
        """What a head said of the rows of a split, as what the metrics are of."""
        check_distinct(self.name, split)
        found = Predictions(split.idx, self.golds(split), answers.values, tuple(self.labels), answers.probabilities)
        return self.regroup(found, split.examples()) if self.regroup else found

    def score(self, predictions: Predictions) -> dict[str, float]:
        return {metric.__name__: metric(predictions) for metric in self.metrics}

    def headline(self, scores: Mapping[str, float]) -> float:
        """One number, 1 being perfect: the mean of the metrics."""
        return float(np.mean([scores[metric.__name__] for metric in self.metrics]))

    def majority(self, split: Split) -> dict[str, float]:
        """What the best answer that is the same for every row scores: the most frequent label by accuracy, but by F1 the rarer positive
        one; the mean of numbers. Nothing where answers are texts.
        """
        if self.regroup:
            return {}
        golds = self.golds(split)
        constants = Predictions(split.idx, golds, np.zeros_like(golds), tuple(self.labels)).constants()
        return max(map(self.score, constants), key=self.headline, default={})


def find(name: str) -> Task:
    """A task of SuperGLUE or GLUE by its short name, or any other by dotted path (`mypackage.tasks.sentiment`); from then on also by its
    own name, which is that of its head, its files and its scores.
    """
    known = _known()
    if name in known:
        return known[name]
    task = resolve(name) if "." in name else None
    if not isinstance(task, Task):
        raise UserError(
            f"there is no task {name!r}; known are {', '.join(sorted(known))}, or the dotted path of a rootstock.finetune.tasks.Task of "
            "your own"
        )
    if known.get(task.name) is not task:
        add(task)
    return task


def names(suite: str) -> tuple[str, ...]:
    """The tasks of `superglue` or of `glue`, in the order of their leaderboard."""
    if suite not in (suites := _suites()):
        raise UserError(f"there is no suite {suite!r}; known are {', '.join(suites)}")
    return tuple(suites[suite])


def _suites() -> dict[str, dict[str, Task]]:
    from rootstock.finetune.tasks import glue, superglue

    return {"superglue": {task.name: task for task in superglue.TASKS}, "glue": {task.name: task for task in glue.TASKS}}


def add(task: Task) -> None:
    """Makes a task of a user known by its name in this process."""
    if any(task.name in suite for suite in _suites().values()):
        raise UserError(f"there is a task {task.name!r} already; give yours another name")
    if not re.fullmatch(r"[\w-]+", task.name):
        raise UserError(f"a task is named {task.name!r}; expected letters, digits, _ and -, since parameters and files are named by it")
    _ADDED[task.name] = task


def _known() -> dict[str, Task]:
    return {name: task for suite in _suites().values() for name, task in suite.items()} | _ADDED


def check_distinct(name: str, split: Split) -> None:
    """Two rows of one name would count as one where rows are grouped, and would be refused by a leaderboard."""
    rows, counts = np.unique(split.idx, axis=0, return_counts=True)
    if len(rows) < len(split):
        twice = rows[counts > 1][0].tolist()
        raise DataError(f"idx {twice} stands {counts.max()} times in the split '{split.split}' of {name}; each row must have its own.")
