"""What the two casts of a suite's sets have in common: reading examples, counting them, naming what is skipped."""

import abc
import dataclasses
import functools
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rootstock.data.errors import DataError
from rootstock.data.jsonl import Record
from rootstock.data.suites.examples import Skipped
from rootstock.data.suites.sets import Set
from rootstock.data.tasks import PLACE, InParts, Part, Row, batched
from rootstock.data.vocabularies import Vocabulary

_PART = 4096  # examples: a second or two of tokenising
_NAMED = 3  # skipped rows that the warning names


@dataclasses.dataclass(frozen=True)
class SuiteTask(InParts):
    """One set in one cast. `data_dir` is a folder of official files or a TFDS data_dir."""

    set: Set = dataclasses.field(metadata=PLACE)
    data_dir: str = dataclasses.field(metadata=PLACE)
    vocabulary: str = dataclasses.field(metadata=PLACE)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their indices."""
        return self.set.labels

    @property
    def splits(self) -> tuple[str, ...]:
        """As TFDS names them: MNLI has validation_matched and validation_mismatched."""
        if not (found := self.set.splits(self.data_dir)):
            raise self.set.missing(self.data_dir)
        return found

    def inputs(self) -> list[Path]:
        return list(dict.fromkeys(path for split in self.splits for path in self.set.inputs(self.data_dir, split)))

    def examples(self, split: str) -> Iterator[dict[str, Any]]:
        """The examples of a split under TFDS's feature names; `label` is a class index, or -1 where there is no label."""
        for example in self.set.examples(self.data_dir, split):
            if not isinstance(example, Skipped):
                yield dict(example.values)

    def parts(self, split: str, counts: Counter) -> Iterator[Part]:
        """Counts `documents` (rows of the input), `dropped` of them, and `empty_texts` among the others, which stay."""
        return (functools.partial(_rows_of, self, split, examples) for examples in batched(self._counted(split, counts), _PART))

    @abc.abstractmethod
    def rows_of(self, example: Record, vocabulary: Vocabulary, split: str, counts: Counter) -> list[Row]:
        """The rows of one example; none if it serves for nothing in this split. What is worth saying of them goes to `counts`."""

    def _counted(self, split: str, counts: Counter) -> Iterator[Record]:
        skipped = []
        for example in self.set.examples(self.data_dir, split):
            counts["documents"] += 1
            if isinstance(example, Skipped):
                counts["dropped"] += 1
                skipped.append(example)
                continue
            counts["empty_texts"] += empty_texts(self.set, example)
            yield example
        if skipped:
            logging.getLogger(__name__).warning("%s", told(self.set.name, split, skipped))


def _rows_of(task: SuiteTask, split: str, examples: list[Record], counts: Counter) -> Iterator[Row]:
    vocabulary = task.load_vocabulary()
    for example in examples:
        rows = task.rows_of(example, vocabulary, split, counts)
        counts["dropped"] += not rows
        yield from rows


def empty_texts(of: Set, example: Record) -> int:
    return sum(not example.values[name].strip() for name in of.texts)


def told(name: str, split: str, skipped: list[Skipped]) -> str:
    """What to say of the rows of a split that were skipped."""
    named = "; ".join(f"{row.where}: {row.why}" for row in skipped[:_NAMED])
    more = f"; and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
    return f"{name} {split}: {len(skipped)} row{'s' * (len(skipped) > 1)} skipped ({named}{more})"


def check_length(name: str, what: str, length: int, shortest: int) -> None:
    if length < shortest:
        raise DataError(f"the {what} of {name}'s rows is {length}; expected {shortest} or more.")
