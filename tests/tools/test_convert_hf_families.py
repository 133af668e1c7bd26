"""The converter's command on ELECTRA, DeBERTa, ALBERT, RoBERTa and ModernBERT: there and back, released spellings, vocabularies, refusals.

Parity is in test_convert_hf_encoders.py.
"""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import rootstock
from rootstock.engine import checkpoints, load
from rootstock.finetune import heads_hf
from rootstock.models import bert, deberta, deberta_hf, deberta_pair, electra, hf
from rootstock.models.layers import parameters, stack
from rootstock.tools import convert_hf, converted
from rootstock.tools.inspect import parameter_hash

STORED = Path(__file__).parents[1] / "golden" / "hf"
MODELS = sorted(path.parent.name for path in STORED.glob("*/cases.npz") if not path.parent.name.startswith(("bert_", "t5_", "mt5", "umt5")))


@pytest.fixture
def theirs(tmp_path):
    """(name) -> a copy of a stored directory that may be changed."""
    return lambda name: Path(shutil.copytree(STORED / name, tmp_path / "theirs", ignore=shutil.ignore_patterns("cases.npz")))


def change_config(folder, drop=(), **fields):
    path = folder / "config.json"
    kept = {key: value for key, value in json.loads(path.read_text()).items() if key not in drop}
    path.write_text(json.dumps(kept | fields))


def change_tensors(folder, change):
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")


def config_of(name):
    theirs = json.loads((STORED / name / "config.json").read_text())
    return hf.families()[theirs["model_type"]], theirs


def bits(folder):
    return {key: value.tobytes() for key, value in load_file(folder / "model.safetensors").items()}


# There and back


@pytest.mark.parametrize("name", ["electra_classes", "deberta_v2_conv", "modernbert_regression"])
def test_there_and_back(name, tmp_path):
    """Through the files: bit for bit, with the stored logits on the way."""
    ours, back, again = (tmp_path / part for part in ("ours", "back", "again"))
    assert convert_hf.main([f"--from_hf={STORED / name}", f"--to={ours}"]) == 0
    with np.load(STORED / name / "cases.npz") as cases:
        case = {key.removeprefix("case0/"): value for key, value in cases.items() if key.startswith("case0/")}
    out = rootstock.load(ours)(case["input_ids"], case["attention_mask"], case.get("token_type_ids"))
    where = (case["attention_mask"] == 1) if name == "deberta_v2_conv" else ...
    np.testing.assert_allclose(out.logits[where], case["logits"][where], rtol=0, atol=1e-5)
    assert convert_hf.main([f"--from={ours}", f"--to_hf={back}"]) == 0
    assert bits(back) == bits(STORED / name)
    assert convert_hf.main([f"--from_hf={back}", f"--to={again}"]) == 0
    assert parameter_hash(checkpoints.read_params(again)) == parameter_hash(checkpoints.read_params(ours))
    assert (again / "config.json").read_text() == (ours / "config.json").read_text()


