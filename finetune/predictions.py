"""What was answered on a set of rows, and what is right. Metrics and leaderboard files are made of this alone: whether a head, a generated
text or a constant gave the answers makes no difference.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

NONE = -1  # as gold: the row has no label; as answer: what was said names no class, which is never right


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Golds and answers are class indices, numbers (gold NaN where there is no label), or texts: then a gold is the tuple of all texts
    that are right, empty where there is no label, and both arrays hold objects. `idx` names a row as the data set does, by one number or
    several.
    """

    idx: Shaped[np.ndarray, "N ..."]
    golds: Shaped[np.ndarray, "N ..."]
    answers: Shaped[np.ndarray, "N ..."]
    labels: tuple[str, ...] = ()  # names of the classes
    probabilities: Float[np.ndarray, "N classes"] | None = None
    said: tuple[str, ...] = ()  # the texts that the answers were read from, where a model wrote any

    def __len__(self) -> int:
        return len(self.golds)

    @property
    def known(self) -> Shaped[np.ndarray, "N ..."]:
        """Where there is a label."""
        if self.golds.dtype == object:
            return np.array([bool(gold) for gold in self.golds], bool)
        return np.isfinite(self.golds) if np.issubdtype(self.golds.dtype, np.floating) else self.golds >= 0

    @property
    def scored(self) -> int:
        """How many rows have a label."""
        return int(self.known.reshape(len(self), -1).any(-1).sum()) if len(self) else 0

    @property
    def unread(self) -> Counter[str]:
        """The texts that are no answer of the task, with how often each was said."""
        return (
            Counter(text for text, answer in zip(self.said, self.answers.tolist(), strict=True) if answer == NONE)
            if self.said
            else Counter()
        )

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Golds and answers where there is a label, in one row each."""
        return self.golds[self.known], self.answers[self.known]

    def constants(self) -> Iterator["Predictions"]:
        """The same answer for every row: each class that occurs, the most frequent first; of numbers their mean; of texts none."""
        golds, _ = self.pairs()
        if self.golds.dtype == object or not len(golds):
            return
        numbers = np.issubdtype(golds.dtype, np.floating)
        for answer in [golds.mean()] if numbers else [label for label, _ in Counter(golds.tolist()).most_common()]:
            yield dataclasses.replace(self, answers=np.full_like(self.golds, answer), probabilities=None, said=())

    def jsonl(self) -> str:
        """A line a row: idx, label, prediction and, where there are any, the text it was read from and the probabilities of all classes."""
        return "".join(json.dumps(self.line(row), ensure_ascii=False) + "\n" for row in range(len(self)))

    def line(self, row: int) -> dict[str, Any]:
        line = {"idx": self.idx[row].tolist(), "label": self._told(self.golds[row]), "prediction": self._told(self.answers[row])}
        if self.said:
            line["said"] = self.said[row]
        if self.probabilities is not None:
            shares = [round(share, 6) for share in self.probabilities[row].tolist()]
            line["probabilities"] = dict(zip(self.labels, shares, strict=True)) if self.labels else shares
        return line

    def _told(self, value: Any) -> Any:
        """A class by its name, a number as it is, no label as null."""
        if isinstance(value, str):
            return value
        if isinstance(value, tuple):
            return list(value) or None
        if np.ndim(value):
            return [self._told(part) for part in value]
        if np.issubdtype(np.asarray(value).dtype, np.floating):
            return float(value) if np.isfinite(value) else None
        if value < 0:
            return None
        return self.labels[int(value)] if self.labels else int(value)


def texts(values: Sequence[str] | Sequence[tuple[str, ...]]) -> Shaped[np.ndarray, "N"]:
    """A row of texts, or of tuples of texts, as an array of objects."""
    array = np.empty(len(values), object)
    for row, value in enumerate(values):  # numpy would make two axes of tuples of one length
        array[row] = value
    return array
