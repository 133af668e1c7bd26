"""Replaced-token detection: labels, samples, who gets whose gradient, and both halves as phases of one step."""

import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from rootstock.engine import mesh, state, step
from rootstock.engine.partitioning import Partitioner
from rootstock.engine.sockets import Context
from rootstock.models import deberta, deberta_pair, electra, sharing
from rootstock.models.layers import parameters
from rootstock.pretrain.objectives import masking
from rootstock.pretrain.objectives.mlm import MaskedLM
from rootstock.pretrain.objectives.rtd import Detection, Generation, Masking, ReplacedTokens, sample

VOCABULARY = types.SimpleNamespace(size=23, mask_id=4, special_ids=(0, 1, 2, 3, 4))
HOW = Masking(VOCABULARY, 0.4)
SMALL = dict(vocab_size=23, width=8, layers=1, heads=2, mlp_width=8, max_length=12, dropout=0.0, attention_dropout=0.0, init_std=0.5)
CTX = Context(step=jnp.zeros((), jnp.int32), key=jax.random.key(3))
WORDS = "encoder/embeddings/token"


def pair(how=sharing.tied):
    return electra.Pair, electra.PairConfig(electra.Config(**SMALL, embedding_width=4), 0.5, how)


def v3(how=sharing.disentangled):
    config = deberta.Config(**SMALL | dict(layers=2), buckets=4, max_distance=12)
    return deberta_pair.Pair, deberta_pair.PairConfig(config, 1, how)


def biased():
    config = deberta.Config(**SMALL | dict(layers=2), buckets=4, max_distance=12, position_biased=True)
    return deberta_pair.Pair, deberta_pair.PairConfig(config, 1)


@functools.cache
def drawn(make, *how):
    """Structure and parameters. A module that comes out of `jit` has lost what its parts share, so parameters are split inside."""
    family, config = make(*how)
    build = lambda key: family(config, key)
    graphdef, _ = nnx.split(parameters.abstract(build), nnx.Param)
    return graphdef, jax.jit(lambda key: parameters.split(build(key))[1])(jax.random.key(0))


def losses(objective, drawn, batch, params=None):
    graphdef, own = drawn

    @jax.jit
    def run(params, batch):
        prepared = objective.prepare(batch, CTX)
        loss = objective(parameters.merge(graphdef, params), prepared, CTX)
        return loss, objective.weights(prepared), prepared

    return run(own if params is None else params, batch)


def logits_of(labels, sure=1e4):
    return sure * jax.nn.one_hot(labels, 23)


def test_a_generator_that_guesses_right_replaces_nothing(batch):
    """Correct guesses count as original; with `disallow_correct` every masked token is another, and is labelled so."""
    prepared = jax.jit(Detection(HOW).prepare)(batch, CTX)
    labels = prepared["masked_labels"]
    corrupt, replaced = Detection(HOW).corrupt(jax.random.key(0), logits_of(labels), prepared)
    assert not replaced.any() and (corrupt == batch["input_ids"]).all()
    corrupt, replaced = Detection(HOW, disallow_correct=True).corrupt(jax.random.key(0), logits_of(labels, 3.0), prepared)
    chosen = np.zeros((4, 12))
    np.put_along_axis(chosen, np.asarray(prepared["masked_positions"]), np.asarray(prepared["masked_weights"]), axis=1)
    np.testing.assert_array_equal(replaced, chosen)
    np.testing.assert_array_equal(corrupt != batch["input_ids"], chosen > 0)
    assert chosen.sum() == 5 + 3 + 0 + 4


