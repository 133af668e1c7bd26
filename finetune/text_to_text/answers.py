"""From a text that a model wrote to an answer of the task, as T5's evaluation reads it (Raffel et al. 2019, arXiv 1910.10683).

    classes   the name of a class, letter for letter as the vocabulary writes it ("not_entailment" by T5's, "true" where case is lost)
    numbers   what Python reads as a finite number
    wsc       whether the noun phrase is that of the row: without case and determiners the words of one are among those of the other,
              and both have an apostrophe or neither has
    record    the text itself

Any other text is no answer (`predictions.NONE`): it counts as wrong and is counted. An empty text for WSC is none either.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from rootstock.data.vocabularies import Vocabulary
from rootstock.finetune.predictions import NONE
from rootstock.finetune.tasks import Example, Task

_DETERMINERS = frozenset("a an few her his each every many much my our some that the their these this those which whose your".split())
_STEP = 0.2  # to which T5 rounds the scores of STS-B


@runtime_checkable
class Answering(Protocol):
    """How a task is answered in words."""

    def read(self, text: str, example: Example) -> Any:
        """What a text says: a class, a number or a text."""

    def choices(self, example: Example) -> Sequence[str]:
        """All that may be said, where that is known; of these the likeliest can be taken. The first class comes first."""


@dataclasses.dataclass(frozen=True)
class Classes:
    """By the names of classes; `written` is what the vocabulary makes of each."""

    labels: Sequence[str]
    written: Sequence[str]

    def read(self, text: str, example: Example) -> int:
        names = next((names for names in (self.written, self.labels) if text in names), None)
        return NONE if names is None else names.index(text)

    def choices(self, example: Example) -> Sequence[str]:
        return self.labels


@dataclasses.dataclass(frozen=True)
class Numbers:
    """From the lowest to the highest by fifths."""

    lowest: float
    highest: float

    def read(self, text: str, example: Example) -> float:
        try:
            value = float(text)
        except ValueError:
            return float(NONE)
        return value if math.isfinite(value) else float(NONE)

    def choices(self, example: Example) -> Sequence[str]:
        return [f"{value:.1f}" for value in np.arange(self.lowest, self.highest + _STEP / 2, _STEP)]


@dataclasses.dataclass(frozen=True)
class Referents:
    """WSC: by the noun phrase that the pronoun stands for, as the vocabulary writes it."""

    vocabulary: Vocabulary

    def read(self, text: str, example: Example) -> int:
        said, meant = _words(text), _words(_written(self.vocabulary, example["span1_text"]))
        if not said:
            return NONE
        alike = ("'" in " ".join(said)) == ("'" in " ".join(meant))
        return int(alike and (set(said) <= set(meant) or set(meant) <= set(said)))

    def choices(self, example: Example) -> Sequence[str]:
        return ()


class Entities:
    """ReCoRD: by an entity of the passage."""

    def read(self, text: str, example: Example) -> str:
        return text

    def choices(self, example: Example) -> Sequence[str]:
        return example["entities"]


def answering(task: Task, vocabulary: Vocabulary) -> Answering:
    """How this task is answered with this vocabulary."""
    if task.name in _OWN:
        return _OWN[task.name](vocabulary)
    if task.scale is not None:
        return Numbers(*task.scale)
    return Classes(tuple(task.labels), tuple(_written(vocabulary, label) for label in task.labels))


def _written(vocabulary: Vocabulary, text: str) -> str:
    return vocabulary.decode(vocabulary.encode(text))


def _words(text: str) -> list[str]:
    return [word for word in text.strip().lower().split() if word not in _DETERMINERS]


_OWN: Mapping[str, Callable[[Vocabulary], Answering]] = {"wsc": Referents, "record": lambda vocabulary: Entities()}
