import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rootstock.models import bert
from rootstock.models.layers import parameters
from rootstock.models.layers.dense import Dense
from rootstock.models.layers.dropout import dropout
from rootstock.models.layers.embed import Sinusoids
from rootstock.models.layers.tap import tap, tapped

LARGE = bert.Config(width=1024, layers=24, heads=16, mlp_width=4096)


def count(model):
    return sum(int(np.prod(spec.shape)) for spec in parameters.specs(model).values())


@pytest.mark.parametrize("config, encoder", [(bert.Config(), 109_482_240), (LARGE, 335_141_888)], ids=["base", "large"])
def test_parameter_count(config, encoder):
    """The encoder is transformers' BertModel; the heads add transform, its norm, the output bias and two NSP classes."""
    heads = config.width**2 + 3 * config.width + config.vocab_size + 2 * config.width + 2
    assert count(parameters.abstract(lambda key: bert.Encoder(config, key))) == encoder
    assert count(parameters.abstract(lambda key: bert.PreTraining(config, key))) == encoder + heads


def test_without_a_pooler(tiny):
    """MaskedLM is PreTraining without what reads the pooler, and the same keys give the same values."""
    config = dataclasses.replace(tiny().config, pooler=False)
    lean = parameters.split(bert.MaskedLM(config, jax.random.key(0)))[1]
    whole = parameters.split(bert.PreTraining(dataclasses.replace(config, pooler=True), jax.random.key(0)))[1]
    extra = {f"{name}/{part}" for name in ("nsp", "encoder/pooler") for part in ("kernel", "bias")}
    assert lean.keys() == whole.keys() - extra and all((lean[name] == whole[name]).all() for name in lean)
    with pytest.raises(ValueError, match=r"next-sentence prediction reads the pooler, and models\.bert\.Config\.pooler is False"):
        bert.PreTraining(config, jax.random.key(0))
    with pytest.raises(ValueError, match="this BERT has no pooler"):
        bert.Encoder(config, jax.random.key(0)).pool(jnp.zeros((1, 2, 16)))


def ids(rows=2, length=12):
    return jnp.asarray(np.random.default_rng(0).integers(5, 31, (rows, length)), jnp.int32)


def test_padding_changes_no_other_output(logits):
    """Bit for bit: what stands at padding is never added to anything but zero."""
    segments = jnp.asarray([[1] * 12, [1] * 7 + [0] * 5], jnp.int32)
    before, after = (logits(x, segments) for x in (ids(), ids().at[1, 7:].set(3)))
    np.testing.assert_array_equal(before[segments == 1], after[segments == 1])
    assert (before[1, 7:] != after[1, 7:]).any()


def test_padding_equals_a_shorter_row(logits):
    padded = logits(ids(), jnp.asarray([[1] * 7 + [0] * 5] * 2, jnp.int32))
    short = logits(ids()[:, :7], jnp.ones((2, 7), jnp.int32))
    np.testing.assert_allclose(padded[:, :7], short, rtol=0, atol=1e-5)


def test_packed_documents_see_only_themselves(logits):
    segments = jnp.asarray([[1] * 4 + [2] * 5 + [0] * 3] * 2, jnp.int32)
    before, after = (logits(x, segments) for x in (ids(), ids().at[:, 4:9].set(6)))
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert (before[:, 4:9] != after[:, 4:9]).any()


def test_packed_document_equals_the_document_alone(logits):
    """With positions that begin anew in each document."""
    segments = jnp.asarray([[1] * 5 + [2] * 7] * 2, jnp.int32)
    packed = logits(ids(), segments, jnp.asarray([[*range(5), *range(7)]] * 2, jnp.int32))
    np.testing.assert_allclose(packed[:, 5:], logits(ids()[:, 5:], jnp.ones((2, 7), jnp.int32)), rtol=0, atol=1e-5)


def test_id_outside_the_vocabulary_gives_nan(logits):
    """And not some other token's vector. Padding rows stay what they are."""
    for wrong in (31, 10_000):
        out = logits(ids().at[0, 2].set(wrong), jnp.ones((2, 12), jnp.int32))
        assert np.isnan(out[0]).all() and np.isfinite(out[1]).all()


def test_more_tokens_than_positions(tiny):
    with pytest.raises(ValueError, match="13 tokens are more than the 12 positions"):
        tiny(scan=False)(ids(1, 13))


def test_heads_that_do_not_divide_the_width(tiny):
    with pytest.raises(ValueError, match="3 heads do not divide the width 16"):
        tiny(heads=3)