# What is of the version, follows from other fields, or is of the vocabulary and of the head.
UNSAID = {
    "architectures", "dtype", "transformers_version", "use_cache", "label2id", "id2label", "problem_type", "bos_token_id", "eos_token_id",
    "cls_token_id", "sep_token_id", "pad_token_id", "classifier_dropout", "classifier_dropout_prob", "summary_last_dropout", "legacy",
    "layer_types", "rope_parameters", "deterministic_flash_attn", "sparse_prediction", "sparse_pred_ignore_index",
    "initializer_cutoff_factor", "max_relative_positions", "conv_act",
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_config_comes_back(name):
    """Every field that transformers wrote and that says something of the model has the same value, and ours is read the same again."""
    family, theirs = config_of(name)
    config = hf.config(family, theirs)
    written = hf.config_back(family, config)
    assert hf.config(family, written) == config and hf.family_of(config) in (family, hf.families()["deberta"])
    said = {key: value for key, value in theirs.items() if key not in UNSAID}
    terms = {"pos_att_type": sorted(theirs["pos_att_type"])} if "pos_att_type" in theirs else {}
    assert said | terms == {key: written.get(key) for key in said}


def test_the_files_of_the_hub_say_it_by_two_numbers():
    """ModernBERT as its authors published it and as transformers 5 writes it."""
    family, theirs = config_of("modernbert_masked_lm")
    old = {key: value for key, value in theirs.items() if key not in ("layer_types", "rope_parameters")}
    two = dict(global_attn_every_n_layers=3, global_rope_theta=160000.0, local_rope_theta=10000.0)
    assert hf.config(family, old | two) == hf.config(family, theirs)
    alone = theirs | {"layer_types": ["full_attention"] + ["sliding_attention"] * 4}
    assert hf.config(family, alone).global_every == 5


# Released files


def test_deberta_v3_as_released(theirs, tmp_path, capsys):
    """Encoder, RTD head, the generator's masked-LM head and positions in one file, of no class."""
    folder = theirs("deberta_v2_masked_lm")
    change_config(folder, drop=["architectures"])
    chance = np.random.default_rng(0)
    normal = lambda *shape: chance.normal(size=shape).astype(np.float32)
    head = {"mask_predictions.LayerNorm.weight": normal(16), "mask_predictions.LayerNorm.bias": normal(16),
            "mask_predictions.dense.weight": normal(16, 16), "mask_predictions.dense.bias": normal(16),
            "mask_predictions.classifier.weight": normal(1, 16), "mask_predictions.classifier.bias": normal(1)}  # fmt: skip
    places = {"deberta.embeddings.position_embeddings.weight": normal(37, 16)}
    places["deberta.embeddings.word_embeddings._weight"] = normal(37, 16)  # of the xsmall and the multilingual one
    released = lambda name: name.replace("cls.predictions.transform", "lm_predictions.lm_head").replace(
        "cls.predictions", "lm_predictions.lm_head"
    )
    change_tensors(folder, lambda tensors: {released(name): value for name, value in tensors.items()} | head | places)
    assert convert_hf.main([f"--from_hf={folder}", f"--to={tmp_path / 'ours'}"]) == 0
    said = capsys.readouterr().out
    assert "ReplacedTokenDetectionModel does not use cls.predictions.bias, " in said and "word_embeddings._weight: left out" in said
    model = rootstock.load(tmp_path / "ours")
    assert type(model.model) is deberta.Discriminator
    out = model(np.array([[1, 7, 8, 2], [1, 9, 2, 0]]), np.array([[1, 1, 1, 1], [1, 1, 1, 0]]))
    np.testing.assert_allclose(out.logits, detection(np.asarray(out.last_hidden_state), head), rtol=0, atol=1e-5)
    assert convert_hf.main([f"--from={tmp_path / 'ours'}", f"--to_hf={tmp_path / 'back'}"]) == 0
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert all(back[name].tobytes() == value.tobytes() for name, value in head.items())
    assert json.loads((tmp_path / "back" / "config.json").read_text())["architectures"] == ["ReplacedTokenDetectionModel"]


@pytest.mark.parametrize("name, rate", [("TokenClassification", 0.1), ("SequenceClassification", 0.3), ("MultipleChoice", 0.3)])
def test_dropout_of_debertas_heads(name, rate):
    """transformers' class for tokens has the encoder's rate, the others `cls_dropout`; one that differs cannot be said."""
    theirs, architecture = {"cls_dropout": 0.3, "hidden_dropout_prob": 0.1}, f"DebertaV2For{name}"
    head = heads_hf.head(deberta_hf.V2, architecture, theirs).head
    assert head.dropout == rate
    if name == "TokenClassification":
        assert heads_hf.head_back(deberta_hf.V2, architecture, head, theirs)["hidden_dropout_prob"] == 0.1
        with pytest.raises(hf.Mismatch, match=r"has one hidden_dropout_prob for encoder and head; the encoder's is 0\.2, the head's 0\.1"):
            heads_hf.head_back(deberta_hf.V2, architecture, head, {"hidden_dropout_prob": 0.2})


def detection(hidden, head):
    """w . gelu(W LN(h_cls + h) + b) + c in float64, as the released code says."""
    from math import erf

    get = lambda name: head[f"mask_predictions.{name}"].astype(np.float64)
    x = (hidden[:, :1] + hidden).astype(np.float64)
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3)
    x = (x * get("LayerNorm.weight") + get("LayerNorm.bias")) @ get("dense.weight").T + get("dense.bias")
    x = x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))
    return (x @ get("classifier.weight").T)[..., 0] + get("classifier.bias")


