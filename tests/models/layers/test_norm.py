"""Normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.models.layers.norm import LayerNorm, RMSNorm


def test_root_mean_square_by_hand():
    norm = RMSNorm(2, eps=0.0)
    norm.scale[...] = jnp.asarray([1.0, 10.0])
    np.testing.assert_allclose(norm(jnp.asarray([[3.0, 4.0]])), [[3 / np.sqrt(12.5), 40 / np.sqrt(12.5)]], rtol=1e-6)


@pytest.mark.parametrize("factor", [0.1, 7.0, 1e4])
def test_a_scaled_input_gives_the_same(factor):
    """c > 0 leaves the output as it is, up to the epsilon; the mean is not taken off, so a shift does not."""
    norm, x = RMSNorm(16), jax.random.normal(jax.random.key(0), (3, 16))
    np.testing.assert_allclose(norm(factor * x), norm(x), rtol=2e-4, atol=0)  # epsilon is 1e-4 of the small one's square
    assert np.abs(norm(x + 1) - norm(x)).max() > 0.1
    np.testing.assert_allclose(LayerNorm(16)(x + 1), LayerNorm(16)(x), rtol=0, atol=1e-5)


def test_half_precision_is_normalised_in_float32():
    """Squares of 300 overflow float16; bfloat16 would lose the small ones."""
    found = RMSNorm(4)(jnp.full((1, 4), 300.0, jnp.float16))
    assert found.dtype == jnp.float16
    np.testing.assert_allclose(found, 1.0, rtol=1e-3)