def test_bfloat16_keeps_float32_parameters(tiny):
    """8 bits of mantissa over 3 layers: a few hundredths, where the logits are of size 1."""
    half, full = tiny(dtype="bfloat16"), tiny()
    assert {spec.dtype for spec in parameters.specs(half).values()} == {"float32"}
    outputs = [jax.jit(lambda model: model(ids()))(model) for model in (half, full)]
    assert outputs[0].last_hidden_state.dtype == jnp.bfloat16 and outputs[0].logits.dtype == jnp.float32
    error = np.abs(outputs[0].logits - outputs[1].logits)
    assert 1e-5 < error.max() < 0.1


class Stamp(nnx.Module):
    """In attention's place: shows its dropout mask and passes its input on."""

    def __init__(self, key, width, heads, *, rate, init, dtype):
        self.rate = rate

    def __call__(self, x, *, segment_ids=None, key=None):
        tap("mask", dropout(jnp.ones((256, 64)), self.rate, key))
        return x


def test_every_layer_draws_its_own_dropout_mask(tiny):
    model = tiny(attention=Stamp, attention_dropout=0.25)

    @jax.jit
    def masks(key):
        with tapped(want={"layers/mask"}) as taps:
            model.encoder(ids(), key=key)
        return jnp.stack(taps["layers/mask"])

    one, two = masks(jax.random.key(0)), masks(jax.random.key(1))
    drawn = np.concatenate([one, two]).reshape(6, -1)
    np.testing.assert_allclose(np.unique(drawn), [0, 1 / 0.75], rtol=1e-6)
    # 98,304 independent draws: five deviations are 0.007. Two masks that share nothing agree on 1 - 2 * 0.25 * 0.75 = 0.625 of 16,384.
    assert abs((drawn == 0).mean() - 0.25) < 0.007
    agree = (drawn[:, None] == drawn[None]).mean(-1)
    np.testing.assert_allclose(agree[~np.eye(6, dtype=bool)], 0.625, atol=5 * np.sqrt(0.625 * 0.375 / 16384))
    np.testing.assert_array_equal(one, masks(jax.random.key(0)))


def test_dropout_only_with_a_key(tiny):
    @jax.jit
    def hidden(model, key):
        return model.encoder(ids(), key=key)

    half, none = tiny(layers=1, dropout=0.5, attention_dropout=0.5), tiny(layers=1)
    plain = hidden(none, None)
    np.testing.assert_array_equal(hidden(half, None), plain)
    assert (hidden(half, jax.random.key(0)) != plain).any()
    np.testing.assert_array_equal(hidden(none, jax.random.key(0)), plain)


class LowRank(nnx.Module):
    """What a Graft would put in a Dense's slot: x A B."""

    def __init__(self, features_in, features_out, b):
        self.a = parameters.parameter(jnp.ones((features_in, 2)), ("embed", None))
        self.b = parameters.parameter(jnp.full((2, features_out), b), (None, "heads"))

    def __call__(self, x):
        return x @ self.a[...] @ self.b[...]


def test_delta_fills_the_slot_of_a_dense():
    dense = Dense(jax.random.key(0), 4, 6, axes=("embed", "heads"))
    x = jnp.arange(8.0).reshape(2, 4)
    base, names = dense(x), set(parameters.specs(dense))
    dense.delta = LowRank(4, 6, 0.0)
    np.testing.assert_array_equal(dense(x), base)
    dense.delta = LowRank(4, 6, 0.5)
    np.testing.assert_allclose(dense(x), base + x.sum(-1, keepdims=True) * jnp.ones((1, 6)), rtol=1e-6)
    assert set(parameters.specs(dense)) == names | {"delta/a", "delta/b"}


def test_split_and_merge_keep_every_array(tiny):
    graphdef, params = parameters.split(tiny())
    _, again = parameters.split(parameters.merge(graphdef, params))
    assert again.keys() == params.keys() and all((again[name] == params[name]).all() for name in params)
    assert {name: tuple(x.shape) for name, x in params.items()} == {name: spec.shape for name, spec in parameters.specs(tiny()).items()}


def test_a_parameter_without_a_name_for_each_axis():
    with pytest.raises(ValueError, match="needs 2 axis names"):
        parameters.parameter(jnp.zeros((2, 3)), ("embed",))


def test_start_of_the_positions(tiny):
    """Only the position table begins otherwise."""
    config = tiny().config
    drawn, set_out = (
        parameters.split(bert.MaskedLM(dataclasses.replace(config, position_init=init), jax.random.key(0)))[1]
        for init in (None, Sinusoids())
    )
    table = "encoder/embeddings/position/table"
    assert [name for name in drawn if (drawn[name] != set_out[name]).any()] == [table]
    np.testing.assert_array_equal(set_out[table], Sinusoids()(jax.random.key(0), set_out[table].shape))
