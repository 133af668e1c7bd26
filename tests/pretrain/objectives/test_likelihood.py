"""The text-to-text and the causal objective against sums done by hand, packed against one at a time."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.engine.sockets import Context
from rootstock.models import decoder, t5
from rootstock.pretrain.objectives.causal import CausalLM
from rootstock.pretrain.objectives.likelihood import token_terms
from rootstock.pretrain.objectives.seq2seq import Seq2Seq

CTX = Context(step=jnp.zeros((), jnp.int32), key=jax.random.key(0))
TINY = dict(vocab_size=31, width=16, heads=2, head_dim=8, mlp_width=24, layers=2)


def ids(*lengths, seed=0):
    chance = np.random.default_rng(seed)
    return [chance.integers(2, 31, n).astype(np.int32) for n in lengths]


def rows(groups, length):
    """Each group packed into one row: ids, segments, positions."""
    found = np.zeros((3, len(groups), length), np.int32)
    for row, group in enumerate(groups):
        start = 0
        for segment, piece in enumerate(group, start=1):
            place = slice(start, start + len(piece))
            found[:, row, place] = piece, np.full(len(piece), segment), np.arange(len(piece))
            start += len(piece)
    return map(jnp.asarray, found)


def causal_batch(groups, length):
    input_ids, segment_ids, positions = rows(groups, length)
    return dict(input_ids=input_ids, segment_ids=segment_ids, positions=positions, weight=jnp.ones(len(groups)))


def text_batch(pairs, length, targets):
    input_ids, segment_ids, _ = rows([[a for a, _ in group] for group in pairs], length)
    target_ids, target_segment_ids, _ = rows([[b for _, b in group] for group in pairs], targets)
    weight = jnp.ones(len(pairs))
    return dict(input_ids=input_ids, segment_ids=segment_ids, target_ids=target_ids, target_segment_ids=target_segment_ids, weight=weight)


def test_token_terms():
    """Two tokens over three classes, one of weight 0: -log softmax and log Z squared, by hand."""
    logits = jnp.log(jnp.asarray([[[1.0, 2.0, 5.0], [4.0, 4.0, 8.0]]]))
    term, metrics = token_terms(logits, jnp.asarray([[1, 2]]), jnp.asarray([[1.0, 0.0]]), 0.1)
    np.testing.assert_allclose(term.total, -np.log(2 / 8) + 0.1 * np.log(8) ** 2, rtol=1e-6)
    np.testing.assert_allclose(metrics["nll"].total, -np.log(2 / 8), rtol=1e-6)
    assert term.weight == 1 and metrics["token_accuracy"].total == 0


def loss(objective, model, batch):
    return jax.jit(lambda batch: objective(model, batch, CTX))(batch)


@pytest.fixture(scope="module")
def lm():
    return decoder.Decoder(decoder.Config(**TINY, init_std=0.3), jax.random.key(0))


@pytest.fixture(scope="module")
def text_model():
    return t5.T5(t5.Config(**TINY, dropout=0.0), jax.random.key(0))


def test_causal_packed_equals_alone(lm):
    pieces = ids(5, 3, 1, 6)
    alone = loss(CausalLM(), lm, causal_batch([[piece] for piece in pieces], 7))
    packed = loss(CausalLM(), lm, causal_batch([pieces[:2], pieces[2:]], 8))
    assert alone.terms["lm"].weight == packed.terms["lm"].weight == 4 + 2 + 0 + 5
    np.testing.assert_allclose(packed.terms["lm"].total, alone.terms["lm"].total, rtol=1e-5)
    np.testing.assert_allclose(CausalLM().weights(causal_batch([pieces[:2], pieces[2:]], 8))["lm"], 11)


def test_causal_over_targets_alone(lm):
    """What is only read has no loss: the sum over all targets less that over the read ones, by themselves."""
    batch = causal_batch([ids(8)], 8)
    marked = lambda *places: batch | {"is_target": jnp.zeros((1, 8), jnp.int32).at[0, jnp.asarray(places)].set(1)}
    whole, read, told = (loss(CausalLM(), lm, b).terms["lm"] for b in (batch, marked(0, 1, 2), marked(3, 4, 5, 6, 7)))
    assert (whole.weight, read.weight, told.weight) == (7, 2, 5)  # nothing comes before the first
    np.testing.assert_allclose(whole.total, read.total + told.total, rtol=1e-5)


def test_a_vocabulary_that_the_model_is_too_small_for(lm, text_model):
    size = types.SimpleNamespace(size=32)
    for objective, model, batch in (
        (CausalLM(vocabulary=size), lm, causal_batch([ids(4)], 4)),
        (Seq2Seq(vocabulary=size), text_model, text_batch([[(*ids(3), *ids(2))]], 3, 2)),
    ):
        with pytest.raises(ValueError, match="the vocabulary has 32 ids, sentinels included, the model's vocab_size is 31"):
            loss(objective, model, batch)


def test_causal_sees_no_future(lm):
    """Another last token changes the loss of its own prediction alone."""
    (piece,) = ids(6)
    batch = causal_batch([[piece]], 6)
    other = batch | {"input_ids": batch["input_ids"].at[0, -1].set((piece[-1] - 1) % 29 + 2)}
    before, after = (lm(b["input_ids"], segment_ids=b["segment_ids"], positions=b["positions"]).logits for b in (batch, other))
    np.testing.assert_array_equal(before[:, :-1], after[:, :-1])
    assert (before[:, -1] != after[:, -1]).any()


def test_seq2seq_packed_equals_alone(text_model):
    pairs = list(zip(ids(5, 3, 4, 2), ids(2, 4, 1, 3, seed=1), strict=True))
    alone = loss(Seq2Seq(z_loss=1e-2), text_model, text_batch([[pair] for pair in pairs], 6, 5))
    packed = loss(Seq2Seq(z_loss=1e-2), text_model, text_batch([pairs[:2], pairs[2:]], 9, 6))
    assert alone.terms["seq2seq"].weight == packed.terms["seq2seq"].weight == 10
    np.testing.assert_allclose(packed.terms["seq2seq"].total, alone.terms["seq2seq"].total, rtol=1e-5)


def test_padding_rows_weigh_nothing(text_model):
    pairs = list(zip(ids(5, 3), ids(2, 4, seed=1), strict=True))
    batch = text_batch([[pair] for pair in pairs], 6, 5) | {"weight": jnp.asarray([1.0, 0.0])}
    found = loss(Seq2Seq(), text_model, batch).terms["seq2seq"]
    alone = loss(Seq2Seq(), text_model, text_batch([pairs[:1]], 6, 5)).terms["seq2seq"]
    assert found.weight == 2
    np.testing.assert_allclose(found.total, alone.total, rtol=1e-5)
