"""What holds of every encoder family: sizes as published, padding and packing without a trace, scanned as unrolled."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rootstock.models import albert, bert, deberta, deberta_pair, electra, modernbert, roberta
from rootstock.models.layers import parameters, stack

SMALL = dict(vocab_size=31, width=16, layers=4, heads=2, mlp_width=24, dropout=0.0, attention_dropout=0.0, init_std=0.3)
FAMILIES = {
    "roberta": (roberta.MaskedLM, roberta.Config(**SMALL, max_length=16)),
    "albert": (albert.MaskedLM, albert.Config(**SMALL, max_length=16, embedding_width=8, groups=2)),
    "electra": (electra.Discriminator, electra.Config(**SMALL, max_length=16, embedding_width=8)),
    "pair": (electra.Pair, electra.PairConfig(electra.Config(**SMALL, max_length=16, embedding_width=8), 0.5)),
    "deberta": (deberta.MaskedLM, deberta.Config(**SMALL, buckets=4, max_distance=16)),
    "deberta v1": (deberta.MaskedLM, deberta.v1(**SMALL, max_distance=4)),
    "deberta conv": (deberta.MaskedLM, deberta.Config(**SMALL, buckets=4, max_distance=16, conv_kernel=3)),
    "deberta enhanced": (deberta.EnhancedMaskedLM, deberta.Config(**SMALL, buckets=4, max_distance=16, max_length=16)),
    "deberta detection": (deberta.Discriminator, deberta.Config(**SMALL, buckets=4, max_distance=16)),
    "deberta pair": (deberta_pair.Pair, deberta_pair.PairConfig(deberta.Config(**SMALL, buckets=4, max_distance=16, max_length=16))),
    "modernbert": (modernbert.MaskedLM, modernbert.Config(**SMALL, max_length=16, window=2)),
}
SCANNED = [name for name in FAMILIES if name not in ("albert", "pair", "deberta pair")]


def size(make):
    return sum(int(np.prod(spec.shape)) for spec in parameters.specs(parameters.abstract(make)).values())


def test_published_sizes():
    """As transformers counts them for albert-base-v2, electra-small-discriminator (with its head), deberta-v3-base and roberta-base."""
    assert size(lambda key: albert.Encoder(albert.Config(), key)) == 11_683_584
    assert size(lambda key: electra.Discriminator(electra.Config(), key)) == 13_549_057
    assert size(lambda key: electra.Encoder(electra.Config(), key)) == 13_483_008
    assert size(lambda key: deberta.Encoder(deberta.Config(), key)) == 183_831_552
    assert size(lambda key: roberta.Encoder(roberta.Config(), key)) == 124_055_040
    assert size(lambda key: albert.Encoder(albert.Config(layers=24), key)) == 11_683_584  # shared: depth costs nothing


@functools.cache
def drawn(name):
    """Parameters of a family; one program for each."""
    family, config = FAMILIES[name]
    return jax.jit(lambda key: parameters.split(family(config, key))[1])(jax.random.key(0))


@functools.cache
def forward(name, scan=True):
    family, config = FAMILIES[name]
    config = config if scan else dataclasses.replace(config, scan=False)
    graphdef, _ = nnx.split(parameters.abstract(lambda key: family(config, key)), nnx.Param)
    return jax.jit(lambda params, ids, inputs: parameters.merge(graphdef, params)(ids, **inputs).logits)


def pieces(*lengths):
    chance = np.random.default_rng(0)
    return [chance.integers(5, 31, n).astype(np.int32) for n in lengths]


TWO = jnp.asarray(np.stack(pieces(5, 5)))


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_equals_alone(name):
    """Two pieces in one padded row, each as if it stood alone; and what stands at padding changes nothing, bitwise."""
    row = np.concatenate([*TWO, [7, 8]])
    segments = np.array([1] * 5 + [2] * 5 + [0] * 2)
    rows = jnp.asarray(np.stack([row, np.where(segments > 0, row, 9)]), jnp.int32)
    places = [np.stack([x, x]).astype(np.int32) for x in (segments, [*range(5), *range(5), 0, 0])]
    inputs = dict(zip(("segment_ids", "positions"), map(jnp.asarray, places), strict=True))
    packed, other = forward(name)(drawn(name), rows, inputs)[:, :10]
    np.testing.assert_array_equal(packed, other)
    alone = forward(name)(drawn(name), TWO, {})
    np.testing.assert_allclose(packed, alone.reshape(packed.shape), rtol=0, atol=1e-4)
    assert np.abs(alone).max() > 1e-3


def test_more_tokens_than_positions():
    """The mask decoder has absolute positions, though the layers have none."""
    with pytest.raises(ValueError, match="17 tokens are more than the 16 positions of this DeBERTa's mask decoder"):
        forward("deberta enhanced")(drawn("deberta enhanced"), jnp.ones((1, 17), jnp.int32), {})


@pytest.mark.parametrize("name", SCANNED)
def test_scanned_equals_unrolled(name):
    family, config = FAMILIES[name]
    canonical = stack.unstack(drawn(name))
    unrolled = dataclasses.replace(config, scan=False)
    assert canonical.keys() == parameters.specs(parameters.abstract(lambda key: family(unrolled, key))).keys()
    found = [forward(name, scan)(params, TWO, {}) for scan, params in ((True, drawn(name)), (False, canonical))]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-5)


def test_shared_layers_are_copies():
    """ALBERT equals a BERT whose layers are copies of the groups, and its gradient is the sum of the copies' gradients."""
    config = FAMILIES["albert"][1]
    shared = jax.jit(lambda key: parameters.split(albert.Encoder(config, key))[1])(jax.random.key(0))
    plain = bert.Config(**SMALL, max_length=16, embedding_width=8, activation=config.activation, scan=False)
    graphdefs = [
        nnx.split(parameters.abstract(make), nnx.Param)[0]
        for make in (lambda key: albert.Encoder(config, key), lambda key: bert.Encoder(plain, key))
    ]
    sources = {}
    for name in parameters.specs(parameters.abstract(lambda key: bert.Encoder(plain, key))):
        parts = name.split("/")
        sources[name] = "/".join([parts[0], str(int(parts[1]) // 2), *parts[2:]]) if parts[0] == "layers" else name
    ids = jnp.asarray(pieces(7))

    def loss(graphdef):
        return lambda params: jnp.square(parameters.merge(graphdef, params)(ids)).sum()

    copies = {name: shared[source] for name, source in sources.items()}
    found = [jax.jit(jax.value_and_grad(loss(g)))(p) for g, p in zip(graphdefs, (shared, copies), strict=True)]
    values, gradients = zip(*found, strict=True)
    np.testing.assert_allclose(*values, rtol=1e-6)
    summed = {}
    for name, source in sources.items():
        summed[source] = summed.get(source, 0.0) + gradients[1][name]
    largest = max(float(jnp.abs(gradient).max()) for gradient in summed.values())
    for name, gradient in gradients[0].items():
        np.testing.assert_allclose(gradient, summed[name], rtol=0, atol=1e-5 * largest, err_msg=name)


def test_pair_shares_its_embeddings():
    """One table for both; the generator has a quarter of the width and its own projection."""
    names = parameters.specs(parameters.abstract(lambda key: electra.Pair(electra.PairConfig(), key)))
    assert "encoder/embeddings/token/table" in names
    assert not [name for name in names if name.startswith("generator/encoder/embeddings")]
    assert names["generator/encoder/project/kernel"].shape == (128, 64)
    assert electra.PairConfig(electra.Config(width=768, heads=12, embedding_width=None), 1 / 3).generator.embedding_width == 768
