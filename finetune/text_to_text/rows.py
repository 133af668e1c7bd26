"""The rows of a split as inputs and targets, and what was said of them as predictions."""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Shaped

from rootstock.data.arrays import Arrays
from rootstock.data.errors import DataError
from rootstock.data.jsonl import Record
from rootstock.data.streams import Bucketed
from rootstock.data.suites import text_to_text
from rootstock.data.suites.examples import index_of
from rootstock.engine.errors import UserError
from rootstock.finetune.predictions import Predictions, texts
from rootstock.finetune.tasks import Example, Split, Task, check_distinct
from rootstock.finetune.text_to_text.answers import answering

PLACE = "place"  # of a row in its split, where rows are read in another order
_SHORTEST = 32


def cast_of(task: Task) -> str | None:
    """The set of `text_to_text.SETS` that a task's rows are; MNLI has two tasks. None: it has no text-to-text form."""
    return next((name for name in (task.name, task.answered_by) if name in text_to_text.SETS), None)


def rows_of(task: Task, data_dir: str, vocabulary: str, length: int, target_length: int) -> text_to_text.TextToTextTask:
    """A task's rows in T5's cast."""
    if (name := cast_of(task)) is None:
        raise UserError(f"{task.name} has no text-to-text form; these have one: {', '.join(text_to_text.SETS)}")
    return text_to_text.task(name, data_dir, vocabulary, length, target_length)


def read(task: Task, data_dir: str, vocabulary: str, length: int, target_length: int, split: str) -> "TextSplit":
    rows, split = rows_of(task, data_dir, vocabulary, length, target_length), task.splits.get(split, split)
    if split not in rows.splits:
        raise DataError(f"{task.name} has no split '{split}' in '{data_dir}'; it has {', '.join(rows.splits)}.")
    return TextSplit(rows, split)


class TextSplit(Split):
    """Its arrays are inputs and targets; what is right stands in the examples, a row each (in training ReCoRD has more, WSC fewer)."""

    @functools.cached_property
    def asked(self) -> list[Example]:
        """The example of each row."""
        found = list(self.examples())
        if len(found) != len(self):
            raise UserError(
                f"the split '{self.split}' of {self.rows.name} cannot be scored: {len(found):,} examples make {len(self):,} training rows"
            )
        return found

    @functools.cached_property
    def idx(self) -> Int[np.ndarray, "N ..."]:
        found = [index_of(Record(example, self.rows.name)) for example in self.asked]
        return np.array(found, np.int32)[:, 0] if len(found[0]) == 1 else np.array(found, np.int32)

    @functools.cached_property
    def labels(self) -> Shaped[np.ndarray, "N"]:
        if "answers" in self.asked[0]:
            return texts([tuple(example["answers"]) for example in self.asked])
        return np.array([example["label"] for example in self.asked])

    def inputs(self) -> list[list[int]]:
        """The ids of each row without padding."""
        return _unpadded(self.arrays["input_ids"], self.arrays["segment_ids"])

    def targets(self) -> list[list[int]]:
        return _unpadded(self.arrays["target_ids"], self.arrays["target_segment_ids"])

    def longest_first(self) -> Bucketed:
        """For evaluation: rows of like length together, so that little padding is computed; `place` says where each belongs."""
        lengths = (self.arrays["segment_ids"] > 0).sum(1)
        order = np.argsort(-lengths, kind="stable")
        arrays = {name: array[order] for name, array in self.arrays.items()} | {PLACE: order.astype(np.int32)}
        whole = self.arrays["input_ids"].shape[1]
        buckets = [length for length in (_SHORTEST << power for power in range(whole.bit_length())) if length < whole]
        return Bucketed(Arrays(arrays, self.vocabulary), [*buckets, whole])


def predictions(task: Task, split: TextSplit, said: Sequence[str], probabilities: np.ndarray | None = None) -> Predictions:
    """What the texts say, beside what is right."""
    check_distinct(task.name, split)
    how = answering(task, split.rows.load_vocabulary())
    values = [how.read(text, example) for text, example in zip(said, split.asked, strict=True)]
    golds, free = task.golds(split), split.labels.dtype == object
    answers, labels = (texts(values), ()) if free else (np.array(values), tuple(task.labels))
    return Predictions(split.idx, golds, answers, labels, probabilities, tuple(said))


def _unpadded(ids: Int[np.ndarray, "N L"], segments: Int[np.ndarray, "N L"]) -> list[list[int]]:
    return [row[:count].tolist() for row, count in zip(ids, (segments > 0).sum(1), strict=True)]
