"""Positions inside attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.models.layers.dense import normal
from rootstock.models.layers.positions import RelativeBias, Rotary, relative_buckets


@pytest.mark.parametrize("bidirectional, buckets", [
    (True, {0: 0, -1: 1, 1: 17, -7: 7, -8: 8, -12: 9, -16: 10, -64: 14, -127: 15, -128: 15, 128: 31, -5000: 15, 5000: 31}),
    (False, {0: 0, -1: 1, -15: 15, -16: 16, -40: 23, -128: 31, -5000: 31, 1: 0, 300: 0}),
])  # fmt: skip
def test_buckets_of_t5(bidirectional, buckets):
    """Of 32 buckets up to a distance of 128, by the paper's formula worked out by hand; a distance is the key's place less the query's."""
    distances = jnp.asarray(list(buckets), jnp.int32)
    assert relative_buckets(distances, bidirectional=bidirectional).tolist() == list(buckets.values())


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_never_fall_with_distance(bidirectional):
    found = np.asarray(relative_buckets(-jnp.arange(200), buckets=12, max_distance=50, bidirectional=bidirectional))
    assert (np.diff(found) >= 0).all() and found[0] == 0 and found[-1] == (5 if bidirectional else 11)


def test_bias_is_the_entry_of_the_bucket():
    bias = RelativeBias(jax.random.key(0), 3, bidirectional=True, buckets=8, max_distance=20, init=normal(1.0))
    found = bias(jnp.arange(4, 7), jnp.arange(9))  # queries 4 to 6 of a longer row
    assert found.shape == (1, 3, 3, 9)
    np.testing.assert_array_equal(found[0, :, 0, 4], bias.table[0])
    np.testing.assert_array_equal(found[0, :, 2, 5], bias.table[1])  # one to the left
    np.testing.assert_array_equal(found[0, :, 0, 5], bias.table[5])  # one to the right: half of the table further


def test_rotation_by_hand():
    """Head size 4: the pair (0, 2) turns by one radian a position, the pair (1, 3) by theta^(-1/2)."""
    rotary = Rotary(theta=100.0)
    x = jnp.asarray([1.0, 2.0, 3.0, 4.0])[None, None, None]
    a, b = 2.0, 2.0 / 10
    wanted = [np.cos(a) - 3 * np.sin(a), 2 * np.cos(b) - 4 * np.sin(b), 3 * np.cos(a) + np.sin(a), 4 * np.cos(b) + 2 * np.sin(b)]
    np.testing.assert_allclose(rotary(x, jnp.asarray([[2]]))[0, 0, 0], wanted, rtol=1e-6)
    np.testing.assert_array_equal(rotary(x, None), x)  # position 0


def test_rotated_products_know_the_distance_alone():
    q, k = jax.random.normal(jax.random.key(1), (2, 1, 1, 2, 8))
    at = lambda x, position: Rotary()(x, jnp.asarray([[position]]))
    products = [jnp.einsum("blhd,blhd->h", at(q, 3 + shift), at(k, 10 + shift)) for shift in (0, 5, 900)]
    np.testing.assert_allclose(products[1], products[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(products[2], products[0], rtol=0, atol=5e-4)  # angles of 900 radians have 6e-5 left in float32
    assert np.abs(jnp.einsum("blhd,blhd->h", at(q, 3), at(k, 11)) - products[0]).max() > 0.05
