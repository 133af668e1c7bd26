"""ELECTRA, DeBERTa, ALBERT, RoBERTa and ModernBERT against the outputs and gradients that torch gave (tests/golden/hf/README.md)."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file

from rootstock.finetune import heads
from rootstock.finetune.finetuned import Finetuned
from rootstock.models.layers import parameters
from rootstock.models.layers.stack import unstack
from rootstock.tools import convert_hf

STORED = Path(__file__).parents[1] / "golden" / "hf"
MODELS = sorted(path.parent.name for path in STORED.glob("*/cases.npz") if not path.parent.name.startswith(("bert_", "t5_", "mt5", "umt5")))
WITH_GRADIENT = [name for name in MODELS if any("/grad/" in key for key in np.load(STORED / name / "cases.npz").files)]
INPUTS = {"input_ids": "input_ids", "token_type_ids": "token_type_ids", "attention_mask": "segment_ids"}
LENGTH = 33
# Float32 noise of torch against its own float64 is 2e-6 here; ours is the same size.
CLOSE = dict(rtol=0, atol=1e-5)


@functools.cache
def taken(name):
    return convert_hf.take(STORED / name)


@functools.cache
def stored(name):
    """Their cases: [{array name: array}]."""
    with np.load(STORED / name / "cases.npz") as cases:
        arrays = dict(cases)
    return [{key.split("/", 1)[1]: value for key, value in arrays.items() if key.startswith(f"case{number}/")} for number in range(3)]


def inputs_of(case):
    """Theirs as ours."""
    return {ours: jnp.asarray(case[theirs]) for theirs, ours in INPUTS.items() if theirs in case}


@functools.partial(jax.jit, static_argnums=0)
def encoded(graphdef, params, inputs):
    return parameters.merge(graphdef, params)(**inputs)


def logits_of(model, hidden, batch, monkeypatch):
    """Of hidden states that are known: heads are tried without compiling their encoder again."""
    if isinstance(model, Finetuned):
        monkeypatch.setattr(heads, "encode", lambda *_: hidden)
        (head,) = model.heads.values()
        return head(model.encoder, batch)
    return model.detection(hidden) if hasattr(model, "detection") else model.masked_lm_logits(hidden)


@pytest.mark.parametrize("name", MODELS)
def test_outputs(name, monkeypatch):
    """All rows of all cases in one batch, padded to 33 tokens: of 1 to 29 tokens, more than the largest relative position and than a local
    window.
    """
    cases, params = stored(name), {key: jnp.asarray(value) for key, value in taken(name).params.items()}
    model = taken(name).blueprint.merge(params)
    batch = {key: jnp.concatenate([padded(inputs_of(case)[key]) for case in cases]) for key in inputs_of(cases[0])}
    flat = {key: value.reshape(-1, LENGTH) for key, value in batch.items()}
    hidden = encoded(*parameters.split(model.encoder), flat)
    real = np.asarray(flat["segment_ids"]) == 1
    np.testing.assert_allclose(hidden[real], tokens(cases, "last_hidden_state"), **CLOSE)
    logits = logits_of(model, hidden, batch, monkeypatch)
    by_token = cases[0]["logits"].shape[:2] == cases[0]["input_ids"].shape and "choices" not in name
    wanted = tokens(cases, "logits") if by_token else np.concatenate([case["logits"] for case in cases])
    np.testing.assert_allclose(logits[real] if by_token else logits, wanted, **CLOSE)
    assert np.abs(wanted).max() > 0.3
    if "sop_logits" in cases[0]:
        np.testing.assert_allclose(model.next_sentence_logits(hidden), np.concatenate([case["sop_logits"] for case in cases]), **CLOSE)


def padded(ids):
    return jnp.pad(ids, [(0, 0)] * (ids.ndim - 1) + [(0, LENGTH - ids.shape[-1])])


def tokens(cases, name):
    """What torch gave for the real tokens, of all cases."""
    return np.concatenate([case[name][case["attention_mask"].reshape(-1, case["attention_mask"].shape[-1]) == 1] for case in cases])


@pytest.mark.parametrize("name", MODELS)
def test_there_and_back_bit_for_bit(name):
    found = taken(name)
    named = {convert_hf._theirs(key, found.task): value for key, value in unstack(found.params).items()}
    written, theirs = found.table.convert_back(named), load_file(STORED / name / "model.safetensors")
    assert {key: value.tobytes() for key, value in written.items()} == {key: value.tobytes() for key, value in theirs.items()}


def loss_of(model, case):
    """The class's own loss, where it is stored."""
    inputs, labels = inputs_of(case), jnp.asarray(case["labels"])
    if isinstance(model, Finetuned):
        logits = model(**inputs).logits
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    out = model(**inputs)
    logits, hidden = out.logits, out.last_hidden_state
    if logits.ndim == 2:
        real = (inputs["segment_ids"] == 1).astype(jnp.float32)
        return (optax.sigmoid_binary_cross_entropy(logits, labels.astype(jnp.float32)) * real).sum() / real.sum()
    asked = (labels >= 0).astype(jnp.float32)
    words = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    loss = (words * asked).sum() / asked.sum()
    if "sentence_order_label" in case:
        pairs = model.next_sentence_logits(hidden)
        loss += optax.softmax_cross_entropy_with_integer_labels(pairs, jnp.asarray(case["sentence_order_label"])).mean()
    return loss


QUICK = ("electra_pretraining", "deberta_v2_conv")  # the others have less that is their own


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in WITH_GRADIENT])
def test_gradients_of_all_parameters(name):
    found, case = taken(name), stored(name)[1]
    params = {key: jnp.asarray(value) for key, value in found.params.items()}
    loss, grads = jax.jit(jax.value_and_grad(lambda params: loss_of(found.blueprint.merge(params), case)))(params)
    np.testing.assert_allclose(loss, case["loss"], rtol=2e-6)
    theirs = found.table.convert({key.removeprefix("grad/"): value for key, value in case.items() if key.startswith("grad/")})
    ours = {convert_hf._theirs(key, found.task): value for key, value in unstack(grads).items()}
    assert ours.keys() == theirs.keys()
    for key, grad in theirs.items():
        # Float32 noise through a few layers: 1e-5 of the largest of a tensor, where that is above 1.
        np.testing.assert_allclose(ours[key], grad, rtol=0, atol=1e-5 * max(1.0, float(np.abs(grad).max())), err_msg=key)
    still = [key for key, grad in theirs.items() if np.abs(grad).max() < 1e-6]
    assert not [key for key in still if not key.endswith("key/bias")], still  # no gradient there: the softmax cancels it
