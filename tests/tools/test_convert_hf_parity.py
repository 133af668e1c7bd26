"""Converted models against the outputs and gradients that torch gave (tests/golden/hf/README.md), and the way back bit for bit."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file

import rootstock
from rootstock.engine import load
from rootstock.engine.sockets import Context
from rootstock.finetune.finetuned import Finetuned
from rootstock.finetune.objective import Multitask
from rootstock.models import bert, bert_hf, hf
from rootstock.models.layers.stack import unstack
from rootstock.tools import convert_hf
from rootstock.tools.inspect import parameter_hash

STORED = Path(__file__).parents[1] / "golden" / "hf"
MODELS = sorted(path.parent.name for path in STORED.glob("bert_*/cases.npz"))
# Float32 noise of torch against its own float64 is 2e-6 here; ours is the same size. The wrong gelu is off by 7e-4 or more.
CLOSE = dict(rtol=0, atol=1e-5)


@pytest.fixture(scope="module", params=MODELS)
def converted(request, tmp_path_factory):
    """(name, MODEL_DIR, cases)."""
    folder = tmp_path_factory.mktemp("converted") / request.param
    assert convert_hf.main([f"--from_hf={STORED / request.param}", f"--to={folder}"]) == 0
    with np.load(STORED / request.param / "cases.npz") as cases:
        return request.param, folder, dict(cases)


def part(cases, case):
    return {name.removeprefix(f"{case}/"): value for name, value in cases.items() if name.startswith(f"{case}/")}


def test_outputs(converted):
    name, folder, cases = converted
    model = rootstock.load(folder)
    for number in range(3):
        case = part(cases, f"case{number}")
        real = case["attention_mask"] == 1
        out = model(case["input_ids"], case["attention_mask"], case["token_type_ids"])
        flat = real.reshape(-1, real.shape[-1])
        np.testing.assert_allclose(out.last_hidden_state[flat], case["last_hidden_state"][flat], **CLOSE)
        if "logits" not in case:
            assert name == "bert_model" and out.logits is None
            continue
        everywhere = out.logits.shape[: real.ndim] != real.shape or name == "bert_choices"
        where = ... if everywhere else real
        np.testing.assert_allclose(out.logits[where], case["logits"][where], **CLOSE)


def losses(name, model, case):
    """The loss that the stored gradients are of."""
    inputs = {"token_type_ids": case["token_type_ids"], "segment_ids": case["attention_mask"]}
    if name == "bert_model":
        hidden = model.encoder(case["input_ids"], **inputs)
        real = (case["attention_mask"] == 1)[..., None].astype(jnp.float32)
        return ((hidden**3) * real).sum() / (real.sum() * hidden.shape[-1]) + jnp.square(model.encoder.pool(hidden)).mean()
    if isinstance(model, Finetuned):
        return own_loss(model, {"input_ids": case["input_ids"], **inputs}, case)
    hidden = model.encoder(case["input_ids"], **inputs)
    asked = case["labels"] >= 0
    tokens = optax.softmax_cross_entropy_with_integer_labels(model.masked_lm_logits(hidden), jnp.maximum(case["labels"], 0))
    loss = jnp.where(asked, tokens, 0.0).sum() / asked.sum().astype(jnp.float32)
    if isinstance(model, bert.PreTraining):
        pairs = model.next_sentence_logits(hidden)
        loss += optax.softmax_cross_entropy_with_integer_labels(pairs, case["next_sentence_label"]).mean()
    return loss


def own_loss(model, batch, case):
    """What fine-tuning makes of it."""
    (task,) = model.config.heads
    label = jnp.stack([case["start_positions"], case["end_positions"]], -1) if "start_positions" in case else case["labels"]
    batch |= {"label": label, "weight": jnp.ones(len(label))}
    loss = Multitask(model.config.heads)(model, {task: batch}, Context(step=jnp.zeros((), jnp.int32), key=jax.random.key(0)))
    return loss.terms[task].total / loss.terms[task].weight


def test_gradients_of_all_parameters(converted):
    name, folder, cases = converted
    case = {key: jnp.asarray(value) for key, value in part(cases, "case1").items()}
    blueprint, params = load.load(folder)
    loss, grads = jax.jit(jax.value_and_grad(lambda params: losses(name, blueprint.merge(params), case)))(params)
    np.testing.assert_allclose(loss, case["loss"], rtol=1e-6, atol=1e-6)
    architecture = json.loads((STORED / name / "config.json").read_text())["architectures"][0]
    stored = {key.removeprefix("grad/"): np.asarray(value) for key, value in case.items() if key.startswith("grad/")}
    spelt = hf.spelt(bert_hf.FAMILY, stored)
    config = convert_hf._encoder_config(blueprint.model)
    theirs = hf.Table(bert_hf.FAMILY, architecture, config).convert({spelt[key]: value for key, value in stored.items()})
    ours = {(f"head/{key.split('/', 2)[2]}" if key.startswith("heads/") else key): value for key, value in unstack(grads).items()}
    assert ours.keys() == theirs.keys()
    for key, grad in theirs.items():
        # Gradients here are of size 0.01 to 10; 1e-5 of the largest of a tensor is float32 noise through three layers.
        np.testing.assert_allclose(ours[key], grad, rtol=0, atol=1e-5 * max(1.0, float(np.abs(grad).max())), err_msg=key)
    moved = [key for key, grad in theirs.items() if np.abs(grad).max() > 1e-4]
    assert len(moved) >= len(theirs) - 4, sorted(theirs.keys() - set(moved))  # key biases have no gradient: the softmax cancels them


def test_there_and_back_bit_for_bit(converted, tmp_path):
    name, folder, _ = converted
    assert convert_hf.main([f"--from={folder}", f"--to_hf={tmp_path / 'hf'}"]) == 0
    stored, written = (load_file(where / "model.safetensors") for where in (STORED / name, tmp_path / "hf"))
    assert {key: value.tobytes() for key, value in written.items()} == {key: value.tobytes() for key, value in stored.items()}
    assert convert_hf.main([f"--from_hf={tmp_path / 'hf'}", f"--to={tmp_path / 'again'}"]) == 0
    assert hashed(tmp_path / "again") == hashed(folder)
    assert (tmp_path / "again" / "config.json").read_text() == (folder / "config.json").read_text()


def test_config_comes_back(converted, tmp_path):
    """Every field that transformers wrote, but for its own version and bookkeeping, has the same value."""
    name, folder, _ = converted
    assert convert_hf.main([f"--from={folder}", f"--to_hf={tmp_path / 'hf'}"]) == 0
    stored, written = (json.loads((where / "config.json").read_text()) for where in (STORED / name, tmp_path / "hf"))
    unsaid = {"classifier_dropout", "label2id", "bos_token_id", "eos_token_id", "use_cache", "transformers_version"}
    assert {key: value for key, value in stored.items() if key not in unsaid} == {key: written[key] for key in stored if key not in unsaid}
    if "For" in written["architectures"][0] and "problem_type" in written:
        assert written["classifier_dropout"] == (stored["classifier_dropout"] or stored["hidden_dropout_prob"])


def hashed(folder):
    return parameter_hash(load.load(folder)[1])
