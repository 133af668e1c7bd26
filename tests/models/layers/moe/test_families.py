"""Mixtures inside models: generation, scanning, padding and recomputation change nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.models import bert, decoder
from rootstock.models.layers import parameters, stack
from rootstock.models.layers.mlp import GatedMLP
from rootstock.models.layers.moe import mixture, placement, routers

IDS = np.random.default_rng(0).integers(5, 31, (2, 8)).astype(np.int32)
OPEN = dict(capacity=None, eval_capacity=None)


def test_generation_step_by_step_is_the_whole_pass():
    """A step routes one token a row, in a group of its own."""
    moe = mixture.Mixture(experts=4, mlp=GatedMLP, router=routers.TopK(**OPEN))
    config = decoder.Config(vocab_size=31, width=16, layers=2, heads=2, mlp_width=24, init_std=0.3, mlp=moe)

    def both(ids):
        model = decoder.Decoder(config, jax.random.key(0))
        state = model.start(ids[:, :5], None, 3)
        steps = []
        for place in range(3):
            logits, state = model.step(ids[:, 4 + place : 5 + place], jnp.asarray(place, jnp.int32), state)
            steps.append(logits)
        return jnp.concatenate(steps, 1), model(ids).logits[:, 4:7]

    stepwise, whole = jax.jit(both)(IDS)
    np.testing.assert_allclose(stepwise, whole, rtol=0, atol=1e-5)
    assert np.abs(whole).std() > 0.05


CONFIG = bert.Config(
    vocab_size=31,
    width=16,
    layers=4,
    heads=2,
    mlp_width=24,
    max_length=8,
    dropout=0.0,
    attention_dropout=0.0,
    init_std=0.3,
    mlp=mixture.Mixture(experts=3, router=routers.TopK(k=1, route_padding=False, capacity=1.0, eval_capacity=1.0, min_capacity=1)),
)


@pytest.fixture(scope="module")
def variants():
    """Hidden states of the same values scanned, unrolled and recomputed; and with other ids where the padding is."""
    changes = [dict(), dict(scan=False), dict(remat=stack.save_nothing)]
    build = lambda change: parameters.abstract(lambda key: bert.Encoder(dataclasses.replace(CONFIG, **change), key))
    segments = np.array([[1] * 5 + [0] * 3, [1] * 8], np.int32)
    other = np.where(segments == 0, 7, IDS)

    def everything(ids, other, segments):
        values = stack.unstack(parameters.split(bert.Encoder(CONFIG, jax.random.key(0)))[1])
        found = []
        for change in changes:
            model = build(change)
            names = parameters.specs(model)
            params = {n: jnp.stack([values[p] for p, _ in stack.address(n)]) if stack.stacked(n) else values[n] for n in names}
            found.append(parameters.merge(bert.nnx.split(model)[0], params)(ids, segment_ids=segments))
        return [*found, bert.Encoder(CONFIG, jax.random.key(0))(other, segment_ids=segments)]

    return jax.jit(everything)(IDS, other, segments)


def test_scanned_unrolled_and_recomputed_are_equal(variants):
    for other in variants[1:3]:
        np.testing.assert_allclose(other, variants[0], rtol=0, atol=1e-5)


def test_padding_that_is_not_routed_takes_no_place(variants):
    """With one place for every 8 / 3 tokens, padding would push real tokens out."""
    np.testing.assert_allclose(variants[3][0, :5], variants[0][0, :5], rtol=0, atol=1e-5)


def test_layers_alternate_in_one_scan():
    model = parameters.abstract(lambda key: bert.Encoder(CONFIG, key))
    names = parameters.specs(model)
    assert names["layers/1:4:2/mlp/experts/input/kernel"].shape == (2, 3, 16, 24)
    assert names["layers/1:4:2/mlp/experts/input/kernel"].axes == ("layers", "experts", "embed", "mlp")
    assert names["layers/0:4:2/mlp/input/kernel"].shape == (2, 16, 24)


@pytest.mark.parametrize(
    "layers, unlike, runs",
    [
        (12, tuple(range(1, 12, 2)), ((2, 6),)),
        (12, (8, 9, 10, 11), ((1, 8), (1, 4))),
        (12, (3, 7, 11), ((4, 3),)),
        (4, (0,), ((1, 1), (1, 3))),
        (4, (0, 1, 2, 3), ((1, 4),)),
    ],
)
def test_layouts(layers, unlike, runs):
    assert stack.layout(layers, unlike=unlike) == runs


def test_a_layout_with_a_prefix_and_a_period_covers_every_layer_once():
    runs = stack.layout(22, prefix=1, period=3, unlike=placement.Every()(22))
    assert sum(period * repeats for period, repeats in runs) == 22 and max(repeats for _, repeats in runs) == 3
