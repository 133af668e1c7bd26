"""Metrics against values worked out by hand, and against scikit-learn and scipy."""

import numpy as np
import pytest

from rootstock.finetune import metrics
from rootstock.finetune.predictions import Predictions, texts


def classes(golds, answers, idx=None, labels=()):
    golds, answers = np.asarray(golds, np.int32), np.asarray(answers, np.int32)
    return Predictions(np.arange(len(golds)) if idx is None else np.asarray(idx), golds, answers, labels)


def numbers(golds, answers):
    return Predictions(np.arange(len(golds)), np.asarray(golds, np.float32), np.asarray(answers, np.float32))


def words(golds, answers):
    return Predictions(np.arange(len(golds)), texts([tuple(gold) for gold in golds]), texts(list(answers)))


def of_counts(counts):
    """Predictions with this confusion matrix; rows are golds, columns answers."""
    golds, answers = (np.repeat(place.ravel(), np.ravel(counts)) for place in np.indices(np.shape(counts)))
    return classes(golds, answers)


BINARY = of_counts([[50, 10], [5, 35]])
THREE = of_counts([[2, 1, 0], [0, 3, 0], [1, 0, 3]])


def test_accuracy():
    assert metrics.accuracy(BINARY) == pytest.approx(85 / 100)
    assert metrics.accuracy(classes([], [])) == 0.0


def test_rows_without_label_count_nothing():
    p = classes([1, -1, 0, 1], [1, 1, 1, 0])
    assert p.scored == 3 and metrics.accuracy(p) == pytest.approx(1 / 3) and metrics.f1(p) == pytest.approx(2 / 4)
    assert metrics.accuracy(classes([[0, 1, -1], [-100, -1, 2]], [[0, 0, 0], [0, 0, 2]])) == pytest.approx(2 / 3)
    assert metrics.pearson(numbers([1, 2, np.nan, 4], [1, 2, 90, 4])) == pytest.approx(1.0)
    assert metrics.text_exact_match(words([["a cat"], []], ["cat", "dog"])) == 1.0


def test_f1_is_of_class_one():
    assert metrics.f1(BINARY) == pytest.approx(2 * 35 / (2 * 35 + 10 + 5))
    assert metrics.f1(of_counts([[7, 0], [3, 0]])) == 0.0


def test_an_answer_that_is_no_class_is_wrong():
    """T5's evaluation: wrong for either gold, so a false negative for 1 and a false positive for 0."""
    p = classes([1, 1, 0, 0], [1, -1, -1, 0], labels=("no", "yes"))
    assert metrics.accuracy(p) == 0.5 and metrics.f1(p) == pytest.approx(2 * 1 / (2 * 1 + 1 + 1))
    assert metrics.macro_f1(p) == pytest.approx((2 * 1 / (2 + 1) + 2 * 1 / (2 + 1)) / 2)
    assert metrics.confusion(p).tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 0]]


def test_macro_f1_counts_an_absent_class_as_zero():
    each = [2 * 2 / (3 + 3), 2 * 3 / (3 + 4), 2 * 3 / (4 + 3)]
    assert metrics.macro_f1(THREE) == pytest.approx(np.mean(each))
    assert metrics.macro_f1(classes([0] * 4 + [1] * 4, [0] * 4 + [1] * 4, labels=("a", "b", "c"))) == pytest.approx(2 / 3)


def test_matthews_of_two_and_of_three_classes():
    tn, fp, fn, tp = 50, 10, 5, 35
    assert metrics.matthews(BINARY) == pytest.approx((tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))
    x, y = np.eye(3)[THREE.golds], np.eye(3)[THREE.answers]  # Gorodkin's correlation of the indicator matrices
    covariance = lambda a, b: ((a - a.mean(0)) * (b - b.mean(0))).sum()
    assert metrics.matthews(THREE) == pytest.approx(covariance(x, y) / np.sqrt(covariance(x, x) * covariance(y, y)))
    assert metrics.matthews(of_counts([[5, 0], [5, 0]])) == 0.0


def test_confusion():
    assert metrics.confusion(THREE).tolist() == [[2, 1, 0], [0, 3, 0], [1, 0, 3]]


def test_pearson_by_hand():
    """x - mean: -1.5 -.5 .5 1.5; y - mean: -1.75 .25 -.75 2.25: covariance 5.5 over sqrt(5 x 8.75)."""
    assert metrics.pearson(numbers([1, 2, 3, 4], [1, 3, 2, 5])) == pytest.approx(5.5 / np.sqrt(5 * 8.75))
    assert metrics.pearson(numbers([1, 2, 3], [0.1, 0.1, 0.1])) == 0.0


