import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.engine.sockets import Context
from rootstock.models import bert
from rootstock.models.layers import parameters
from rootstock.pretrain.objectives.mlm import MaskedLM

VOCABULARY = types.SimpleNamespace(size=23, mask_id=4, special_ids=(0, 1, 2, 3, 4))
CONFIG = bert.Config(
    vocab_size=23, width=8, layers=1, heads=2, mlp_width=8, max_length=12, dropout=0.0, attention_dropout=0.0, init_std=0.5
)
CTX = Context(step=jnp.zeros((), jnp.int32), key=jax.random.key(3))


@pytest.fixture(scope="module")
def model():
    """Structure and parameters; the output bias, which begins at zero, is random."""
    graphdef, params = parameters.split(jax.jit(lambda key: bert.PreTraining(CONFIG, key))(jax.random.key(0)))
    return graphdef, params | {"mlm/bias": jax.random.normal(jax.random.key(1), (23,))}


def terms(objective, model, batch, params=None):
    graphdef, own = model

    @jax.jit
    def run(params, batch):
        prepared = objective.prepare(batch, CTX)
        loss = objective(parameters.merge(graphdef, params), prepared, CTX)
        return loss, objective.weights(prepared), prepared

    return run(own if params is None else params, batch)


def test_uniform_logits_cost_log_of_the_vocabulary(model, batch):
    """With the token table and the bias at zero every token is as likely; the weight is the number of masked tokens, 2 + 1 + 0 + 1."""
    zero = {name: jnp.zeros_like(x) if name in ("encoder/embeddings/token/table", "mlm/bias") else x for name, x in model[1].items()}
    loss, weights, _ = terms(MaskedLM(VOCABULARY), model, batch, zero)
    assert loss.terms["mlm"].weight == weights["mlm"] == 4
    np.testing.assert_allclose(loss.terms["mlm"].total / 4, np.log(23), rtol=1e-6)


def test_loss_and_accuracy_by_hand(model, batch):
    """Cross-entropy of all positions' logits, read at the masked ones; NSP over the rows with weight."""
    loss, weights, prepared = terms(MaskedLM(VOCABULARY, rate=0.4, nsp_scale=0.5), model, batch)
    net = parameters.merge(*model)
    out = jax.jit(
        lambda x: net(x["input_ids"], token_type_ids=x["token_type_ids"], segment_ids=x["segment_ids"], positions=x["positions"])
    )(prepared)
    logits = np.asarray(out.logits, np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    total = right = count = 0
    for row, places in enumerate(np.asarray(prepared["masked_positions"])):
        for place, label, weight in zip(
            places, np.asarray(prepared["masked_labels"][row]), np.asarray(prepared["masked_weights"][row]), strict=True
        ):
            total, count = total - weight * log_p[row, place, label], count + weight
            right += weight * (logits[row, place].argmax() == label)
            assert weight == 0 or label == batch["input_ids"][row, place]
    assert count == 5 + 3 + 0 + 4 == weights["mlm"]
    np.testing.assert_allclose(loss.terms["mlm"].total, total, rtol=1e-5)
    assert (loss.metrics["mlm_accuracy"].total, loss.metrics["mlm_accuracy"].weight) == (right, count)
    pairs = np.asarray(jax.jit(net.next_sentence_logits)(out.last_hidden_state), np.float64)
    costs = np.log(np.exp(pairs).sum(-1)) - pairs[np.arange(4), [1, 0, 0, 1]]
    np.testing.assert_allclose(loss.terms["nsp"].total, costs[[0, 1, 3]].sum(), rtol=1e-5)
    assert loss.terms["nsp"].weight == weights["nsp"] == 3


def test_next_sentence_is_off_by_default(model, batch):
    objective = MaskedLM(VOCABULARY)
    without = {name: x for name, x in batch.items() if name != "is_random_next"}
    loss, weights, _ = terms(objective, model, without)
    assert loss.terms.keys() == weights.keys() == objective.scales.keys() == {"mlm"}
    assert {name: scale(0) for name, scale in MaskedLM(VOCABULARY, nsp_scale=0.5).scales.items()} == {"mlm": 1.0, "nsp": 0.5}


def test_tied_table_gets_both_gradients(model, batch):
    """d/dE of loss(E, E) is that as input table plus that as output table."""
    graphdef, params = model
    objective, name = MaskedLM(VOCABULARY, rate=0.4), "encoder/embeddings/token/table"
    prepared = jax.jit(objective.prepare)(batch, CTX)

    def loss(table_in, table_out):
        net = parameters.merge(graphdef, params | {name: table_in})
        hidden = net.encoder(
            prepared["input_ids"],
            token_type_ids=prepared["token_type_ids"],
            segment_ids=prepared["segment_ids"],
            positions=prepared["positions"],
        )
        at = jnp.take_along_axis(hidden, prepared["masked_positions"][:, :, None], axis=1)
        logits = parameters.merge(graphdef, params | {name: table_out}).masked_lm_logits(at)
        log_p = jax.nn.log_softmax(logits)
        chosen = jnp.take_along_axis(log_p, prepared["masked_labels"][:, :, None], -1)[..., 0]
        return -(chosen * prepared["masked_weights"]).sum()

    def whole(table):
        return objective(parameters.merge(graphdef, params | {name: table}), prepared, CTX).terms["mlm"].total

    tied, (as_input, as_output) = jax.jit(lambda e: (jax.grad(whole)(e), jax.grad(loss, (0, 1))(e, e)))(params[name])
    np.testing.assert_allclose(tied, as_input + as_output, rtol=1e-4, atol=1e-5)
    assert np.abs(as_input).max() > 1e-2 and np.abs(as_output).max() > 1e-2


@pytest.mark.parametrize("rate", [0, -0.1, 1.5])
def test_impossible_rates(rate):
    with pytest.raises(ValueError, match=r"MaskedLM.rate is a share of the tokens in \(0, 1\], got"):
        MaskedLM(VOCABULARY, rate=float(rate))


def test_a_vocabulary_larger_than_the_table(model, batch):
    larger = types.SimpleNamespace(size=24, mask_id=4, special_ids=(0,))
    with pytest.raises(ValueError, match="the vocabulary has 24 entries, the model's vocab_size is 23"):
        terms(MaskedLM(larger), model, batch)


def test_next_sentence_without_its_head(batch):
    model = bert.MaskedLM(CONFIG, jax.random.key(0))
    objective = MaskedLM(VOCABULARY, nsp_scale=1.0)
    with pytest.raises(ValueError, match=r"nsp_scale is 1\.0, and MaskedLM has no head for next-sentence prediction"):
        jax.eval_shape(lambda: objective(model, objective.prepare(batch, CTX), CTX))
