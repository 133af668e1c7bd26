"""Scores against values worked out by hand."""

import numpy as np
import pytest

from rootstock.finetune import metrics

# Rows are labels, columns predictions.
BINARY = np.array([[50.0, 10.0], [5.0, 35.0]])
THREE = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0], [1.0, 0.0, 3.0]])


def test_accuracy():
    assert metrics.accuracy(BINARY) == pytest.approx(85 / 100)
    assert metrics.accuracy(np.zeros((2, 2))) == 0.0


def test_f1_is_of_class_one():
    assert metrics.f1(BINARY) == pytest.approx(2 * 35 / (2 * 35 + 10 + 5))
    assert metrics.f1(np.array([[7.0, 0.0], [3.0, 0.0]])) == 0.0


def test_macro_f1_counts_an_absent_class_as_zero():
    each = [2 * 2 / (3 + 3), 2 * 3 / (3 + 4), 2 * 3 / (4 + 3)]
    assert metrics.macro_f1(THREE) == pytest.approx(np.mean(each))
    assert metrics.macro_f1(np.diag([4.0, 4.0, 0.0])) == pytest.approx(2 / 3)


def test_matthews_of_two_and_of_three_classes():
    tn, fp, fn, tp = BINARY.ravel()
    assert metrics.matthews(BINARY) == pytest.approx((tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))
    labels = np.repeat(np.arange(3), THREE.sum(1).astype(int))
    guesses = np.concatenate([np.repeat(np.arange(3), row.astype(int)) for row in THREE])
    x, y = np.eye(3)[labels], np.eye(3)[guesses]  # Gorodkin's correlation of the indicator matrices
    covariance = lambda a, b: ((a - a.mean(0)) * (b - b.mean(0))).sum()
    assert metrics.matthews(THREE) == pytest.approx(covariance(x, y) / np.sqrt(covariance(x, x) * covariance(y, y)))
    assert metrics.matthews(np.array([[5.0, 0.0], [5.0, 0.0]])) == 0.0


def test_majority_answers_the_most_frequent_label():
    assert metrics.accuracy(metrics.majority(BINARY)) == pytest.approx(0.6)
    assert metrics.majority(THREE)[:, 2].tolist() == [3, 3, 4]


def test_pearson():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=20), rng.normal(size=20)
    moments = np.array([20, x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()])
    assert metrics.pearson(moments) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert metrics.pearson(np.array([3.0, 3.0, 1.0, 3.0, 5.0, 1.0])) == 0.0