def test_pearson_far_from_zero():
    """Sums of squares in float32 would leave nothing of this."""
    x = np.arange(100, dtype=np.float32)
    assert metrics.pearson(numbers(x + 4096, -x + 8192)) == pytest.approx(-1.0)


def test_spearman_by_hand():
    """Ranks 1 2 3 4 and, with a tie, 1 2.5 2.5 4: covariance 4.5 over sqrt(5 x 4.5)."""
    assert metrics.spearman(numbers([1, 2, 3, 4], [10, 20, 20, 1000])) == pytest.approx(4.5 / np.sqrt(5 * 4.5))


def test_multirc_questions():
    """Two questions of paragraph 0 and one of paragraph 1 with the number of another; the first alone is right in every answer."""
    idx = [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 2], [1, 0, 3]]
    p = classes([1, 0, 1, 0, 1], [1, 0, 0, 0, 0], idx)
    assert metrics.question_exact_match(p) == pytest.approx(1 / 3)
    assert metrics.f1a(p) == pytest.approx(2 * 1 / (2 * 1 + 0 + 2))
    order = [3, 0, 4, 2, 1]  # what belongs together need not stand together
    assert metrics.question_exact_match(classes(p.golds[order], p.answers[order], p.idx[order])) == pytest.approx(1 / 3)


def test_squad_normalisation():
    assert metrics.normalised(" The  Cat's, an (old) one. ") == "cats old one"
    assert metrics.normalised("Theatre") == "theatre"


def test_record_takes_the_best_gold():
    p = words([["New York", "New York City"], ["Nuria"], ["Paul"]], ["the new york!", "Nuria Lopez", "Bob"])
    assert metrics.text_exact_match(p) == pytest.approx(1 / 3)
    assert metrics.text_f1(p) == pytest.approx((1 + 2 * 1 / (2 + 1) + 0) / 3)


def test_record_counts_repeated_words_once_each():
    """One of two "duran" is shared with a gold that has one: precision 1/2, recall 1."""
    assert metrics.text_f1(words([["Duran"]], ["Duran Duran"])) == pytest.approx(2 / 3)


def test_gender_parity():
    """Pairs 0 and 1, 2 and 3 and so on, in any order, labelled or not; a row without its partner counts nothing."""
    assert metrics.gender_parity(classes([0, 0, 1, 1, -1, -1], [1, 1, 0, 1, 0, 0])) == pytest.approx(2 / 3)
    assert metrics.gender_parity(classes([0] * 5, [1, 0, 1, 1, 1], [3, 0, 2, 1, 8])) == pytest.approx(1 / 2)


def test_extracted_answers():
    assert metrics.span_exact_match(classes([[1, 2], [0, 3], [-1, -1]], [[1, 2], [0, 2], [0, 0]])) == 0.5


def test_scikit_learn_agrees():
    from sklearn import metrics as sk

    rng = np.random.default_rng(0)
    for number in (2, 3):
        golds = rng.integers(0, number, 300)
        answers = np.where(rng.random(300) < 0.6, golds, rng.integers(0, number, 300))
        p = classes(golds, answers)
        assert metrics.accuracy(p) == pytest.approx(sk.accuracy_score(golds, answers), abs=1e-12)
        assert metrics.macro_f1(p) == pytest.approx(sk.f1_score(golds, answers, average="macro"), abs=1e-12)
        assert metrics.matthews(p) == pytest.approx(sk.matthews_corrcoef(golds, answers), abs=1e-12)
        assert metrics.confusion(p).tolist() == sk.confusion_matrix(golds, answers).tolist()
        if number == 2:
            assert metrics.f1(p) == pytest.approx(sk.f1_score(golds, answers), abs=1e-12)


def test_scipy_agrees():
    from scipy import stats

    rng = np.random.default_rng(1)
    golds = rng.integers(0, 26, 200) / 5  # many ties
    answers = (golds + rng.normal(size=200)).round(1)
    p = Predictions(np.arange(200), golds, answers)
    assert metrics.pearson(p) == pytest.approx(stats.pearsonr(golds, answers).statistic, abs=1e-12)
    assert metrics.spearman(p) == pytest.approx(stats.spearmanr(golds, answers).statistic, abs=1e-12)
