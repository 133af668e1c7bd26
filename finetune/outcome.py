"""What an evaluation found: for each task the predictions of one split, and all that follows from them."""

import dataclasses
import pathlib
from typing import Any

from rootstock.engine.model_dir import write_atomically
from rootstock.finetune import leaderboard
from rootstock.finetune.predictions import Predictions
from rootstock.finetune.tasks import Split, Task

PREDICTIONS = "predictions"  # the folder


@dataclasses.dataclass(frozen=True)
class Result:
    """What a checkpoint said of one split of a task."""

    task: Task
    split: Split
    predictions: Predictions

    @property
    def scores(self) -> dict[str, float]:
        """None of rows without a label."""
        return self.task.score(self.predictions) if self.predictions.scored else {}

    @property
    def headline(self) -> float | None:
        return self.task.headline(self.scores) if self.scores else None

    @property
    def majority(self) -> dict[str, float]:
        return self.task.majority(self.split)

    @property
    def counts(self) -> dict[str, int]:
        """What became of the rows of the input: `documents` = read + dropped; `answers` (fewer than rows where several make one) =
        scored + unlabelled; `unread` of them are texts that say nothing. `full` rows hold as many tokens as they may: what they were made
        of was cut, but for the few that just fit.
        """
        answers, scored = len(self.predictions), self.predictions.scored
        counted = {name: count for name, count in self.split.counts.items() if count or name == "documents"}
        unread = {"unread": self.predictions.unread.total()} if self.predictions.said else {}
        full = {"full": self.split.full} if self.split.full else {}
        return {**counted, **full, "rows": len(self.split), "answers": answers, "scored": scored, "unlabelled": answers - scored, **unread}

    def write_predictions(self, folder: pathlib.Path) -> pathlib.Path:
        """FOLDER/predictions/TASK.SPLIT.jsonl, a line a row."""
        path = folder / PREDICTIONS / f"{self.task.name}.{self.split.split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, self.predictions.jsonl())
        return path


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Results by task, why the other tasks of the suite have none, and what they are of: a split, and the checkpoint of a step."""

    results: dict[str, Result]
    missing: dict[str, str]
    split: str
    step: int

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        return {name: result.scores for name, result in self.results.items()}

    def suites(self) -> list[leaderboard.Suite]:
        """Those that some of the tasks belong to."""
        return leaderboard.suites_of([*self.results, *self.missing])

    def averages(self) -> list[leaderboard.Averaged]:
        return [average.of(self.scores) for suite in self.suites() for average in suite.averages]

    def plain(self) -> dict[str, Any]:
        """For evaluation.json."""
        told = {
            name: {"scores": found.scores, "headline": found.headline, "majority": found.majority, "rows": found.counts}
            for name, found in self.results.items()
        }
        return {
            "split": self.split,
            "step": self.step,
            "tasks": told,
            "averages": [dataclasses.asdict(average) for average in self.averages()],
            "missing": self.missing,
        }
