"""T5 through the converter: gradients against torch's, the way back bit for bit, vocabularies, and what is refused."""

import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file, save_file

import rootstock
from rootstock.data import vocabularies
from rootstock.engine import load
from rootstock.models import hf, t5, t5_hf
from rootstock.models.layers.stack import unstack
from rootstock.tools import convert_hf
from rootstock.tools import converted as converted_models
from rootstock.tools.inspect import parameter_hash

STORED = Path(__file__).parents[1] / "golden" / "hf"
FAMILIES = {"t5_tied": t5_hf.FAMILY, "t5_gated": t5_hf.FAMILY, "mt5": t5_hf.MT5, "umt5": t5_hf.UMT5}


@pytest.fixture(scope="module", params=FAMILIES)
def converted(request, tmp_path_factory):
    """(name, MODEL_DIR, cases)."""
    folder = tmp_path_factory.mktemp("converted") / request.param
    assert convert_hf.main([f"--from_hf={STORED / request.param}", f"--to={folder}"]) == 0
    with np.load(STORED / request.param / "cases.npz") as cases:
        return request.param, folder, dict(cases)


@pytest.fixture
def theirs(tmp_path):
    """(name) -> a copy of a stored directory that may be changed."""
    return lambda name: Path(shutil.copytree(STORED / name, tmp_path / "theirs", ignore=shutil.ignore_patterns("cases.npz")))


def change_tensors(folder, change):
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")


def change_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def logits_of(model, ids, mask, labels):
    decoder_ids = t5.shift_right(jnp.maximum(labels, 0), model.config.start_id)
    return model(ids, decoder_ids, segment_ids=mask).logits


@pytest.mark.slow
def test_loss_and_gradients_of_all_parameters(converted):
    """Of torch's own loss, through both stacks."""
    name, folder, cases = converted
    case = {key.removeprefix("case1/"): jnp.asarray(value) for key, value in cases.items() if key.startswith("case1/")}
    blueprint, params = load.load(folder)

    def loss_of(params):
        logits = logits_of(blueprint.merge(params), case["input_ids"], case["attention_mask"], case["labels"])
        asked = case["labels"] >= 0
        tokens = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(case["labels"], 0))
        return jnp.where(asked, tokens, 0.0).sum() / asked.sum().astype(jnp.float32)

    loss, grads = jax.jit(jax.value_and_grad(loss_of))(params)
    np.testing.assert_allclose(loss, case["loss"], rtol=2e-6)
    stored = {key.removeprefix("grad/"): np.asarray(value) for key, value in case.items() if key.startswith("grad/")}
    family = FAMILIES[name]
    theirs, ours = hf.Table(family, next(iter(family.forms)), blueprint.model.config).convert(stored), unstack(grads)
    assert ours.keys() == theirs.keys()
    for key, grad in theirs.items():
        # 1e-5 of the largest of a tensor: float32 noise through five layers without any scaling of the scores.
        np.testing.assert_allclose(ours[key], grad, rtol=0, atol=1e-5 * max(1.0, float(np.abs(grad).max())), err_msg=key)
    assert all(np.abs(grad).max() > 1e-4 for grad in theirs.values())


def test_there_and_back_bit_for_bit(converted, tmp_path):
    name, folder, _ = converted
    assert convert_hf.main([f"--from={folder}", f"--to_hf={tmp_path / 'hf'}"]) == 0
    stored, written = (load_file(where / "model.safetensors") for where in (STORED / name, tmp_path / "hf"))
    assert {key: value.tobytes() for key, value in written.items()} == {key: value.tobytes() for key, value in stored.items()}
    assert convert_hf.main([f"--from_hf={tmp_path / 'hf'}", f"--to={tmp_path / 'again'}"]) == 0
    assert parameter_hash(load.load(tmp_path / "again")[1]) == parameter_hash(load.load(folder)[1])
    assert (tmp_path / "again" / "config.json").read_text() == (folder / "config.json").read_text()


def test_config_comes_back(converted, tmp_path):
    """But for what is of the version or follows from another field; mT5 comes back as the T5 1.1 that it is."""
    name, folder, _ = converted
    assert convert_hf.main([f"--from={folder}", f"--to_hf={tmp_path / 'hf'}"]) == 0
    stored, written = (json.loads((where / "config.json").read_text()) for where in (STORED / name, tmp_path / "hf"))
    unsaid = {"bos_token_id", "classifier_dropout", "dense_act_fn", "is_gated_act", "use_cache", "transformers_version"}
    if name == "mt5":
        unsaid |= {"architectures", "model_type"}
        assert written["architectures"] == ["T5ForConditionalGeneration"] and written["model_type"] == "t5"
    if name in ("t5_gated", "mt5"):
        unsaid |= {"tie_word_embeddings"}
        assert written["tie_word_embeddings"] is False and written["scale_decoder_outputs"] is False
    assert {key: value for key, value in stored.items() if key not in unsaid} == {key: written[key] for key in stored if key not in unsaid}


