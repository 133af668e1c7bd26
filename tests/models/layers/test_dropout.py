"""models/layers/dropout.py: shares, scale, independence of the two halves of a word, odd widths, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.models.layers.dropout import dropout

ROWS = 4000


def kept(rate, width, seed=0):
    return np.asarray(dropout(jnp.ones((ROWS, width)), rate, jax.random.key(seed)) > 0)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("width", [1, 7, 64])
def test_shares(rate, width):
    """Every place of a row and all together are dropped at the rate, within five deviations; rows vary as independent places do."""
    mask = kept(rate, width)
    for axis, count in ((0, ROWS), (None, ROWS * width)):
        assert np.all(np.abs(mask.mean(axis) - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / count))
    np.testing.assert_allclose(mask.mean(1).var(), rate * (1 - rate) / width, rtol=0.3)


def test_places_are_independent():
    """Also those that one word serves: no two columns, and no neighbouring rows, go together."""
    mask = kept(0.5, 64).astype(np.float64)
    together = np.corrcoef(mask, rowvar=False) - np.eye(64)
    assert np.abs(together).max() < 5.5 / np.sqrt(ROWS)
    assert abs(np.corrcoef(mask[1:].ravel(), mask[:-1].ravel())[0, 1]) < 5 / np.sqrt(mask.size)
    assert abs(np.corrcoef(mask.ravel(), kept(0.5, 64, seed=1).ravel())[0, 1]) < 5 / np.sqrt(mask.size)


def test_what_is_kept_is_scaled_and_the_derivative_is_its_mask():
    x = jax.random.normal(jax.random.key(1), (8, 5))
    y, back = jax.vjp(lambda x: dropout(x, 0.25, jax.random.key(2)), x)
    mask = np.asarray(y) != 0
    assert 0 < mask.sum() < mask.size
    np.testing.assert_allclose(y, np.where(mask, x / 0.75, 0), rtol=1e-6)
    np.testing.assert_allclose(back(jnp.ones_like(x))[0], mask / 0.75, rtol=1e-6)


@pytest.mark.parametrize(("rate", "key"), [(0.0, jax.random.key(0)), (0.3, None)])
def test_nothing_is_dropped_without_a_rate_or_a_key(rate, key):
    x = jnp.arange(6.0).reshape(2, 3)
    assert dropout(x, rate, key) is x
