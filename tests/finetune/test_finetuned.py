"""An encoder taken from a MODEL_DIR, and the model that stands on it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.engine.errors import UserError
from rootstock.engine.model_dir import write_config
from rootstock.engine.sockets import Context
from rootstock.finetune import finetuned, heads
from rootstock.finetune.objective import Multitask
from rootstock.models import bert
from rootstock.models.layers import parameters

CONFIG = bert.Config(vocab_size=40, width=8, layers=1, heads=2, mlp_width=8, max_length=6, dropout=0.0, attention_dropout=0.0, init_std=0.3)
HEADS = {"copa": heads.Head(heads.MultipleChoice, 2, 0.0), "ner": heads.Head(heads.TokenClassification, 3, 0.0),
         "stsb": heads.Head(heads.Regression, 1, 0.0)}  # fmt: skip


def pretrained(tmp_path, build):
    write_config(tmp_path, parameters.abstract(build), None)
    return str(tmp_path)


def test_encoder_of_a_pretrained_model(tmp_path):
    directory = pretrained(tmp_path, lambda key: bert.PreTraining(CONFIG, key))
    assert finetuned.encoder_of(directory) == finetuned.Encoder(bert.Encoder, CONFIG)
    assert finetuned.encoder_of(directory, dropout=0.3).config == dataclasses.replace(CONFIG, dropout=0.3)


def test_encoder_of_a_fine_tuned_model(tmp_path):
    config = finetuned.Config(finetuned.Encoder(bert.Encoder, CONFIG), HEADS)
    directory = pretrained(tmp_path, lambda key: finetuned.Finetuned(config, key))
    assert finetuned.encoder_of(directory) == finetuned.Encoder(bert.Encoder, CONFIG)


def test_a_change_of_no_field(tmp_path):
    directory = pretrained(tmp_path, lambda key: bert.PreTraining(CONFIG, key))
    with pytest.raises(UserError, match=r"Config of .* has no droput; it has \['vocab_size', .*'dropout'"):
        finetuned.encoder_of(directory, droput=0.3)


def test_a_model_without_an_encoder(tmp_path):
    directory = pretrained(tmp_path, lambda key: bert.Encoder(CONFIG, key))
    with pytest.raises(UserError, match=r"holds a rootstock\.models\.bert\.Encoder, which has no encoder to fine-tune"):
        finetuned.encoder_of(directory)


@pytest.fixture(scope="module")
def model():
    config = finetuned.Config(finetuned.Encoder(bert.Encoder, CONFIG), HEADS)
    return jax.jit(lambda key: finetuned.Finetuned(config, key))(jax.random.key(0))


def inputs(*shape):
    ids = jnp.asarray(np.random.default_rng(0).integers(5, 40, shape), jnp.int32)
    return {"input_ids": ids, "segment_ids": jnp.ones_like(ids)}


def test_parameters_are_named_by_task(model):
    assert {name.split("/", 2)[1] for name in parameters.specs(model) if name.startswith("heads/")} == set(HEADS)
    assert parameters.specs(model)["heads/copa/output/kernel"].shape == (8, 1)
    pretraining = parameters.specs(parameters.abstract(lambda key: bert.PreTraining(CONFIG, key)))
    assert {name for name in parameters.specs(model) if name.startswith("encoder/")} == {
        name for name in pretraining if name.startswith("encoder/")
    }


def test_called_with_choices(model):
    """Logits [B, choices]; the hidden states are those of every choice of every row."""
    batch = inputs(2, 3, 6)
    out = jax.jit(lambda model, batch: model(**batch, task="copa"))(model, batch)
    assert out.logits.shape == (2, 3) and out.last_hidden_state.shape == (6, 6, 8)


def test_an_encoder_alone(tmp_path):
    config = finetuned.Config(finetuned.Encoder(bert.Encoder, CONFIG), {})
    alone = jax.jit(lambda key: finetuned.Finetuned(config, key))(jax.random.key(0))
    assert all(name.startswith("encoder/") for name in parameters.specs(alone))
    out = alone(**inputs(2, 6))
    np.testing.assert_array_equal(out.last_hidden_state, alone.encoder(**inputs(2, 6)))
    assert out.logits is None
    with pytest.raises(UserError, match="no head for ner; it has heads for no task: it is an encoder alone"):
        alone(**inputs(2, 6), task="ner")
    assert finetuned.encoder_of(pretrained(tmp_path, lambda key: finetuned.Finetuned(config, key))).config == CONFIG


def test_heads_over_an_encoder_without_a_pooler():
    """Those that read tokens need none."""
    encoder = finetuned.Encoder(bert.Encoder, dataclasses.replace(CONFIG, pooler=False))
    build = lambda kind: parameters.abstract(lambda key: finetuned.Finetuned(finetuned.Config(encoder, {"t": heads.Head(kind, 1)}), key))
    for kind in (heads.TokenClassification, heads.SpanExtraction):
        assert not any("pooler" in name for name in parameters.specs(build(kind)))
    for kind in (heads.Classification, heads.Regression, heads.MultipleChoice, heads.SpanClassification):
        with pytest.raises(UserError, match=f"the {kind.__name__} head for t reads the pooler, and this encoder has none"):
            build(kind)


@pytest.fixture(scope="module")
def scored(model):
    """Everything that is computed for a batch of two tasks: terms and their gradient."""
    objective = Multitask({task: HEADS[task] for task in ("ner", "stsb")})
    graphdef, params = parameters.split(model)
    ctx = Context(step=jnp.zeros((), jnp.int32), key=jax.random.key(0))

    def mean(params, batch):
        terms = objective(parameters.merge(graphdef, params), batch, ctx).terms
        return sum(term.total / term.weight for term in terms.values()), terms

    @jax.jit
    def run(batch):
        (_, terms), grads = jax.value_and_grad(mean, has_aux=True)(params, batch)
        return terms, grads

    return run


def labelled():
    ner = {"label": jnp.asarray([[0, 1, 2, -1, 2, 0], [1, 1, 0, -100, -1, 2], [2] * 6, [-1] * 6], jnp.int32)}
    stsb = {"label": jnp.asarray([0.5, 2.0, jnp.nan, -1.0])}
    weight = {"weight": jnp.asarray([1.0, 1.0, 0.0, 1.0])}
    return {"ner": inputs(4, 6) | ner | weight, "stsb": inputs(4, 6) | stsb | weight}


def test_what_has_no_label_or_weight_changes_nothing(scored):
    """Other tokens in rows that do not count, other labels in padding rows: the same losses and gradients, and no NaN in them."""
    batch, other = labelled(), labelled()
    other["ner"]["label"] = other["ner"]["label"].at[2].set(1).at[3].set(-7)
    other["stsb"]["label"] = other["stsb"]["label"].at[2].set(99.0)
    for task, rows in (("ner", slice(2, None)), ("stsb", slice(2, 3))):
        other[task]["input_ids"] = other[task]["input_ids"].at[rows].set(7)
    (terms, grads), (same_terms, same_grads) = scored(batch), scored(other)
    assert (terms["ner"].weight, terms["stsb"].weight) == (9, 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), (terms, grads), (same_terms, same_grads))
    assert all(np.isfinite(grad).all() for grad in grads.values())
