"""SuperGLUE and GLUE as published: what their averages are, and what others scored."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from rootstock.finetune import tasks

Scores = Mapping[str, Mapping[str, float]]  # task -> metric -> value, 1 being perfect
Cell = tuple[str, str]  # task and metric; the metric "" is the mean of all of the task's


@dataclasses.dataclass(frozen=True)
class Average:
    """A mean of parts; a part is the mean of its cells."""

    name: str
    parts: tuple[tuple[Cell, ...], ...]

    def of(self, scores: Scores) -> "Averaged":
        """Of the cells that there are."""
        found = [[_value(cell, scores) for cell in part if cell[0] in scores] for part in self.parts]
        means = [float(np.mean(values)) for values in found if values]
        missing = tuple(dict.fromkeys(task for part in self.parts for task, _ in part if task not in scores))
        whole = sum(all(task in scores for task, _ in part) for part in self.parts)
        return Averaged(self.name, float(np.mean(means)) if means else None, whole, len(self.parts), missing)


@dataclasses.dataclass(frozen=True)
class Averaged:
    """The mean of what there is: `count` parts are there whole, of `whole`. None of nothing."""

    name: str
    value: float | None
    count: int
    whole: int
    missing: tuple[str, ...]

    def told(self) -> str:
        """Says so where it is not the whole average."""
        value = "-" if self.value is None else f"{100 * self.value:.1f}"
        partial = f"  partial: {self.count} of {self.whole}, without {', '.join(self.missing)}" if self.missing else ""
        return f"{self.name}: {value}{partial}"


@dataclasses.dataclass(frozen=True)
class Peer:
    """Published scores in percent; `averages` by the name of the average."""

    name: str
    scores: Mapping[Cell, float]
    averages: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Suite:
    """`where` says on which rows the peers were scored, and by whom it was told."""

    title: str
    averages: tuple[Average, ...]
    where: str
    peers: tuple[Peer, ...]


def suites_of(names: list[str]) -> list[Suite]:
    """The suites that hold some of these tasks."""
    return [suite for name, suite in SUITES.items() if set(names) & set(tasks.names(name))]


def _value(cell: Cell, scores: Scores) -> float:
    task, metric = cell
    return scores[task][metric] if metric else tasks.find(task).headline(scores[task])


def _alone(*names: str) -> tuple[tuple[Cell, ...], ...]:
    return tuple(((name, ""),) for name in names)


SUPERGLUE = Average("SuperGLUE, mean of 8 tasks", _alone("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc"))

_EIGHT = (*_alone("cola", "sst2", "mrpc", "stsb", "qqp"), (("mnli", ""), ("mnli_mismatched", "")), *_alone("qnli", "glue_rte"))
GLUE = Average("GLUE leaderboard, 9 tasks: MNLI's two sets as one, all metrics of a task averaged", (*_EIGHT, *_alone("wnli")))
GLUE_8 = Average("GLUE leaderboard without WNLI, 8 tasks", _EIGHT)
_NINE = [("mnli", "accuracy"), ("mnli_mismatched", "accuracy"), ("sst2", "accuracy"), ("stsb", "pearson"), ("glue_rte", "accuracy"),
         ("qnli", "accuracy"), ("qqp", "f1"), ("mrpc", "f1"), ("cola", "matthews")]  # fmt: skip
CRAMMING = Average(
    "GLUE as Cramming has it, 9 numbers: MNLI-m, MNLI-mm, no WNLI, F1 of MRPC and QQP, Pearson of STS-B", tuple((cell,) for cell in _NINE)
)

_SUPERGLUE_CELLS = (
    ("boolq", "accuracy"), ("cb", "macro_f1"), ("cb", "accuracy"), ("copa", "accuracy"), ("multirc", "f1a"),
    ("multirc", "question_exact_match"), ("record", "text_f1"), ("record", "text_exact_match"), ("rte", "accuracy"), ("wic", "accuracy"),
    ("wsc", "accuracy"),
)  # fmt: skip


def _superglue(name: str, *values: float) -> Peer:
    """Values in the order of the leaderboard, the average last."""
    return Peer(name, dict(zip(_SUPERGLUE_CELLS, values[:-1], strict=True)), {SUPERGLUE.name: values[-1]})


def _cramming(name: str, *values: float) -> Peer:
    return Peer(name, dict(zip(_NINE, values[:-1], strict=True)), {CRAMMING.name: values[-1]})


SUITES = {
    "superglue": Suite(
        "SuperGLUE",
        (SUPERGLUE,),
        "Peers: on the test rows, from the SuperGLUE leaderboard; T5-base from Raffel et al. 2019, table 14.",
        (
            _superglue("BERT-large", 77.4, 75.7, 83.6, 70.6, 70.0, 24.1, 72.0, 71.3, 71.7, 69.6, 64.4, 69.0),
            _superglue("T5-base", 81.4, 86.2, 94.0, 71.2, 79.7, 43.1, 75.0, 74.2, 81.5, 68.3, 80.8, 76.2),
            _superglue("T5-11B", 91.2, 93.9, 96.8, 94.8, 88.1, 63.3, 94.1, 93.4, 92.5, 76.9, 93.8, 89.3),
            _superglue("DeBERTa + SiFT", 90.4, 94.9, 97.2, 96.8, 88.2, 63.7, 94.5, 94.1, 93.2, 76.4, 95.9, 89.9),
            _superglue("human", 89.0, 95.8, 98.9, 100.0, 81.8, 51.9, 91.7, 91.3, 93.6, 80.0, 100.0, 89.8),
        ),
    ),
    "glue": Suite(
        "GLUE",
        (GLUE, GLUE_8, CRAMMING),
        "Peers: on the validation rows, median of 5 fine-tunings, from Cramming (Geiping and Goldstein 2022, arXiv 2212.14034).",
        (
            _cramming("BERT-base", 83.2, 83.4, 91.9, 86.7, 59.2, 90.6, 87.7, 89.3, 56.5, 80.9),
            _cramming("crammed", 83.9, 84.1, 92.2, 84.6, 53.8, 89.5, 87.3, 87.5, 44.5, 78.6),
            _cramming("crammed V2", 84.1, 84.6, 92.0, 87.4, 58.5, 90.2, 87.5, 88.9, 53.3, 80.7),
            _cramming("no pretraining", 34.1, 34.1, 79.9, 17.8, 47.3, 50.0, 68.6, 77.9, 0.0, 45.5),
        ),
    ),
}
