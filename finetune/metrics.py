"""Scores from sums that add up over batches and devices: confusion matrices, and moments for regressions."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Confusion = Float[np.ndarray, "labels predictions"]
Metric = Callable[[Confusion], float]


def accuracy(confusion: Confusion) -> float:
    """Share of rows on the diagonal."""
    return _ratio(np.trace(confusion), confusion.sum())


def f1(confusion: Confusion) -> float:
    """F1 of class 1, the positive one: 2 TP / (2 TP + FP + FN)."""
    return _f1(confusion, 1)


def macro_f1(confusion: Confusion) -> float:
    """Mean of every class's F1, a class that is neither present nor predicted counting 0 (as scikit-learn over all labels)."""
    return float(np.mean([_f1(confusion, label) for label in range(len(confusion))]))


def matthews(confusion: Confusion) -> float:
    """Matthews correlation of a square confusion matrix (Gorodkin 2004 for more than two classes); 0 where it is undefined."""
    right, total = np.trace(confusion), confusion.sum()
    labels, predicted = confusion.sum(1), confusion.sum(0)
    below = np.sqrt(total**2 - (predicted**2).sum()) * np.sqrt(total**2 - (labels**2).sum())
    return _ratio(right * total - (labels * predicted).sum(), below)


def majority(confusion: Confusion) -> Confusion:
    """The confusion matrix of always answering the most frequent label."""
    answer = np.zeros_like(confusion)
    answer[:, confusion.sum(1).argmax()] = confusion.sum(1)
    return answer


def pearson(moments: Float[np.ndarray, "6"]) -> float:
    """Correlation from (n, sum x, sum y, sum x^2, sum y^2, sum x y); 0 where one side does not vary."""
    n, x, y, xx, yy, xy = np.asarray(moments, np.float64)
    return _ratio(n * xy - x * y, np.sqrt(max(n * xx - x * x, 0)) * np.sqrt(max(n * yy - y * y, 0)))


def _f1(confusion: Confusion, label: int) -> float:
    return _ratio(2 * confusion[label, label], confusion[label].sum() + confusion[:, label].sum())


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below else 0.0