def test_the_samples_stand_in_the_original_text(batch):
    """What was masked and not replaced reads as it did: no [MASK] reaches the discriminator."""
    prepared = jax.jit(Detection(HOW).prepare)(batch, CTX)
    wrong = (prepared["masked_labels"] + 1) % 18 + 5
    corrupt, replaced = Detection(HOW).corrupt(jax.random.key(0), logits_of(wrong), prepared)
    assert (corrupt != VOCABULARY.mask_id).all() and replaced.sum() == 12
    assert ((corrupt == batch["input_ids"]) | (replaced == 1)).all()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_samples_follow_the_softmax(temperature):
    """40,000 draws from five tokens; chi-square with four degrees, p = 0.0001."""
    logits = jnp.asarray([0.0, 1.0, -1.0, 2.0, 0.5])
    found = np.bincount(sample(jax.random.key(1), jnp.broadcast_to(logits, (200, 200, 5)), None, temperature).ravel(), minlength=5)
    expected = 40_000 * np.asarray(jax.nn.softmax(logits / temperature))
    assert ((found - expected) ** 2 / expected).sum() < 23.5
    others = sample(jax.random.key(1), jnp.broadcast_to(logits, (200, 200, 5)), jnp.full((200, 200), 3))
    assert (np.asarray(others) != 3).all()