def test_deberta_v1_as_released(theirs, tmp_path):
    """Its positions are those of the mask decoder."""
    folder = theirs("deberta_masked_lm")
    change_config(folder, drop=["architectures"])
    places = {"deberta.embeddings.position_embeddings.weight": np.ones((37, 16), np.float32)}
    change_tensors(folder, lambda tensors: tensors | places)
    assert convert_hf.main([f"--from_hf={folder}", f"--to={tmp_path / 'ours'}"]) == 0
    assert type(load.load(tmp_path / "ours")[0].model) is deberta.EnhancedMaskedLM
    assert convert_hf.main([f"--from={tmp_path / 'ours'}", f"--to_hf={tmp_path / 'back'}"]) == 0
    assert bits(tmp_path / "back") == bits(folder)


def test_a_pooler_that_robertas_classifier_does_not_use(theirs, tmp_path, capsys):
    folder = theirs("roberta_classes")
    pooler = {"roberta.pooler.dense.weight": np.ones((16, 16), np.float32), "roberta.pooler.dense.bias": np.ones(16, np.float32)}
    change_tensors(folder, lambda tensors: tensors | pooler)
    assert convert_hf.main([f"--from_hf={folder}", f"--to={tmp_path / 'ours'}"]) == 0
    assert "does not use roberta.pooler.dense.bias, roberta.pooler.dense.weight: left out" in capsys.readouterr().out
    assert convert_hf.main([f"--from={tmp_path / 'ours'}", f"--to_hf={tmp_path / 'back'}"]) == 0
    assert bits(tmp_path / "back") == bits(STORED / "roberta_classes")


# Pairs