def test_layers_one_by_one(tmp_path):
    """Config.scan changes how layers are stored here, and nothing there."""
    assert convert_hf.main([f"--from_hf={STORED / 't5_gated'}", f"--to={tmp_path / 'scanned'}"]) == 0
    blueprint, params = load.load(tmp_path / "scanned")
    assert "decoder/layers/0:3:1/cross/query/kernel" in params
    blueprint = converted_models.drawn(t5.T5, dataclasses.replace(blueprint.model.config, scan=False))
    (tmp_path / "single").mkdir()
    converted_models.write_model_dir(tmp_path / "single", blueprint, unstack(params), None)
    assert convert_hf.main([f"--from={tmp_path / 'single'}", f"--to_hf={tmp_path / 'back'}"]) == 0
    stored, written = (load_file(where / "model.safetensors") for where in (STORED / "t5_gated", tmp_path / "back"))
    assert {key: value.tobytes() for key, value in written.items()} == {key: value.tobytes() for key, value in stored.items()}


@pytest.mark.parametrize("name, change, fields, message", [
    ("t5_tied", lambda t: t | {"lm_head.weight": t["shared.weight"] + 1}, {}, "lm_head.weight differs from shared.weight"),
    ("t5_tied", lambda t: t, {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu_new", "is_gated_act": True},
     "missing decoder.block.0.layer.2.DenseReluDense.wi_0.weight,"),
    ("t5_gated", lambda t: {k: v for k, v in t.items() if k != "encoder.block.1.layer.0.SelfAttention.q.weight"}, {},
     "the tensors are not those of T5ForConditionalGeneration: missing encoder.block.1.layer.0.SelfAttention.q.weight;"),
    ("t5_gated", lambda t: t | {"encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight": np.ones((8, 3), np.float32)}, {},
     "unexpected encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight;"),
    ("umt5", lambda t: {k: v for k, v in t.items() if "encoder.block.1.layer.0.SelfAttention.rel" not in k}, {},
     "missing encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight;"),
    ("t5_gated", lambda t: t, {"num_decoder_layers": 2}, "config.json speaks of 2 decoder layers, the tensors are of 3"),
    ("t5_gated", lambda t: t, {"num_layers": 10**12}, "config.json speaks of 1000000000000 encoder layers, the tensors are of 2"),
    ("t5_gated", lambda t: t, {"d_kv": 5}, "has shape [18, 20] instead of [15, 20]"),
    ("t5_gated", lambda t: t, {"relative_attention_num_buckets": 9}, "has shape [8, 3] instead of [9, 3]"),
    ("t5_gated", lambda t: t, {"dense_act_fn": "gelu"}, "dense_act_fn is 'gelu', and feed_forward_proj 'gated-gelu' means 'gelu_new'"),
    ("t5_tied", lambda t: t, {"is_gated_act": True}, "is_gated_act is True, and feed_forward_proj 'relu' means False"),
    ("t5_gated", lambda t: t, {"architectures": ["T5EncoderModel"]}, "the architecture T5EncoderModel is not known"),
])  # fmt: skip
def test_what_is_refused(theirs, tmp_path, capsys, name, change, fields, message):
    folder = theirs(name)
    change_tensors(folder, change)
    change_config(folder, **fields)
    assert convert_hf.main([f"--from_hf={folder}", f"--to={tmp_path / 'ours'}"]) == 2
    said = capsys.readouterr().err
    assert message in said and not (tmp_path / "ours").exists(), said


def test_names_that_older_files_have(theirs, tmp_path):
    """Mesh TensorFlow's unused table, and every tied copy."""
    folder = theirs("t5_tied")
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    change_tensors(folder, lambda t: t | {unused: np.ones((8, 3), np.float32)} | {name: t["shared.weight"].copy() for name in copies})
    assert convert_hf.main([f"--from_hf={folder}", f"--to={tmp_path / 'a'}"]) == 0
    assert convert_hf.main([f"--from_hf={STORED / 't5_tied'}", f"--to={tmp_path / 'b'}"]) == 0
    assert parameter_hash(load.load(tmp_path / "a")[1]) == parameter_hash(load.load(tmp_path / "b")[1])


def test_an_encoder_decoder_has_no_heads(theirs, tmp_path, capsys):
    assert convert_hf.main([f"--from_hf={theirs('t5_tied')}", f"--to={tmp_path / 'ours'}", "--task=rte"]) == 2
    assert "--task=rte: T5ForConditionalGeneration has no head for a task" in capsys.readouterr().err


# Vocabularies


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A SentencePiece model with T5's ids: padding 0, end 1, unknown 2, nothing else special; three sentinels behind its pieces."""
    import sentencepiece

    path = tmp_path_factory.mktemp("pieces") / "spiece.model"
    texts = ["the cat sat on the mat", "a dog ran to the cat", "translate this to that"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=path.open("wb"), vocab_size=40, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    (path.parent / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer", "extra_ids": 3}')
    return path.parent


def test_sentencepiece_goes_over_and_back(theirs, pieces, tmp_path):
    folder = theirs("t5_gated")
    shutil.copytree(pieces, folder, dirs_exist_ok=True)
    assert convert_hf.main([f"--from_hf={folder}", f"--to={tmp_path / 'ours'}"]) == 0
    tokenizer, direct = rootstock.load(tmp_path / "ours").tokenizer, vocabularies.load(pieces)
    assert tokenizer.encode("the cat sat") == direct.encode("the cat sat") and tokenizer.id_of("<extra_id_0>") == tokenizer.size - 1
    assert convert_hf.main([f"--from={tmp_path / 'ours'}", f"--to_hf={tmp_path / 'back'}"]) == 0
    for file in pieces.iterdir():
        assert (tmp_path / "back" / file.name).read_bytes() == file.read_bytes()
    written = json.loads((tmp_path / "back" / "config.json").read_text())
    assert written["pad_token_id"] == 0 and written["eos_token_id"] == 1 and written["decoder_start_token_id"] == 0


def test_bytes_have_no_file(theirs, tmp_path):
    """ByT5: three special ids and 256 bytes, known by the name of the tokenizer alone."""
    folder = theirs("mt5")
    change_config(folder, vocab_size=384)
    change_tensors(folder, lambda t: {k: np.resize(v, (384, 20)) if len(v) == 67 else v for k, v in t.items()})
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer", "extra_ids": 125}')
    assert convert_hf.main([f"--from_hf={folder}", f"--to={tmp_path / 'ours'}"]) == 0
    assert rootstock.load(tmp_path / "ours").tokenizer.encode("aé") == [100, 198, 172]
    assert convert_hf.main([f"--from={tmp_path / 'ours'}", f"--to_hf={tmp_path / 'back'}"]) == 0
    assert "ByT5Tokenizer" in (tmp_path / "back" / "tokenizer_config.json").read_text()


def test_a_damaged_vocabulary(theirs, tmp_path, capsys):
    folder = theirs("t5_gated")
    (folder / "spiece.model").write_bytes(b"no model")
    assert convert_hf.main([f"--from_hf={folder}", f"--to={tmp_path / 'ours'}"]) == 2
    assert "is not a SentencePiece model" in capsys.readouterr().err


# In torch


OPEN = """
import json, os, sys
import numpy as np, torch, transformers

folder, inputs, output = sys.argv[1:]
name = json.load(open(f"{folder}/config.json"))["architectures"][0]
model, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
given = {key: torch.from_numpy(value).long() for key, value in np.load(inputs).items()}
with torch.no_grad():
    logits = model.eval()(**given).logits
    # transformers 5.23 gives the cache of the decoder as many layers as the encoder has.
    made = model.generate(given["input_ids"], attention_mask=given["attention_mask"], max_new_tokens=4, do_sample=False, use_cache=False)
np.savez(output, logits=logits.numpy(), made=made.numpy())
if os.path.exists(f"{folder}/spiece.model"):
    print(json.dumps(transformers.T5Tokenizer.from_pretrained(folder)("the cat sat").input_ids))
print(json.dumps({key: sorted(map(str, value)) for key, value in info.items()}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not all(map(importlib.util.find_spec, ("torch", "transformers"))), reason="torch and transformers are not installed")
def test_transformers_opens_it(converted, pieces, tmp_path):
    """No tensor missing, unexpected or of another shape; torch's logits are those of the stored model; it generates from our start, and
    its tokenizer gives our ids and the end.
    """
    name, _, cases = converted
    shutil.copytree(STORED / name, tmp_path / "theirs")
    shutil.copytree(pieces, tmp_path / "theirs", dirs_exist_ok=True)
    folder = tmp_path / "ours"
    assert convert_hf.main([f"--from_hf={tmp_path / 'theirs'}", f"--to={folder}"]) == 0
    assert convert_hf.main([f"--from={folder}", f"--to_hf={tmp_path / 'hf'}"]) == 0
    np.savez(tmp_path / "given.npz", **{key: cases[f"case1/{key}"] for key in ("input_ids", "attention_mask", "labels")})
    command = [sys.executable, "-c", OPEN, tmp_path / "hf", tmp_path / "given.npz", tmp_path / "found.npz"]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    ids, info = map(json.loads, run.stdout.splitlines()[-2:])
    assert ids == [*vocabularies.load(pieces).encode("the cat sat"), 1]
    assert set(info) >= {"missing_keys", "unexpected_keys", "mismatched_keys"} and not any(info.values()), info
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_allclose(found["logits"], cases["case1/logits"], rtol=0, atol=1e-5)
        assert (found["made"][:, 0] == load.load(folder)[0].model.config.start_id).all()
