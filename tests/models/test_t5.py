"""T5: what it is made of, and what must not change what it computes. Parity with torch is in test_t5_hf.py."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rootstock.models import t5
from rootstock.models.layers import activations, parameters
from rootstock.models.layers.mlp import GatedMLP

GATED = dict(mlp=GatedMLP, activation=activations.gelu_tanh, tied=False)
TINY = t5.Config(vocab_size=31, width=16, layers=2, heads=2, head_dim=6, mlp_width=24, buckets=8, max_distance=12)


@pytest.mark.parametrize("config, count", [
    (t5.Config(), 60_506_624),  # t5-small and t5-base, as the card says
    (t5.Config(width=768, layers=12, heads=12, mlp_width=3072), 222_903_552),
    (t5.Config(layers=8, heads=6, mlp_width=1024, **GATED), 76_961_152),  # t5-v1_1-small
    (t5.Config(vocab_size=250112, layers=8, heads=6, mlp_width=1024, **GATED), 300_176_768),  # mt5-small
    (t5.Config(vocab_size=384, width=1472, layers=12, decoder_layers=4, heads=6, mlp_width=3584, **GATED), 299_637_760),  # byt5-small
])  # fmt: skip
def test_parameter_counts(config, count):
    model = parameters.abstract(lambda key: t5.T5(config, key))
    assert sum(math.prod(spec.shape) for spec in parameters.specs(model).values()) == count


def test_shift_right():
    ids = jnp.asarray([[5, 6, 7, 1, 8, 1, 0, 0]])
    assert t5.shift_right(ids, 0).tolist() == [[0, 5, 6, 7, 1, 8, 1, 0]]
    segments = jnp.asarray([[1, 1, 1, 1, 2, 2, 0, 0]])
    assert t5.shift_right(ids, 9, segments).tolist() == [[9, 5, 6, 7, 9, 8, 9, 0]]
    assert t5.shift_right(ids[:, :1], 3, segments[:, :1]).tolist() == [[3]]


@pytest.fixture(scope="module")
def tiny():
    return jax.jit(lambda key: parameters.split(t5.T5(TINY, key))[1])(jax.random.key(0))


def logits(params, *args, **inputs):
    graphdef = nnx.split(parameters.abstract(lambda key: t5.T5(TINY, key)))[0]
    return jax.jit(lambda params: parameters.merge(graphdef, params)(*args, **inputs).logits)(params)


IDS, TARGETS = jnp.asarray([[3, 4, 5, 6, 1]]), jnp.asarray([[0, 9, 8, 7]])


def test_a_target_sees_nothing_that_follows(tiny):
    other = TARGETS.at[0, 2].set(20)
    before, after = logits(tiny, IDS, TARGETS), logits(tiny, IDS, other)
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert np.abs(before[:, 2:] - after[:, 2:]).max() > 1e-3


def test_other_segments_of_either_side_change_nothing(tiny):
    """Padding behind the inputs, another segment before the targets, which causality does not hide."""
    plain = logits(tiny, IDS, TARGETS)
    ids, targets = jnp.pad(IDS, ((0, 0), (0, 3)), constant_values=9), jnp.pad(TARGETS, ((0, 0), (2, 0)), constant_values=9)
    of_ids, of_targets = jnp.asarray([[2] * 5 + [0] * 3]), jnp.asarray([[1] * 2 + [2] * 4])
    masked = logits(tiny, ids, targets, segment_ids=of_ids, decoder_segment_ids=of_targets)
    np.testing.assert_allclose(masked[:, 2:], plain, rtol=0, atol=1e-6)


def test_dropout_is_of_the_key(tiny):
    at = lambda key: logits(tiny, IDS, TARGETS, key=key)
    np.testing.assert_array_equal(at(jax.random.key(1)), at(jax.random.key(1)))
    assert np.abs(at(jax.random.key(1)) - at(jax.random.key(2))).max() > 1e-2
    assert np.abs(at(jax.random.key(1)) - logits(tiny, IDS, TARGETS)).max() > 1e-2