def test_at_zero_logits(batch):
    """ln 2 for each of the 28 real tokens and ln V for each of the 12 masked ones; 1 and 50 are the scales."""
    graphdef, params = drawn(pair)
    silent = {
        name: jnp.zeros_like(x) if "/output/" in name or name.endswith(("token/table", "mlm/bias")) else x for name, x in params.items()
    }
    loss, weights, _ = losses(ReplacedTokens(HOW), (graphdef, params), batch, silent)
    assert {name: float(weight) for name, weight in weights.items()} == {"mlm": 12, "rtd": 28}
    np.testing.assert_allclose(loss.terms["rtd"].total / 28, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(loss.terms["mlm"].total / 12, np.log(23), rtol=1e-6)
    assert {name: float(scale(0)) for name, scale in ReplacedTokens(HOW).scales.items()} == {"mlm": 1.0, "rtd": 50.0}
    assert loss.terms["rtd"].weight == 28 and loss.metrics["rtd_replaced"].weight == 28


def test_the_loss_by_hand(batch):
    """Binary cross-entropy of the discriminator's logits over all real tokens; the generator's term is that of masked LM."""
    loss, _, prepared = losses(ReplacedTokens(HOW), drawn(pair), batch)
    model = parameters.merge(*drawn(pair))
    masked = jax.jit(lambda x: MaskedLM(VOCABULARY, 0.4, corruption=masking.electra_corruption)(model.generator, x, CTX))(prepared)
    np.testing.assert_allclose(loss.terms["mlm"].total, masked.terms["mlm"].total, rtol=1e-6)
    detection = Detection(HOW)

    @jax.jit
    def by_hand(x):
        inputs = {name: x[name] for name in ("token_type_ids", "segment_ids", "positions")}
        hidden = model.generator.hidden(x["input_ids"], **inputs)
        corrupt, replaced = detection.corrupt(jax.random.fold_in(CTX.key, 1), detection.generator_logits(model, hidden, x), x)
        return model(corrupt, **inputs).logits, replaced

    logits, replaced = (np.asarray(x, np.float64) for x in by_hand(prepared))
    costs = np.log1p(np.exp(-np.where(replaced, logits, -logits)))[np.asarray(batch["segment_ids"]) > 0]
    assert 0 < replaced.sum() < 12
    np.testing.assert_allclose(loss.terms["rtd"].total, costs.sum(), rtol=1e-5)


def gradients(objective, drawn, batch, term):
    graphdef, params = drawn
    whole = lambda params: objective(parameters.merge(graphdef, params), objective.prepare(batch, CTX), CTX).terms[term].total
    return {name: float(jnp.abs(x).max()) for name, x in jax.jit(jax.grad(whole))(params).items()}


@pytest.mark.parametrize("how", [sharing.tied, *(pytest.param(how, marks=pytest.mark.slow) for how in (sharing.tokens, sharing.separate))])
def test_no_gradient_through_the_sampling(batch, how):
    """The discriminator's loss reaches the generator through what they share alone."""
    found = gradients(ReplacedTokens(HOW), drawn(pair, how), batch, "rtd")
    assert all(found[name] == 0 for name in found if name.startswith("generator/"))
    assert found[f"{WORDS}/table"] > 1e-4 and found["detection/output/kernel"] > 1e-4
    own = [name for name in found if name.startswith("generator/encoder/embeddings/")]
    assert len(own) == {sharing.tied: 0, sharing.tokens: 4, sharing.separate: 5}[how]
    masked = gradients(ReplacedTokens(HOW), drawn(pair, how), batch, "mlm")
    assert (masked[f"{WORDS}/table"] > 1e-4) == (how is not sharing.separate) and masked["detection/output/kernel"] == 0


def test_disentangled_embeddings(batch):
    """DeBERTa-v3: the discriminator's loss moves delta alone, the generator's its own table alone; words as positions."""
    graphdef, params = drawn(biased)
    for table in (WORDS, "encoder/embeddings/position"):
        assert not params[f"{table}/delta/table"].any() and params[f"{table}/base/table"].any()
        for objective, term, moved in ((Detection(HOW), "rtd", "delta"), (Generation(HOW), "mlm", "base")):
            found = gradients(objective, (graphdef, params), batch, term)
            for part in ("base", "delta"):
                assert (found[f"{table}/{part}/table"] > 1e-4) == (part == moved)
    model = parameters.merge(graphdef, params)
    ids = batch["input_ids"][:1]
    np.testing.assert_array_equal(model.encoder.embeddings.token(ids), model.generator.encoder.embeddings.token(ids))


def test_two_optimizers_in_one_step(batch):
    """Generator first, then the discriminator over its new embeddings: plain gradient descent with two rates, by hand."""
    family, config = v3()
    graphdef, start = drawn(v3)
    blueprint = state.Blueprint.draw(lambda key: family(config, key), Partitioner(mesh.make(mesh.Shape(), jax.devices()[:1])))
    first = frozenset(name for name in start if re.search(r"^generator/|/base/", name))
    phases = [
        step.Phase(Generation(HOW), optax.sgd(0.1), first),
        step.Phase(Detection(HOW), optax.sgd(0.01), frozenset(start) - first),
    ]
    now = state.init(blueprint, {name: jnp.array(x) for name, x in start.items()}, [(phase.tx, phase.names) for phase in phases], ())
    key = jax.random.key(1)
    run = step.compile_step(step.make(blueprint, phases, step.Methods()), blueprint, now, batch, key)
    after, metrics = run(now, batch)

    params = dict(start)
    for index, (phase, rate) in enumerate(zip(phases, (0.1, 0.01), strict=True)):
        draws, dropout = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, index), 0))
        ctx = Context(jnp.zeros((), jnp.int32), draws, dropout)

        def mean(moved, still, phase=phase, ctx=ctx):
            prepared = phase.objective.prepare(batch, ctx)
            terms = phase.objective(parameters.merge(graphdef, {**still, **moved}), prepared, ctx).terms
            return sum(phase.objective.scales[name](0) * term.total / term.weight for name, term in terms.items())

        moved = {name: params[name] for name in phase.names}
        still = {name: x for name, x in params.items() if name not in phase.names}
        slopes = jax.jit(jax.grad(mean))(moved, still)
        params |= {name: moved[name] - rate * slopes[name] for name in moved}
    for name, value in params.items():
        np.testing.assert_allclose(after.params[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    moved = lambda name: np.abs(np.asarray(after.params[name]) - np.asarray(start[name])).max()
    assert moved(f"{WORDS}/base/table") > 1e-4 and moved(f"{WORDS}/delta/table") > 1e-4
    assert {"0/loss", "1/loss", "1/rtd_accuracy"} <= metrics.keys()


def test_a_vocabulary_larger_than_the_table(batch):
    how = Masking(types.SimpleNamespace(size=24, mask_id=4, special_ids=(0,)))
    with pytest.raises(ValueError, match="the vocabulary has 24 entries, the model's vocab_size is 23"):
        losses(Detection(how), drawn(pair), batch)
