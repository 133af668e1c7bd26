"""SiFT: the ascent in closed form on a linear model, and its degenerate cases on a fine-tuned one."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.engine.errors import UserError
from rootstock.engine.sockets import Context
from rootstock.finetune import heads
from rootstock.finetune.finetuned import Config, Encoder, Finetuned
from rootstock.finetune.objective import Multitask
from rootstock.methods.sift import Ascent, SiFT, divergence
from rootstock.models import bert
from rootstock.models.layers import parameters
from rootstock.models.layers.tap import tap

ENCODER = bert.Config(
    vocab_size=11, width=8, layers=1, heads=2, mlp_width=8, max_length=6, dropout=0.0, attention_dropout=0.0, init_std=0.5
)
HEADS = {"one": heads.Head(heads.Classification, 3, 0.0), "two": heads.Head(heads.Regression, 1, 0.0)}
CTX = Context(step=jnp.zeros((), jnp.int32), key=jax.random.key(3), dropout=jax.random.key(4))


@pytest.fixture(scope="module")
def model():
    config = Config(Encoder(bert.Encoder, ENCODER), HEADS)
    return parameters.split(jax.jit(lambda key: Finetuned(config, key))(jax.random.key(0)))


@pytest.fixture(scope="module")
def batch():
    draws = np.random.default_rng(0)

    def part(label):
        ids = jnp.asarray(draws.integers(1, 11, (4, 6)), jnp.int32)
        return {"input_ids": ids, "segment_ids": jnp.ones_like(ids), "label": label, "weight": jnp.asarray([1.0, 1.0, 0.0, 1.0])}

    return {"one": part(jnp.asarray([0, 2, 1, 1])), "two": part(jnp.asarray([0.5, -1.0, 0.0, 2.0]))}


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_one_ascent_step_by_hand():
    """Logits W x of one token a row: the slope at d_0 is W (q - p), its largest entry is scaled to the step."""
    draws = np.random.default_rng(0)
    x, w = draws.standard_normal((4, 1, 5)), draws.standard_normal((5, 3))
    run = lambda key: (tap("embeddings", jnp.asarray(x, jnp.float32)) @ jnp.asarray(w, jnp.float32))[:, 0]
    keys, ascent = jax.random.split(jax.random.key(1), 3), Ascent(0.5, 0.2)
    found = jax.jit(lambda: divergence(run, run(keys[0]), keys, ascent))()

    start = 0.5 * np.clip(np.asarray(jax.random.normal(keys[0], (4, 1, 5)), np.float64), -2, 2)
    assert np.abs(start).max() <= 1.0
    p, q = softmax(x @ w), softmax((x + start) @ w)
    slope = (q - p) @ w.T
    worst = (x + start + 0.2 * slope / (1e-6 + np.abs(slope).max(-1, keepdims=True))) @ w
    clean = x @ w
    cross = lambda a, b: -(softmax(a) * np.log(softmax(b))).sum(-1)[:, 0]
    np.testing.assert_allclose(found, cross(clean, worst) + cross(worst, clean), rtol=1e-5)
    assert (cross(clean, worst) > cross(clean, (x + start) @ w)).all()  # uphill


def loss_and_gradient(objective, model, batch):
    graphdef, params = model

    @jax.jit
    def run(params):
        def whole(params):
            loss = objective(parameters.merge(graphdef, params), batch, CTX)
            weights = objective.weights(batch)
            return sum(objective.scales[name](0) * term.total / weights[name] for name, term in loss.terms.items()), loss

        return jax.value_and_grad(whole, has_aux=True)(params)

    (value, loss), gradient = run(params)
    return float(value), loss, gradient


@pytest.fixture(scope="module")
def plain(model, batch):
    return loss_and_gradient(Multitask(HEADS), model, batch)


def test_scale_zero_is_plain(model, batch, plain):
    value, loss, gradient = loss_and_gradient(SiFT(Multitask(HEADS), scale=0.0), model, batch)
    assert value == pytest.approx(plain[0], rel=1e-6)
    assert loss.terms.keys() == {"one", "two", "sift/one", "sift/two"} and loss.terms["sift/one"].weight == 3
    for name, slope in gradient.items():
        np.testing.assert_allclose(slope, plain[2][name], rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.slow
def test_without_a_perturbation_the_gradient_is_plain(model, batch, plain):
    """The term is then twice the entropy, or 0 for a regression; and its gradient vanishes, as the symmetric KL's does."""
    _, loss, gradient = loss_and_gradient(SiFT(Multitask(HEADS), ascent=Ascent(0.0, 0.0)), model, batch)
    net = parameters.merge(*model)
    logits = np.asarray(jax.jit(lambda: net.heads["one"](net.encoder, batch["one"]))(), np.float64)
    entropy = -(softmax(logits) * np.log(softmax(logits))).sum(-1)
    np.testing.assert_allclose(loss.terms["sift/one"].total, 2 * entropy[[0, 1, 3]].sum(), rtol=1e-5)
    assert loss.terms["sift/two"].total == 0
    for name, slope in gradient.items():
        np.testing.assert_allclose(slope, plain[2][name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_perturbation_moves_the_gradient(model, batch, plain):
    _, loss, gradient = loss_and_gradient(SiFT(Multitask(HEADS), ascent=Ascent(0.3, 0.1)), model, batch)
    assert loss.terms["sift/two"].total > 0
    assert max(np.abs(slope - plain[2][name]).max() for name, slope in gradient.items()) > 1e-3


def test_no_noise_in_evaluation(model, batch):
    loss = SiFT(Multitask(HEADS))(parameters.merge(*model), batch, dataclasses.replace(CTX, dropout=None))
    assert loss.terms["sift/one"].total == 0 and loss.terms["one"].total > 0


def test_span_extraction_is_refused(model, batch):
    class Spans:
        scales = types.MappingProxyType({"spans": lambda step: 1.0})

        def __call__(self, model, batch, ctx):
            return Multitask(HEADS)(model, {"one": batch["spans"]}, ctx)

    net = parameters.merge(*model)
    net.heads["spans"] = heads.build(heads.Head(heads.SpanExtraction, 2, 0.0), 8, jax.random.key(0))
    with pytest.raises(UserError, match=r"the head for spans gives \(4, 6, 2\)"):
        jax.eval_shape(lambda: SiFT(Spans())(net, {"spans": batch["one"]}, CTX))
