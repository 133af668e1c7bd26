"""Sentence-order prediction beside masked LM."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.engine.sockets import Context
from rootstock.models import albert, electra
from rootstock.models.layers import parameters
from rootstock.pretrain.objectives.mlm import MaskedLM
from rootstock.pretrain.objectives.sop import SentenceOrder

VOCABULARY = types.SimpleNamespace(size=23, mask_id=4, special_ids=(0, 1, 2, 3, 4))
CONFIG = albert.Config(vocab_size=23, width=8, layers=2, heads=2, mlp_width=8, max_length=12, embedding_width=4, init_std=0.5)
CTX = Context(step=jnp.zeros((), jnp.int32), key=jax.random.key(3))


@pytest.fixture(scope="module")
def batch():
    ids = np.random.default_rng(0).integers(5, 23, (4, 12))
    integers = dict(
        input_ids=ids, segment_ids=np.ones_like(ids), positions=np.arange(12) + 0 * ids, token_type_ids=(np.arange(12) > 5) + 0 * ids
    )
    found = {name: jnp.asarray(x, jnp.int32) for name, x in integers.items()}
    return found | {"is_swapped": jnp.asarray([1, 0, 0, 1]), "weight": jnp.asarray([1.0, 1.0, 0.0, 1.0])}


def test_both_terms_by_hand(batch):
    """The cross-entropy of the pooler's two classes over the rows with weight; the masked-LM term is that of masked LM alone."""
    graphdef, params = parameters.split(jax.jit(lambda key: albert.PreTraining(CONFIG, key))(jax.random.key(0)))
    objective = SentenceOrder(MaskedLM(VOCABULARY), 0.5)

    @jax.jit
    def run(params):
        model, prepared = parameters.merge(graphdef, params), objective.prepare(batch, CTX)
        inputs = {name: prepared[name] for name in ("token_type_ids", "segment_ids", "positions")}
        logits = model.next_sentence_logits(model.hidden(prepared["input_ids"], **inputs))
        return objective(model, prepared, CTX), objective.mlm(model, prepared, CTX), objective.weights(prepared), logits

    loss, alone, weights, logits = run(params)
    logits = np.asarray(logits, np.float64)
    costs = np.log(np.exp(logits).sum(-1)) - logits[np.arange(4), [1, 0, 0, 1]]
    np.testing.assert_allclose(loss.terms["sop"].total, costs[[0, 1, 3]].sum(), rtol=1e-5)
    np.testing.assert_allclose(loss.terms["mlm"].total, alone.terms["mlm"].total, rtol=1e-6)
    assert weights.keys() == loss.terms.keys() == objective.scales.keys() == {"mlm", "sop"} and weights["sop"] == 3
    assert float(objective.scales["sop"](0)) == 0.5 and loss.metrics["sop_accuracy"].weight == 3


def test_without_its_head(batch):
    model = electra.Generator(electra.Config(vocab_size=23, width=8, layers=1, heads=2, mlp_width=8), jax.random.key(0))
    objective = SentenceOrder(MaskedLM(VOCABULARY))
    with pytest.raises(ValueError, match="asks for the order of two sentences, and Generator has no head"):
        jax.eval_shape(lambda: objective(model, objective.prepare(batch, CTX), CTX))
