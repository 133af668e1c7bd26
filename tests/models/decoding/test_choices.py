"""What is drawn and how often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.models.decoding.choices import Sampling, greedy
from rootstock.models.decoding.stepwise import Stepwise

P = np.array([0.05, 0.4, 0.1, 0.25, 0.2], np.float32)
LOGITS = jnp.log(jnp.asarray(P)) + 3
DRAWS = 20_000


def drawn(sampling, logits=LOGITS, seed=0):
    """How often each token is drawn, of DRAWS rows."""
    keys = jax.random.split(jax.random.key(seed), DRAWS)
    ids = jax.jit(sampling)(jnp.broadcast_to(logits[None], (DRAWS, len(logits))), keys)
    return np.bincount(np.asarray(ids), minlength=len(logits)) / DRAWS


def allowed(sampling, logits=LOGITS):
    values, ids = sampling.kept(logits[None])
    return sorted(np.asarray(ids)[np.isfinite(values)].tolist())


@pytest.mark.parametrize(
    "sampling, kept",
    [
        (Sampling(), [0, 1, 2, 3, 4]),
        (Sampling(top_k=1), [1]),
        (Sampling(top_k=3), [1, 3, 4]),
        (Sampling(top_k=99), [0, 1, 2, 3, 4]),
        (Sampling(top_p=0.3), [1]),
        (Sampling(top_p=0.41), [1, 3]),
        (Sampling(top_p=0.66), [1, 3, 4]),
        (Sampling(top_p=0.96), [0, 1, 2, 3, 4]),
        (Sampling(top_k=3, top_p=0.7), [1, 3]),  # 0.4 and 0.25 of 0.85 are 0.76
        (Sampling(top_k=3, top_p=0.8), [1, 3, 4]),
        (Sampling(temperature=0.5, top_p=0.6), [1, 3]),  # squares: 0.16, 0.0625, 0.04, 0.01, 0.0025 of 0.275
        (Sampling(temperature=0.5, top_p=0.83), [1, 3, 4]),
    ],
)
def test_frequencies_are_the_probabilities_of_what_is_kept(sampling, kept):
    """Each frequency within 4.5 standard deviations, sqrt(p (1 - p) / n) <= 0.0035: a right sampler fails once in 10^4 runs, and the seed
    is fixed."""
    assert allowed(sampling) == kept
    want = np.where(np.isin(np.arange(5), kept), P ** (1 / sampling.temperature), 0)
    want /= want.sum()
    found = drawn(sampling)
    assert np.all(np.abs(found - want) <= 4.5 * np.sqrt(want * (1 - want) / DRAWS)), (found, want)


def test_equal_tokens_are_kept_in_order():
    flat = jnp.zeros(6)
    assert allowed(Sampling(top_k=2), flat) == [0, 1]
    assert allowed(Sampling(top_p=0.49), flat) == [0, 1, 2]


@pytest.mark.parametrize("temperature", [1e-3, 1e-38])
def test_cold_is_greedy(temperature):
    logits = jax.random.normal(jax.random.key(1), (64, 11))
    keys = jax.random.split(jax.random.key(2), 64)
    np.testing.assert_array_equal(Sampling(temperature)(logits, keys), greedy(logits, keys))


def test_a_row_draws_the_same_in_any_batch(chain, run):
    """Its key is its own; each step draws anew."""
    model = chain(np.random.default_rng(0).normal(size=(9, 9)))
    search = Stepwise(Sampling(top_p=0.9))
    whole = run(model, search, [[2], [3], [2], [2]], length=12, end=99)
    for row, first in enumerate((2, 3, 2, 2)):
        np.testing.assert_array_equal(run(model, search, [[first]], length=12, end=99, first=row).ids[0], whole.ids[row])
    assert len({tuple(ids) for ids in whole.ids.tolist()}) == 4
    other = run(model, search, [[2], [3], [2], [2]], length=12, end=99, seed=1)
    assert (other.ids != whole.ids).any(1).all()
    still = run(chain(np.zeros((9, 9))), search, [[0]], length=200, end=99).ids[0]
    assert len(set(still.tolist())) == 9  # with one key for all steps it would be one token


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"temperature": 0.0}, "temperature is 0.0; expected a number above 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": 0}, "top_k is 0; expected 1 or more"),
        ({"top_p": 0.0}, "top_p is 0.0; expected a number above 0, at most 1"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_mistakes(wrong, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**wrong)
