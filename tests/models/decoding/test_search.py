"""Searches over a Markov chain, where the best rows can be listed."""

import itertools

import numpy as np
import pytest

from rootstock.models.decoding.beam import BeamSearch
from rootstock.models.decoding.stepwise import Stepwise

END, WORDS, LENGTH = 1, 4, 4
TABLE = np.random.default_rng(2).normal(size=(WORDS, WORDS)).astype(np.float32)
LOG_P = TABLE - np.log(np.exp(TABLE).sum(-1, keepdims=True))


def rows():
    """Every row that can be generated: to the end token, or to LENGTH."""
    for length in range(1, LENGTH + 1):
        for row in itertools.product(range(WORDS), repeat=length):
            if END not in row[:-1] and (row[-1] == END or length == LENGTH):
                yield row


def likelihood(first, row):
    return sum(LOG_P[last, token] for last, token in zip((first, *row), row, strict=False))


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0, -1.0])
def test_with_enough_beams_the_best_of_all_rows_is_found(chain, run, penalty):
    """64 beams hold every row of four tokens, so nothing is lost and nothing stops early."""
    found = run(chain(TABLE), BeamSearch(64, penalty), [[0], [2], [3]], length=LENGTH)
    for row, first in enumerate((0, 2, 3)):
        best = max(rows(), key=lambda tokens: likelihood(first, tokens) / len(tokens) ** penalty)
        np.testing.assert_array_equal(found.ids[row], (*best, *[0] * (LENGTH - len(best))))
        np.testing.assert_allclose(found.scores[row], likelihood(first, best) / len(best) ** penalty, rtol=1e-5)


def test_one_beam_is_greedy(chain, run):
    greedy = run(chain(TABLE), Stepwise(), [[0], [2], [3]], length=LENGTH)
    beam = run(chain(TABLE), BeamSearch(1, 0.0), [[0], [2], [3]], length=LENGTH)
    np.testing.assert_array_equal(beam.ids, greedy.ids)
    np.testing.assert_allclose(beam.scores, greedy.scores, rtol=1e-6)


COUNT_UP = np.where(np.roll(np.eye(8), 1, axis=1) > 0, 9.0, 0.0).astype(np.float32)  # 2 -> 3 -> ... -> 7 -> 0 -> 1, the end


@pytest.mark.parametrize("search, most", [(Stepwise(), 4), (BeamSearch(2, 1.0), 6)])
def test_stops_when_every_row_is_finished(chain, run, search, most):
    """From 5 the end is four steps away, from 7 two; the rest of 50 steps is not run. A row that is all padding does not count."""
    model = chain(COUNT_UP)
    found = run(model, search, [[5], [7], [2]], [[1], [1], [0]], length=50)
    assert 4 <= len(model.steps) <= most
    np.testing.assert_array_equal(found.ids[:, :5], [[6, 7, 0, 1, 0], [0, 1, 0, 0, 0], [0] * 5])
    assert not found.ids[:, 5:].any()


def test_a_row_that_reaches_no_end_has_all_its_tokens(chain, run):
    found = run(chain(COUNT_UP), Stepwise(), [[2], [7]], length=3)
    np.testing.assert_array_equal(found.ids, [[3, 4, 5], [0, 1, 0]])
    np.testing.assert_allclose(found.scores, np.array([3, 2]) * (9 - np.log(np.exp(9) + 7)), atol=1e-5)
    np.testing.assert_array_equal(run(chain(COUNT_UP), BeamSearch(2), [[2], [7]], length=3).ids, found.ids)
    assert run(chain(COUNT_UP), BeamSearch(2), [[2]], length=1).ids.tolist() == [[3]]


def test_beams_are_checked():
    with pytest.raises(ValueError, match="beams is 0; expected 1 or more"):
        BeamSearch(0)
