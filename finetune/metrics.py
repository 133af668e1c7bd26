"""Metrics of predictions, as the leaderboards compute them. Rows without a label count nothing; a metric of no rows is 0."""

import re
import string
from collections import Counter
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Shaped

from rootstock.finetune.predictions import Predictions

Metric = Callable[[Predictions], float]


def accuracy(p: Predictions) -> float:
    """Share of right answers."""
    golds, answers = p.pairs()
    return _ratio((golds == answers).sum(), len(golds))


def f1(p: Predictions) -> float:
    """F1 of class 1, the positive one: 2 TP / (2 TP + FP + FN). An answer that names no class is wrong, so for another gold it counts as
    class 1 (as in T5's evaluation).
    """
    golds, answers = p.pairs()
    return _f1(golds, np.where((answers < 0) & (golds != 1), 1, answers), 1)


def macro_f1(p: Predictions) -> float:
    """Mean of every class's F1, a class that is neither present nor answered counting 0 (scikit-learn's over all labels)."""
    return float(np.mean([_f1(*p.pairs(), label) for label in range(_classes(p))] or [0.0]))


def matthews(p: Predictions) -> float:
    """Matthews correlation (Gorodkin 2004 for more than two classes); 0 where it is undefined."""
    counts = confusion(p)
    right, total, golds, answers = np.trace(counts), counts.sum(), counts.sum(1), counts.sum(0)
    below = np.sqrt(total**2 - (answers**2).sum()) * np.sqrt(total**2 - (golds**2).sum())
    return _ratio(right * total - (golds * answers).sum(), below)


def confusion(p: Predictions) -> Float[np.ndarray, "classes classes"]:
    """How often each class (row) got each answer (column). Answers that name no class make a last row and column."""
    golds, answers = p.pairs()
    classes = _classes(p)
    size = classes + bool((answers < 0).any())
    counts = np.zeros((size, size))
    np.add.at(counts, (golds, np.where(answers < 0, classes, answers)), 1)
    return counts


def pearson(p: Predictions) -> float:
    """Correlation of two rows of numbers; 0 where one of them does not vary."""
    return _correlation(*p.pairs())


def spearman(p: Predictions) -> float:
    """Pearson's correlation of the ranks, ties sharing the mean of theirs."""
    golds, answers = p.pairs()
    return _correlation(_ranks(golds), _ranks(answers))


def f1a(p: Predictions) -> float:
    """MultiRC: F1 over all answers of all questions."""
    return f1(p)


def question_exact_match(p: Predictions) -> float:
    """MultiRC: share of questions (paragraph and question of `idx`) with every answer judged rightly."""
    wrong = p.golds != p.answers
    _, question = np.unique(p.idx[p.known, :2], axis=0, return_inverse=True)
    questions = question.max(initial=-1) + 1
    return _ratio((np.bincount(question, wrong[p.known], questions) == 0).sum(), questions)


def text_exact_match(p: Predictions) -> float:
    """ReCoRD: share of answers that equal one of the golds after SQuAD's normalisation."""
    return _best_of_golds(p, lambda answer, gold: float(normalised(answer) == normalised(gold)))


def text_f1(p: Predictions) -> float:
    """ReCoRD: F1 of the words of an answer against the gold that fits best, after SQuAD's normalisation, averaged over the queries."""
    return _best_of_golds(p, _word_f1)


def span_exact_match(p: Predictions) -> float:
    """Extracted answers: share of rows with start and end both right."""
    labelled = p.known.all(-1)
    return _ratio((p.golds == p.answers)[labelled].all(-1).sum(), labelled.sum())


def gender_parity(p: Predictions) -> float:
    """AX-g: share of the pairs with equal answers; rows 2k and 2k + 1 differ in a pronoun's gender alone. It needs no labels."""
    pair, counts = np.unique(p.idx // 2, return_counts=True)
    both = np.isin(p.idx // 2, pair[counts == 2])
    ordered = p.answers[both][np.argsort(p.idx[both])].reshape(-1, 2)
    return _ratio((ordered[:, 0] == ordered[:, 1]).sum(), len(ordered))


def normalised(text: str) -> str:
    """SQuAD's: lower case, no punctuation, no articles, single spaces."""
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _word_f1(answer: str, gold: str) -> float:
    said, right = normalised(answer).split(), normalised(gold).split()
    return _ratio(2 * (Counter(said) & Counter(right)).total(), len(said) + len(right))


def _best_of_golds(p: Predictions, compare: Callable[[str, str], float]) -> float:
    golds, answers = p.pairs()
    return _ratio(sum(max(compare(answer, gold) for gold in right) for right, answer in zip(golds, answers, strict=True)), len(golds))


def _classes(p: Predictions) -> int:
    return len(p.labels) or int(max(p.golds.max(initial=-1), p.answers.max(initial=-1))) + 1


def _f1(golds: Shaped[np.ndarray, "N"], answers: Shaped[np.ndarray, "N"], label: int) -> float:
    both = (golds == label) & (answers == label)
    return _ratio(2 * both.sum(), (golds == label).sum() + (answers == label).sum())


def _correlation(x: Shaped[np.ndarray, "N"], y: Shaped[np.ndarray, "N"]) -> float:
    if not len(x) or not np.ptp(x) or not np.ptp(y):
        return 0.0
    x, y = (side - side.mean() for side in (x.astype(np.float64), y.astype(np.float64)))
    return _ratio((x * y).sum(), np.sqrt((x * x).sum() * (y * y).sum()))


def _ranks(x: Shaped[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    _, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _ratio(above: float | int | np.number, below: float | int | np.number) -> float:
    return float(above / below) if below else 0.0
