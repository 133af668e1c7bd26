"""What a fine-tuning task is, and how one is found by name."""

import dataclasses
from collections.abc import Callable, Sequence

from rootstock.data.arrays import Arrays
from rootstock.data.errors import DataError
from rootstock.data.tasks import Task as Rows
from rootstock.engine.describe import resolve
from rootstock.engine.errors import UserError
from rootstock.engine.sockets import Probe
from rootstock.finetune import heads, scores
from rootstock.finetune.metrics import Metric, accuracy


@dataclasses.dataclass(frozen=True)
class Task:
    """Rows, head and scores of one task. `rows(data_dir, vocabulary, length)` gives its data; `labels` are the class names in order."""

    name: str
    rows: Callable[[str, str, int], Rows]
    head: type
    labels: Sequence[str]
    metrics: Sequence[Metric] = (accuracy,)

    def describe_head(self, dropout: float = 0.1) -> heads.Head:
        return heads.Head(self.head, max(len(self.labels), 1), dropout)

    def probe(self) -> Probe:
        """The scores of this task's head."""
        if self.head is heads.Regression:
            return scores.RegressionScores(self.name)
        if self.head is heads.SpanExtraction:
            return scores.SpanScores(self.name)
        return scores.ClassScores(self.name, len(self.labels), self.metrics)

    def read(self, data_dir: str, vocabulary: str, length: int, split: str) -> Arrays:
        """All rows of a split, tokenised now and kept in memory."""
        rows = self.rows(data_dir, vocabulary, length)
        if split not in rows.splits:
            raise DataError(f"{self.name} has no split '{split}' in '{data_dir}'; it has {', '.join(rows.splits)}")
        return Arrays.of(rows.rows(split), rows.vocabulary)


def find(name: str) -> Task:
    """A task of `finetune.tasks.superglue` by its short name, or any other by dotted path (`mypackage.tasks.sentiment`)."""
    from rootstock.finetune.tasks import superglue

    if "." in name:
        task = resolve(name)
    else:
        task = getattr(superglue, name, None)
    if not isinstance(task, Task):
        known = sorted(key for key, value in vars(superglue).items() if isinstance(value, Task))
        raise UserError(
            f"there is no task {name!r}; known are {', '.join(known)}, or the dotted path of a rootstock.finetune.tasks.Task of your own"
        )
    return task