SMALL = dict(vocab_size=31, width=16, layers=2, heads=2, mlp_width=24, max_length=16)
PAIRS = {
    "electra": (electra.Pair, electra.PairConfig(electra.Config(**SMALL, embedding_width=8), 0.5),
                ("ElectraForPreTraining", "ElectraForMaskedLM")),
    "deberta": (deberta_pair.Pair, deberta_pair.PairConfig(deberta.Config(**SMALL, buckets=4, max_distance=16), 1),
                ("ReplacedTokenDetectionModel", "MaskedLanguageModel")),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_both_of_a_pair(name, tmp_path, capsys):
    """Each comes out as a model of its own with the embeddings that it uses, and gives the same logits."""
    family, config, architectures = PAIRS[name]
    blueprint = converted.drawn(family, config)
    params = {key: np.random.default_rng(1).normal(size=spec.shape).astype(np.float32) * 0.2 for key, spec in blueprint.specs.items()}
    (tmp_path / "pair").mkdir()
    converted.write_model_dir(tmp_path / "pair", blueprint, params, None)
    pair, ids = rootstock.load(tmp_path / "pair"), np.array([[1, 7, 8, 2, 9]])
    assert convert_hf.main([f"--from={tmp_path / 'pair'}", f"--to_hf={tmp_path / 'x'}", "--task=both"]) == 2
    assert "--task=both: this checkpoint is a pair; choose discriminator or generator" in capsys.readouterr().err
    for part, architecture in zip(("discriminator", "generator"), architectures, strict=True):
        assert convert_hf.main([f"--from={tmp_path / 'pair'}", f"--to_hf={tmp_path / part}", f"--task={part}"]) == 0
        assert json.loads((tmp_path / part / "config.json").read_text())["architectures"] == [architecture]
        assert convert_hf.main([f"--from_hf={tmp_path / part}", f"--to={tmp_path / f'{part}.ours'}"]) == 0
        wanted = pair(ids).logits if part == "discriminator" else pair.model.generator(jnp.asarray(ids, jnp.int32)).logits
        np.testing.assert_allclose(rootstock.load(tmp_path / f"{part}.ours")(ids).logits, wanted, rtol=0, atol=1e-5)


# Refusals


@pytest.mark.parametrize("name, fields, message", [
    ("electra_masked_lm", {"hidden_act": "relu"}, "hidden_act is 'relu'; known are gelu"),
    ("electra_masked_lm", {"embedding_size": 32}, "electra.embeddings.LayerNorm.bias has shape [8] instead of [32]"),
    ("electra_masked_lm", {"embedding_size": 16}, "unexpected electra.embeddings_project.bias, electra.embeddings_project.weight"),
    ("electra_masked_lm", {"embedding_size": None}, "unexpected electra.embeddings_project.bias"),
    ("electra_masked_lm", {"vocab_size": 44}, "has shape [43, 8] instead of [44, 8]"),
    ("electra_choices", {"summary_type": "mean"}, "summary_type is 'mean'; of electra only 'first' is known here"),
    ("electra_pretraining", {"architectures": ["ElectraForCausalLM"]}, "the architecture ElectraForCausalLM is not known"),
    ("roberta_tokens", {"pad_token_id": None}, "pad_token_id is None; positions begin behind it"),
    ("roberta_tokens", {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
    ("albert_tokens", {"inner_group_num": 2}, "inner_group_num is 2; of albert only 1 is known here"),
    ("albert_tokens", {"num_hidden_groups": 4}, "config.json speaks of 4 groups of layers, the tensors are of 2"),
    ("albert_tokens", {"num_hidden_layers": 5}, "2 groups do not divide the 5 layers"),
    ("deberta_tokens", {"relative_attention": False}, "relative_attention is False; known are True"),
    ("deberta_tokens", {"pos_att_type": "c2p|p2p"}, "pos_att_type is 'c2p|p2p'; known are c2p|p2c, c2p, p2c,"),
    ("deberta_tokens", {"pos_att_type": 3}, "pos_att_type is 3; expected a list of c2p and p2c"),
    ("deberta_tokens", {"pos_att_type": ["c2p"]}, "missing deberta.encoder.layer.0.attention.self.pos_proj.weight"),
    ("deberta_tokens", {"talking_head": True}, "talking_head is True; of deberta only False is known here"),
    ("deberta_tokens", {"num_attention_heads": 3}, "3 heads do not divide the width 16"),
    ("deberta_v2_answers", {"share_att_key": False}, "missing deberta.encoder.layer.0.attention.self.pos_key_proj.bias"),
    ("deberta_v2_answers", {"norm_rel_ebd": "batch"}, "norm_rel_ebd is 'batch'; known are layer_norm, none"),
    ("deberta_v2_answers", {"position_buckets": 8}, "deberta.encoder.rel_embeddings.weight has shape [8, 16] instead of [16, 16]"),
    ("deberta_v2_answers", {"position_buckets": "4"}, "position_buckets is '4'"),
    ("deberta_v2_conv", {"conv_kernel_size": 4}, "its size is odd; got 4"),
    ("deberta_v2_conv", {"conv_kernel_size": 5}, "deberta.encoder.conv.conv.weight has shape [16, 16, 3] instead of [16, 16, 5]"),
    ("deberta_v2_conv", {"conv_groups": 2}, "conv_groups is 2"),
    ("deberta_v2_conv", {"conv_act": "sine"}, "conv_act is 'sine'; known are gelu"),
    ("deberta_v2_classes", {"pooler_dropout": 0.1}, "pooler_dropout is 0.1"),
    ("deberta_v2_classes", {"pooler_hidden_size": 8}, "pooler_hidden_size is 8; known is only the hidden_size, 16"),
    ("deberta_v2_classes", {"architectures": ["DebertaV2ForMaskedLM"]}, "the tensors are not those of DebertaV2ForMaskedLM: missing"),
    ("modernbert_tokens", {"layer_types": ["full_attention", "sliding_attention", "full_attention", "full_attention", "sliding_attention"]},
     "layer_types is ['full_attention', 'sliding_attention', 'full_attention'"),
    ("modernbert_tokens", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "known is the type 'default' with a rope_theta"),
    ("modernbert_tokens", {"mlp_dropout": 0.5}, "embedding_dropout is 0.0 and mlp_dropout 0.5; here they are one number"),
    ("modernbert_tokens", {"classifier_pooling": "max"}, "classifier_pooling is 'max'; known are cls, mean"),
    ("modernbert_tokens", {"attention_bias": True}, "attention_bias is True; of modernbert only False is known here"),
    ("modernbert_tokens", {"intermediate_size": 23}, "mlp.Wi.weight has shape [48, 16] instead of [46, 16]"),
    ("modernbert_tokens", {"hidden_activation": "silu"}, "hidden_activation is 'silu'; known are gelu"),
])  # fmt: skip
def test_configurations_that_are_refused(theirs, tmp_path, capsys, name, fields, message):
    folder = theirs(name)
    change_config(folder, **fields)
    assert convert_hf.main([f"--from_hf={folder}", f"--to={tmp_path / 'ours'}"]) == 2
    said = capsys.readouterr().err
    assert message in said and not (tmp_path / "ours").exists(), said


@pytest.mark.parametrize("name, ending", [
    ("deberta_masked_lm", "layer.1.attention.self.in_proj.weight"), ("modernbert_tokens", "layers.2.attn.Wqkv.weight"),
    ("modernbert_tokens", "layers.1.attn_norm.weight"), ("albert_choices", "albert.pooler.bias"),
    ("roberta_classes", "classifier.dense.bias"),
])  # fmt: skip
def test_missing_and_unexpected_tensors(theirs, tmp_path, capsys, name, ending):
    folder = theirs(name)
    change_tensors(folder, lambda tensors: {key.replace(ending, f"{ending}x"): value for key, value in tensors.items()})
    assert convert_hf.main([f"--from_hf={folder}", f"--to={tmp_path / 'ours'}"]) == 2
    said = capsys.readouterr().err
    assert f"{ending};" in said and f"{ending}x;" in said and "missing" in said and "unexpected" in said


@pytest.mark.parametrize("family, config, message", [
    ("electra", electra.Config(**SMALL, embedding_width=16), "Config.embedding_width is the width itself"),
    ("deberta-v2", deberta.Config(**SMALL, buckets=4, key_bias=False), "Config.key_bias is False"),
    ("deberta-v2", deberta.Config(**SMALL, embedding_width=16), "Config.embedding_width is the width itself"),
    ("bert", bert.Config(**SMALL, embedding_width=8), "Config.embedding_width is 8"),
])  # fmt: skip
def test_what_their_configurations_cannot_say(family, config, message):
    with pytest.raises(hf.Mismatch, match=message):
        hf.config_back(hf.families()[family], config)


# Vocabularies


def pieces(path, *, specials, size, **ids):
    import sentencepiece

    texts = ["the cat sat on the mat", "a dog ran to the cat", "say this to that"] * 20
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=file, vocab_size=size, control_symbols=specials, hard_vocab_limit=False,
            minloglevel=2, **ids,
        )  # fmt: skip


def test_sentencepiece_of_deberta(theirs, tmp_path, capsys):
    """[MASK] lies behind the file's last piece; too small a table is refused."""
    folder = theirs("deberta_v2_masked_lm")
    ids = dict(pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]")
    pieces(folder / "spm.model", specials=[], size=40, **ids)
    assert convert_hf.main([f"--from_hf={folder}", f"--to={tmp_path / 'ours'}"]) == 0
    tokenizer = rootstock.load(tmp_path / "ours").tokenizer
    assert tokenizer.mask_id == tokenizer.size - 1 and tokenizer.cls_id == 1 and "warning" not in capsys.readouterr().out
    assert convert_hf.main([f"--from={tmp_path / 'ours'}", f"--to_hf={tmp_path / 'back'}"]) == 0
    assert (tmp_path / "back" / "spm.model").read_bytes() == (folder / "spm.model").read_bytes()
    small = tokenizer.size - 1
    change_config(folder, vocab_size=small)
    change_tensors(folder, lambda tensors: {key: value[:small] if len(value) == 43 else value for key, value in tensors.items()})
    assert convert_hf.main([f"--from_hf={folder}", f"--to={tmp_path / 'small'}"]) == 2
    assert (
        f"has {tokenizer.size} pieces, the model's vocab_size is {small}" in capsys.readouterr().err and not (tmp_path / "small").exists()
    )


def test_sentencepiece_of_albert(theirs, tmp_path, capsys):
    """Its own tokenizer makes texts lowercase before; where nothing does, it is said."""
    folder = theirs("albert_masked_lm")
    pieces(folder / "spiece.model", specials=["[CLS]", "[SEP]", "[MASK]"], size=40, pad_id=0, unk_id=1, bos_id=-1, eos_id=-1)
    assert convert_hf.main([f"--from_hf={folder}", f"--to={tmp_path / 'ours'}"]) == 0
    assert "spiece.model without tokenizer.json. Its own tokenizer makes a text lowercase" in capsys.readouterr().out
    tokenizer = rootstock.load(tmp_path / "ours").tokenizer
    assert (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id) == (0, 2, 3, 4)
    assert convert_hf.main([f"--from={tmp_path / 'ours'}", f"--to_hf={tmp_path / 'back'}"]) == 0
    assert (tmp_path / "back" / "spiece.model").read_bytes() == (folder / "spiece.model").read_bytes()
    written = json.loads((tmp_path / "back" / "config.json").read_text())
    assert (written["pad_token_id"], written["bos_token_id"], written["eos_token_id"]) == (0, 2, 3)


def byte_level(folder, specials, mask):
    """Some letters, one merge, the special pieces in front and the mask at the end."""
    letters = [*"abcdefghijklmnopqrst", "Ġ", "th"]
    words = [*specials, *letters, mask]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\n")
    return {word: index for index, word in enumerate(words)}


@pytest.mark.parametrize("name, specials, mask", [
    ("roberta_masked_lm", ["<s>", "<pad>", "</s>", "<unk>"], "<mask>"),
    ("deberta_masked_lm", ["[PAD]", "[CLS]", "[SEP]", "[UNK]"], "[MASK]"),
])  # fmt: skip
def test_byte_level_bpe(theirs, tmp_path, name, specials, mask):
    folder = theirs(name)
    ids = byte_level(folder, specials, mask)
    assert convert_hf.main([f"--from_hf={folder}", f"--to={tmp_path / 'ours'}"]) == 0
    tokenizer = rootstock.load(tmp_path / "ours").tokenizer
    assert tokenizer.encode(f"the {mask}") == [ids["th"], ids["e"], ids[mask]]
    assert (tokenizer.mask_id, tokenizer.pad_id) == (ids[mask], ids[specials[1 if name.startswith("rob") else 0]])
    assert convert_hf.main([f"--from={tmp_path / 'ours'}", f"--to_hf={tmp_path / 'back'}"]) == 0
    for file in ("vocab.json", "merges.txt"):
        assert (tmp_path / "back" / file).read_bytes() == (folder / file).read_bytes()


def test_the_pickle_of_deberta_is_not_opened(theirs, tmp_path, capsys):
    folder = theirs("deberta_masked_lm")
    (folder / "bpe_encoder.bin").write_bytes(f"cos\nmkdir\n(S'{tmp_path / 'opened'}'\ntR.".encode())
    assert convert_hf.main([f"--from_hf={folder}", f"--to={tmp_path / 'ours'}"]) == 0
    assert "bpe_encoder.bin is a pickle" in capsys.readouterr().out and not (tmp_path / "opened").exists()


def test_robertas_padding_must_be_the_vocabularys(theirs, tmp_path, capsys):
    """Positions begin behind its id there, so another one would move them all."""
    folder = theirs("roberta_masked_lm")
    byte_level(folder, ["<pad>", "<s>", "</s>", "<unk>"], "<mask>")
    assert convert_hf.main([f"--from_hf={folder}", f"--to={tmp_path / 'ours'}"]) == 0
    assert convert_hf.main([f"--from={tmp_path / 'ours'}", f"--to_hf={tmp_path / 'back'}"]) == 2
    assert "pad_token_id would be 1 by its configuration, and its vocabulary has 0" in capsys.readouterr().err
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("name", MODELS)
def test_the_tables_have_every_parameter_once(name):
    """A parameter without a row, or with two, would be lost on the way."""
    taken = convert_hf.take(STORED / name)
    names = {canonical for stored in taken.params for canonical, _ in stack.address(stored)}
    matched = [
        sum(bool(hf._pattern(part).fullmatch(convert_hf._theirs(key, taken.task))) for row in taken.table.rows for part in row.parts)
        for key in names
    ]
    assert set(matched) == {1} and names == {c for n in parameters.specs(taken.blueprint.model) for c, _ in stack.address(n)}
