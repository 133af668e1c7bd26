"""Rows that the objectives are tried on."""

import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture(scope="module")
def batch():
    """Four rows of 12 tokens from a vocabulary of 23: a whole one, two padded ones, and one that is padding alone."""
    draws = np.random.default_rng(0)
    present = np.arange(12) < np.array([[12], [7], [0], [9]])
    integers = dict(
        input_ids=draws.integers(5, 23, (4, 12)) * present,
        segment_ids=present,
        positions=np.arange(12) * present,
        token_type_ids=present * (np.arange(12) > 5),
        is_random_next=np.array([1, 0, 0, 1]),
    )
    return {name: jnp.asarray(x, jnp.int32) for name, x in integers.items()} | {"weight": jnp.asarray([1.0, 1.0, 0.0, 1.0])}
