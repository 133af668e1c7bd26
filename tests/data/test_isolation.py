"""Packed documents do not see one another: changing one changes no logit and no loss of any other, to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.data import packing
from rootstock.engine.sockets import Context
from rootstock.models import bert, t5
from rootstock.pretrain.objectives import mlm

LENGTH = 32
SIZES = (9, 4, 7, 3)  # ids of four documents; with their frames they leave one slot empty


def documents(vocabulary, seed):
    rng = np.random.default_rng(seed)
    return [rng.integers(len(vocabulary.special_ids), vocabulary.size, size).tolist() for size in SIZES]


def changed(vocabulary, which):
    """The four documents, and the same with other ids in one of them."""
    one, other = documents(vocabulary, 0), documents(vocabulary, 1)
    return one, [other[i] if i == which else one[i] for i in range(len(one))]


def batch(rows):
    return {name: jnp.asarray(np.stack([row[name] for row in rows])) for name in rows[0]}


@pytest.fixture(scope="module")
def model(vocabulary):
    config = bert.Config(vocab_size=vocabulary.size, width=16, layers=2, heads=2, mlp_width=32, max_length=LENGTH)
    return bert.MaskedLM(config, jax.random.key(0))


@pytest.mark.parametrize("which", range(len(SIZES)))
def test_bert_logits(vocabulary, model, which):
    rows = [packing.frame_row(some, LENGTH, vocabulary) for some in changed(vocabulary, which)]
    inputs = batch(rows)
    segments = rows[0]["segment_ids"]
    assert segments.max() == len(SIZES) and (segments == 0).any()
    one, other = np.asarray(model(**inputs).logits)
    same = (one == other).all(-1)
    assert (same == (segments != which + 1)).all()
    del inputs["segment_ids"]
    one, other = np.asarray(model(**inputs).logits)
    assert not (one == other).all(-1).any()  # what the segments keep apart


@pytest.mark.parametrize("which", range(len(SIZES)))
def test_masked_lm_loss(vocabulary, model, which):
    """The objective over the masked places of each document alone."""
    rows = [packing.frame_row(some, LENGTH, vocabulary) for some in changed(vocabulary, which)]
    objective = mlm.MaskedLM(vocabulary, rate=0.5)
    ctx = Context(step=jnp.zeros((), jnp.int32), key=jax.random.key(1))

    @jax.jit
    def terms(packed):
        prepared = objective.prepare(packed, ctx)
        places = prepared["masked_positions"]
        at = jnp.take_along_axis(prepared["segment_ids"], places, axis=1)
        weights = [prepared["masked_weights"] * (at == segment + 1).astype(jnp.float32) for segment in range(len(SIZES))]
        return [objective(model, {**prepared, "masked_weights": weight}, ctx).terms["mlm"] for weight in weights]

    one, other = (terms(batch([row])) for row in rows)
    assert all(term.weight > 0 for term in (*one, *other))
    assert [a.total == b.total for a, b in zip(one, other, strict=True)] == [segment != which for segment in range(len(SIZES))]


@pytest.mark.parametrize("which", range(4))
def test_encoder_decoder_logits(vocabulary, which):
    """The inputs of a pair change: its targets' logits do, no other's."""
    inputs, targets = changed(vocabulary, which), documents(vocabulary, 2)
    rows = [next(packing.pack_pairs(zip(some, targets, strict=True), LENGTH, LENGTH, vocabulary)) for some in inputs]
    packed = batch(rows)
    config = t5.Config(vocab_size=vocabulary.size, width=16, layers=2, heads=2, head_dim=8, mlp_width=32, dropout=0.0)
    model = t5.T5(config, jax.random.key(0))
    shifted = t5.shift_right(packed["target_ids"], 0, packed["target_segment_ids"])
    segments = {"segment_ids": packed["segment_ids"], "decoder_segment_ids": packed["target_segment_ids"]}
    one, other = np.asarray(model(packed["input_ids"], shifted, **segments).logits)
    assert ((one == other).all(-1) == (rows[0]["target_segment_ids"] != which + 1)).all()
