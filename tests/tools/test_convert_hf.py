"""The converter: what it takes, what it refuses and with which words, and what it leaves behind. Parity is in test_convert_hf_parity.py."""

import json
import shutil
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import rootstock
from rootstock.data import vocabularies
from rootstock.engine import checkpoints, load
from rootstock.engine.errors import UserError
from rootstock.engine.model_dir import read_config, write_config
from rootstock.engine.resume import take_over
from rootstock.finetune import finetuned, heads
from rootstock.models import bert
from rootstock.models.layers import parameters
from rootstock.tools import convert_hf, converted, forward, hf_files, inspect

STORED = Path(__file__).parents[1] / "golden" / "hf"
PIECES = [
    *vocabularies.SPECIALS,
    *"the cat sat on a mat . , ##s ##ed ##a é 北".split(),
    *"bcdefghijklmnopqrstuvwxyz",
]  # as many as SMALL has


@pytest.fixture
def theirs(tmp_path):
    """(name) -> a copy of a stored directory that may be changed: `Theirs`."""
    return lambda name, folder="theirs": Theirs(
        shutil.copytree(STORED / name, tmp_path / folder, ignore=shutil.ignore_patterns("cases.npz"))
    )


class Theirs:
    def __init__(self, folder):
        self.folder = Path(folder)

    def config(self, drop=(), **fields):
        path = self.folder / "config.json"
        kept = {name: value for name, value in json.loads(path.read_text()).items() if name not in drop}
        path.write_text(json.dumps(kept | fields))

    def tensors(self, change):
        """`change` takes and gives a dictionary of arrays."""
        path = self.folder / "model.safetensors"
        save_file(change(load_file(path)), path, metadata={"format": "pt"})

    def vocabulary(self, **settings):
        (self.folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
        (self.folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True} | settings))

    def convert(self, *flags):
        """MODEL_DIR."""
        target = self.folder.with_name(f"{self.folder.name}.converted")
        assert convert_hf.main([f"--from_hf={self.folder}", f"--to={target}", *flags]) == 0
        return target

    def refused(self, capsys):
        """What the command says; nothing must be left of it."""
        before = sorted(self.folder.parent.iterdir())
        assert convert_hf.main([f"--from_hf={self.folder}", f"--to={self.folder.with_name('target')}"]) == 2
        assert sorted(self.folder.parent.iterdir()) == before
        said = capsys.readouterr().err
        assert said.startswith("error: ") and "Traceback" not in said
        return said


def hashed(folder):
    return inspect.parameter_hash(checkpoints.read_params(folder))


def renamed(change):
    return lambda tensors: {change(name): value for name, value in tensors.items()}


# What is taken


def test_model_dir_is_an_ordinary_one(theirs, capsys, tmp_path):
    given = theirs("bert_masked_lm")
    given.vocabulary()
    folder = given.convert()
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "config.json", "model-info.txt", "vocabulary"]
    assert (folder / "checkpoints" / "0" / "checksums.json").is_file() and checkpoints.steps(folder) == [0]
    assert "5,579 parameters" in (folder / "model-info.txt").read_text() and "BertForMaskedLM, 5,579 parameters" in capsys.readouterr().out
    model = rootstock.load(folder)
    assert model(["The cats sat.", "a mat"]).logits.shape == (2, 7, 43)
    assert type(model.model) is bert.MaskedLM and model.model.encoder.pooler is None
    assert inspect.main([f"--checkpoint={folder}"]) == 0 and "step 0, 5,579 parameters" in capsys.readouterr().out


def test_without_a_vocabulary(theirs, capsys):
    folder = theirs("bert_tokens").convert()
    assert "holds no vocabulary" in capsys.readouterr().out
    with pytest.raises(UserError, match="carries no vocabulary, so it takes input_ids and no texts"):
        rootstock.load(folder)(["the cat"])


@pytest.mark.parametrize("pooler", [True, False])
def test_an_encoder_alone(theirs, capsys, tmp_path, pooler):
    """load, forward, inspect, and the way back; with and without a pooler."""
    given = theirs("bert_model")
    if not pooler:
        given.tensors(lambda tensors: {name: value for name, value in tensors.items() if "pooler" not in name})
    folder = given.convert()
    ids = np.array([[1, 5, 6, 2]])
    out = rootstock.load(folder)(ids)
    assert out.logits is None and out.last_hidden_state.shape == (1, 4, 16)
    np.savez(tmp_path / "in.npz", input_ids=ids)
    flags = [f"--checkpoint={folder}", f"--input={tmp_path / 'in.npz'}", f"--output={tmp_path / 'out.npz'}"]
    capsys.readouterr()
    assert forward.main(flags) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out.npz'}: last_hidden_state (1, 4, 16)\n"
    with np.load(tmp_path / "out.npz") as written:
        assert written.files == ["last_hidden_state"]
        np.testing.assert_array_equal(written["last_hidden_state"], out.last_hidden_state)
    assert forward.main([*flags, "--task=ner"]) == 2 and "no head for ner" in capsys.readouterr().err
    assert inspect.main([f"--checkpoint={folder}"]) == 0
    assert ("encoder/pooler/kernel " in capsys.readouterr().out) is pooler
    assert convert_hf.main([f"--from={folder}", f"--to_hf={tmp_path / 'back'}"]) == 0
    assert load_file(tmp_path / "back" / "model.safetensors").keys() == load_file(given.folder / "model.safetensors").keys()


def test_a_released_bert(theirs, capsys):
    """bert-base-uncased calls itself BertForMaskedLM and holds a pooler, a next-sentence head, TensorFlow's names and tied copies."""
    plain = theirs("bert_pretraining", "plain").convert()
    given = theirs("bert_pretraining")
    given.config(architectures=["BertForMaskedLM"])
    tied = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    old = renamed(lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"))
    given.tensors(lambda tensors: old(tensors) | {copy: tensors[name].copy() for copy, name in tied.items()}
                  | {"bert.embeddings.position_ids": np.arange(40)[None]})  # fmt: skip
    folder = given.convert()
    assert "calls itself BertForMaskedLM, and its tensors are those of BertForPreTraining" in capsys.readouterr().out
    assert hashed(folder) == hashed(plain) and (folder / "config.json").read_text() == (plain / "config.json").read_text()


def test_a_pooler_that_its_class_does_not_use(theirs, capsys, tmp_path):
    """It is kept, because fine-tuning may want it; the way back leaves it out and says so."""
    given = theirs("bert_tokens")
    pooler = {"bert.pooler.dense.weight": np.ones((16, 16), np.float32), "bert.pooler.dense.bias": np.ones(16, np.float32)}
    given.tensors(lambda tensors: tensors | pooler)
    folder = given.convert()
    assert finetuned.encoder_of(str(folder)).config.pooler
    assert convert_hf.main([f"--from={folder}", f"--to_hf={tmp_path / 'back'}"]) == 0
    assert "BertForTokenClassification has no pooler: that of the checkpoint is left out" in capsys.readouterr().out
    assert not any("pooler" in name for name in load_file(tmp_path / "back" / "model.safetensors"))


@pytest.mark.parametrize("name", ["bert_model", "bert_masked_lm", "bert_pretraining", "bert_answers"])
def test_architecture_from_the_tensors(theirs, name):
    given, same = theirs(name), theirs(name, "same")
    given.config(drop=["architectures"])
    folder = given.convert()
    assert (folder / "config.json").read_text() == (same.convert() / "config.json").read_text()


def test_config_of_2018(theirs):
    """Without model_type and without what has defaults."""
    given, same = theirs("bert_masked_lm"), theirs("bert_masked_lm", "same")
    given.config(drop=["model_type", "layer_norm_eps", "initializer_range", "hidden_dropout_prob", "attention_probs_dropout_prob", "dtype"])
    assert (given.convert() / "config.json").read_text() == (same.convert() / "config.json").read_text()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_float_types(theirs, dtype):
    given, same = theirs("bert_model"), theirs("bert_model", "same")
    given.tensors(lambda tensors: {name: value.astype(dtype) for name, value in tensors.items()})
    same.tensors(lambda tensors: {name: value.astype(dtype).astype(np.float32) for name, value in tensors.items()})
    assert hashed(given.convert()) == hashed(same.convert())


def sharded(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    index = {}
    for number, part in enumerate((names[:9], names[9:20], names[20:]), 1):
        file = f"model-{number:05}-of-00003.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return index


def test_several_files(theirs, capsys):
    given, same = theirs("bert_pretraining"), theirs("bert_pretraining", "same")
    index = sharded(given.folder)
    assert hashed(given.convert()) == hashed(same.convert())
    (given.folder / "model-00002-of-00003.safetensors").unlink()
    assert "model-00002-of-00003.safetensors is no readable safetensors file" in given.refused(capsys)
    path = given.folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": dict.fromkeys(index, "../../secret.safetensors")}))
    assert "names the file '../../secret.safetensors'" in given.refused(capsys)
    first = {name: file for name, file in index.items() if "00001" in file}
    path.write_text(json.dumps({"weight_map": dict(list(first.items())[1:])}))
    assert f"does not agree with its files about {next(iter(first))}" in given.refused(capsys)
    path.write_text(json.dumps({"weight_map": []}))
    assert "has no weight_map" in given.refused(capsys)


# Heads


def test_names_of_classes(theirs, tmp_path):
    folder = theirs("bert_classes").convert("--task=rte")
    head = heads.Head(heads.Classification, 3, 0.25, ("entailment", "neutral", "contradiction"))
    assert read_config(folder).model.heads.rte.labels == head.labels
    assert rootstock.load(folder).model.config.heads == {"rte": head}
    assert convert_hf.main([f"--from={folder}", f"--to_hf={tmp_path / 'back'}"]) == 0
    written = json.loads((tmp_path / "back" / "config.json").read_text())
    assert written["id2label"] == {"0": "entailment", "1": "neutral", "2": "contradiction"} and written["label2id"]["neutral"] == 1


@pytest.mark.parametrize("name, task, head", [
    ("bert_regression", "sequence_classification", heads.Head(heads.Regression, 1, 0.1)),
    ("bert_tokens", "token_classification", heads.Head(heads.TokenClassification, 5, 0.1)),
    ("bert_answers", "question_answering", heads.Head(heads.SpanExtraction, 2, 0.0)),
    ("bert_choices", "multiple_choice", heads.Head(heads.MultipleChoice, 1, 0.1)),
])  # fmt: skip
def test_heads(theirs, name, task, head):
    assert rootstock.load(theirs(name).convert()).model.config.heads == {task: head}


@pytest.mark.parametrize("name", ["bert_classes", "bert_tokens", "bert_masked_lm", "bert_pretraining", "bert_model"])
def test_fine_tuning_starts_from_each(theirs, name):
    """Architecture and weights of the encoder go over to another head; one that wants a pooler says so where there is none."""
    folder = str(theirs(name).convert())
    encoder = finetuned.encoder_of(folder)
    model = finetuned.Config(encoder, {"ner": heads.Head(heads.TokenClassification, 4)})
    from rootstock.engine.state import Blueprint

    blueprint = Blueprint.draw(lambda key: finetuned.Finetuned(model, key), converted.one_device())
    before = {name: np.zeros(spec.shape, np.float32) for name, spec in blueprint.specs.items()}
    taken, saved = take_over(blueprint, before, folder, "^heads/"), checkpoints.read_params(folder)
    assert all((np.asarray(taken[name]) == np.asarray(saved[name])).all() for name in taken if name.startswith("encoder/"))
    pairs = finetuned.Config(encoder, {"boolq": heads.Head(heads.Classification, 2)})
    if encoder.config.pooler:
        parameters.abstract(lambda key: finetuned.Finetuned(pairs, key))
        return
    with pytest.raises(UserError, match=r"the Classification head for boolq reads the pooler, .*set finetuned\.encoder_of\.pooler = True"):
        parameters.abstract(lambda key: finetuned.Finetuned(pairs, key))
    pooled = finetuned.Config(finetuned.encoder_of(folder, pooler=True), pairs.heads)
    blueprint = Blueprint.draw(lambda key: finetuned.Finetuned(pooled, key), converted.one_device())
    before = {name: np.zeros(spec.shape, np.float32) for name, spec in blueprint.specs.items()}
    take_over(blueprint, before, folder, "^heads/|^encoder/pooler/")


def test_one_head_of_several(finetuned, tmp_path, capsys):
    """A run's own checkpoint, with its own vocabulary, and the parts that no class of theirs has."""
    flags = [f"--from={finetuned}", f"--to_hf={tmp_path / 'hf'}"]
    assert convert_hf.main(flags) == 2 and "choose one of the heads for boolq, copa, wsc" in capsys.readouterr().err
    assert convert_hf.main([*flags, "--task=cb"]) == 2 and "choose one of the heads for boolq" in capsys.readouterr().err
    assert convert_hf.main([*flags, "--task=wsc"]) == 2
    assert "a SpanClassification head has no counterpart in transformers" in capsys.readouterr().err
    assert not (tmp_path / "hf").exists()
    assert convert_hf.main([*flags, "--task=boolq"]) == 0
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["architectures"] == ["BertForSequenceClassification"]
    assert convert_hf.main([f"--from_hf={tmp_path / 'hf'}", f"--to={tmp_path / 'again'}", "--task=boolq"]) == 0
    ours, again = rootstock.load(finetuned), rootstock.load(tmp_path / "again")
    texts = ["the cat sat on the mat", "June."]
    np.testing.assert_array_equal(again.encode(texts)[0], ours.encode(texts)[0])
    np.testing.assert_array_equal(again(texts).logits, ours(texts, task="boolq").logits)


def test_a_step_of_a_run(trained, tmp_path, capsys):
    for step in (20, 24):
        assert convert_hf.main([f"--from={trained}", f"--to_hf={tmp_path / str(step)}", f"--step={step}"]) == 0
        assert convert_hf.main([f"--from_hf={tmp_path / str(step)}", f"--to={tmp_path / f'again{step}'}"]) == 0
        assert hashed(tmp_path / f"again{step}") == inspect.parameter_hash(checkpoints.read_params(trained, step=step))
    assert hashed(tmp_path / "again20") != hashed(tmp_path / "again24")
    assert convert_hf.main([f"--from={trained}", f"--to_hf={tmp_path / 'x'}", "--step=3"]) == 2
    assert "has no checkpoint of step 3" in capsys.readouterr().err
    assert convert_hf.main([f"--from={trained}", f"--to_hf={tmp_path / 'x'}", "--task=ner"]) == 2
    assert "--task=ner: this checkpoint has no heads" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


# Vocabularies


def test_vocabulary_goes_over_and_back(theirs, tmp_path):
    given = theirs("bert_masked_lm")
    given.vocabulary(model_max_length=35)
    folder = given.convert()
    assert convert_hf.main([f"--from={folder}", f"--to_hf={tmp_path / 'back'}"]) == 0
    for name in ("vocab.txt", "tokenizer_config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (given.folder / name).read_bytes()


@pytest.mark.parametrize("settings, text, pieces", [
    ({}, "É北a", ["e", "北", "a"]),
    ({"strip_accents": False}, "É北a", ["é", "北", "a"]),
    ({"tokenize_chinese_chars": False}, "É 北 a北", ["e", "北", "[UNK]"]),
    ({"do_lower_case": False}, "É a", ["[UNK]", "a"]),
])  # fmt: skip
def test_settings_of_the_tokenizer(theirs, settings, text, pieces):
    """What they do is what Hugging Face's page of BertTokenizer says; strip_accents is on where lower-casing is and nothing is said."""
    given = theirs("bert_masked_lm")
    given.vocabulary(**settings)
    tokenizer = rootstock.load(given.convert()).tokenizer
    assert [tokenizer.piece_of(i) for i in tokenizer.encode(text)] == pieces


@pytest.mark.parametrize("change, message", [
    (lambda folder: (folder / "vocab.txt").write_text("\n".join([*PIECES, "more"])), "has 44 pieces, the model's vocab_size is 43"),
    (lambda folder: (folder / "vocab.txt").write_text("the\ncat\n"), "is no BERT vocabulary"),
    (lambda folder: (folder / "vocab.txt").write_bytes(b"\xff\xfe"), "is not UTF-8 text"),
    (lambda folder: (folder / "tokenizer_config.json").write_text("{"), "is not JSON"),
    (lambda folder: (folder / "tokenizer_config.json").write_text("[]"), "holds no JSON object"),
    (lambda folder: (folder / "tokenizer_config.json").write_text('{"do_lower_case": "no"}'), "has do_lower_case 'no'; expected"),
    (lambda folder: (folder / "tokenizer.json").write_text("{}"), "is not a tokenizer.json"),
])  # fmt: skip
def test_broken_vocabularies(theirs, capsys, change, message):
    given = theirs("bert_masked_lm")
    given.vocabulary()
    change(given.folder)
    said = given.refused(capsys)
    assert message in said and "unfinished" not in said


def test_vocabularies_that_disagree(theirs, capsys):
    given = theirs("bert_masked_lm")
    given.vocabulary()
    (given.folder.parent / "whole").mkdir()
    vocabularies.load(given.folder).export(given.folder.parent / "whole")
    shutil.copyfile(given.folder.parent / "whole" / "tokenizer.json", given.folder / "tokenizer.json")
    given.convert()
    (given.folder / "vocab.txt").write_text("\n".join([*PIECES[:6], PIECES[7], PIECES[6], *PIECES[8:]]))
    assert "line 7 has the piece 'sat', whose id in 'tokenizer.json' is 7" in given.refused(capsys)


# What is refused


@pytest.mark.parametrize("name, fields, message", [
    ("bert_model", {"model_type": "xlm"}, "model_type is 'xlm'; known are "),
    ("bert_model", {"model_type": ["bert"]}, "model_type is ['bert']; known are "),
    ("bert_model", {"architectures": ["BertLMHeadModel"]}, "the architecture BertLMHeadModel is not known; known are BertModel"),
    ("bert_model", {"architectures": "BertModel"}, "architectures is 'BertModel'; expected a list"),
    ("bert_model", {"hidden_act": "silu"}, "hidden_act is 'silu'; known are gelu, gelu_new"),
    ("bert_model", {"hidden_act": None}, "hidden_act is None"),
    ("bert_model", {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'; of bert only 'absolute'"),
    ("bert_model", {"is_decoder": True}, "is_decoder is True; of bert only False"),
    ("bert_masked_lm", {"tie_word_embeddings": False}, "tie_word_embeddings is False"),
    ("bert_model", {"num_hidden_layers": 3}, "config.json speaks of 3 layers, the tensors are of 2"),
    ("bert_model", {"num_hidden_layers": 10**12}, "config.json speaks of 1000000000000 layers, the tensors are of 2"),
    ("bert_model", {"num_hidden_layers": "2"}, "num_hidden_layers is '2'; expected a whole number of at least 1"),
    ("bert_model", {"num_attention_heads": 3}, "3 heads do not divide the width 16"),
    ("bert_model", {"num_attention_heads": 0}, "num_attention_heads is 0; expected a whole number of at least 1"),
    ("bert_model", {"hidden_size": True}, "hidden_size is True"),
    ("bert_model", {"hidden_dropout_prob": 1.0}, "hidden_dropout_prob is 1.0; expected a number of at least 0 and below 1"),
    ("bert_model", {"layer_norm_eps": float("nan")}, "layer_norm_eps is nan"),
    ("bert_model", {"layer_norm_eps": 10**400}, "layer_norm_eps is 1000"),
    ("bert_model", {"vocab_size": 44}, "bert.embeddings.word_embeddings.weight has shape [43, 16] instead of [44, 16]"),
    ("bert_model", {"vocab_size": 10**30}, "instead of"),
    ("bert_model", {"intermediate_size": 25}, "bert.encoder.layer.0.intermediate.dense.weight has shape [24, 16] instead of [25, 16]"),
    ("bert_classes", {"id2label": {"0": "a", "1": "b"}}, "classifier.weight has shape [3, 16] instead of [2, 16]"),
    ("bert_classes", {"id2label": {"0": "a", "2": "b"}}, "id2label is {'0': 'a', '2': 'b'}; expected a name for each"),
    ("bert_classes", {"problem_type": "multi_label_classification"}, "problem_type is 'multi_label_classification'"),
    ("bert_classes", {"problem_type": "regression"}, "problem_type is 'regression' with 3 numbers"),
    ("bert_answers", {"id2label": {"0": "a", "1": "b", "2": "c"}}, "num_labels is 3; an extracted answer has a start and an end"),
    ("bert_classes", {"classifier_dropout": -1}, "classifier_dropout is -1"),
    ("bert_classes", {"architectures": ["BertForMaskedLM"]}, "the tensors are not those of BertForMaskedLM: missing cls.predictions.bias"),
    ("bert_classes", {"architectures": []}, "may be those of BertForSequenceClassification, BertForTokenClassification,"),
])  # fmt: skip
def test_configurations_that_are_refused(theirs, capsys, name, fields, message):
    given = theirs(name)
    given.config(**fields)
    assert message in given.refused(capsys)


@pytest.mark.parametrize("field", ["vocab_size", "hidden_size", "num_attention_heads", "hidden_act"])
def test_a_field_that_must_be_there(theirs, capsys, field):
    given = theirs("bert_model")
    given.config(drop=[field])
    assert field in given.refused(capsys)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"a": 1, "a": 2}', "[" * 100_000, "\udcff"])
def test_config_json_that_is_none(theirs, capsys, text):
    given = theirs("bert_model")
    (given.folder / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    assert "config.json" in given.refused(capsys)


@pytest.mark.parametrize("change, messages", [
    (lambda t: {n: v for n, v in t.items() if "layer.1.output.dense" not in n},
     ["missing bert.encoder.layer.1.output.dense.bias, bert.encoder.layer.1.output.dense.weight;"]),
    (lambda t: t | {"bert.conv.weight": np.ones(3, np.float32)}, ["unexpected bert.conv.weight;"]),
    (renamed(lambda name: name.replace("LayerNorm", "layer_norm")), ["missing", "unexpected", "and 2 more"]),
    (lambda t: t | {"encoder.layer.0.output.LayerNorm.bias": np.full(16, np.nan, np.float32)}, ["holds numbers that are not finite"]),
    (lambda t: t | {"encoder.layer.0.output.LayerNorm.bias": np.full(16, -np.inf, np.float32)}, ["not finite"]),
    (lambda t: t | {"encoder.layer.0.output.LayerNorm.bias": np.zeros(16, np.int32)}, ["is of type I32; expected one of BF16, F16, F32"]),
    (lambda t: t | {"bert.pooler.dense.bias": np.zeros(16, np.float32)}, ["bert.pooler.dense.bias stands twice"]),
    (lambda t: t | {"pooler.dense.weight": np.zeros((16, 15), np.float32)}, ["pooler.dense.weight has shape [16, 15] instead"]),
    (lambda t: {n: v for n, v in t.items() if n != "pooler.dense.bias"}, ["missing bert.pooler.dense.bias;"]),
])  # fmt: skip
def test_tensors_that_are_refused(theirs, capsys, change, messages):
    given = theirs("bert_model")
    given.tensors(change)
    said = given.refused(capsys)
    assert all(message in said for message in messages), said


def test_an_output_layer_of_its_own(theirs, capsys):
    given = theirs("bert_masked_lm")
    given.tensors(lambda t: t | {"cls.predictions.decoder.weight": t["bert.embeddings.word_embeddings.weight"] + 1})
    assert "cls.predictions.decoder.weight differs from bert.embeddings.word_embeddings.weight" in given.refused(capsys)


def test_damaged_weights(theirs, capsys):
    given = theirs("bert_model")
    path = given.folder / "model.safetensors"
    whole = path.read_bytes()
    for content in (b"", whole[:5], whole[:200], whole[:-1], whole + b"\0", b"\xff" * 8 + whole[8:], whole.replace(b'"F32"', b'"F33"', 1)):
        path.write_bytes(content)
        assert "is no readable safetensors file" in given.refused(capsys)


def test_a_pickle_is_not_opened(theirs, capsys):
    """One that would leave a trace if it were."""
    given = theirs("bert_model")
    trace = given.folder.parent / "opened"
    (given.folder / "model.safetensors").unlink()
    assert "holds no weights: expected model.safetensors" in given.refused(capsys)
    (given.folder / "pytorch_model.bin").write_bytes(f"cos\nmkdir\n(S'{trace}'\ntR.".encode())
    said = given.refused(capsys)
    assert "only as a pickle" in said and "save_pretrained(NEW_DIR)" in said and not trace.exists()


def test_targets(theirs, tmp_path, capsys, monkeypatch):
    given = theirs("bert_model")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    (tmp_path / "file").write_text("keep")
    for target, message in (
        ("full", "exists and is not an empty folder"),
        ("file", "exists and is not"),
        ("file/below", "cannot be written"),
    ):
        assert convert_hf.main([f"--from_hf={given.folder}", f"--to={tmp_path / target}"]) == 2
        assert f"--to={tmp_path / target} {message}" in capsys.readouterr().err
    assert (tmp_path / "full" / "mine.txt").read_text() == (tmp_path / "file").read_text() == "keep"
    (tmp_path / "empty").mkdir()
    assert convert_hf.main([f"--from_hf={given.folder}", f"--to={tmp_path / 'empty'}"]) == 0
    assert convert_hf.main([f"--from_hf={given.folder}", f"--to={tmp_path / 'new' / 'deep'}"]) == 0

    def broken(*_, **__):
        raise OSError(28, "No space left on device")

    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(converted.model_dir, "write_config", broken)
    assert convert_hf.main([f"--from_hf={given.folder}", f"--to={tmp_path / 'late'}"]) == 2
    monkeypatch.setattr(hf_files, "save_file", broken)
    assert convert_hf.main([f"--from={tmp_path / 'empty'}", f"--to_hf={tmp_path / 'late'}"]) == 2
    assert capsys.readouterr().err.count("cannot be written: No space left on device") == 2 and sorted(tmp_path.iterdir()) == before


def test_what_cannot_be_exported(tmp_path, capsys):
    config = bert.Config(vocab_size=9, width=4, layers=1, heads=1, mlp_width=4, max_length=5)
    other = finetuned.Config(finetuned.Encoder(bert.Encoder, config), {"wic": heads.Head(heads.SpanClassification, 2)})
    write_config(tmp_path, parameters.abstract(lambda key: finetuned.Finetuned(other, key)), None)
    assert convert_hf.main([f"--from={tmp_path}", f"--to_hf={tmp_path / 'hf'}"]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err and not (tmp_path / "hf").exists()


@pytest.mark.parametrize("flags", ["", "from_hf", "from_hf to_hf", "from to", "from_hf to step", "from_hf to from"])
def test_flags(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        convert_hf.main([f"--{flag}=1" for flag in flags.split()])
    assert stopped.value.code == 2 and "give --from_hf and --to, or --from and --to_hf" in capsys.readouterr().err


def test_a_name_on_the_hub(theirs, tmp_path, capsys, monkeypatch):
    """Fetched by huggingface_hub without any pickle; without a network or without the package the message says so."""
    import huggingface_hub

    given, asked = theirs("bert_model"), {}

    def fetched(name, allow_patterns):
        asked[name] = allow_patterns
        return str(given.folder)

    def unreachable(name, allow_patterns):
        raise ConnectionError("Temporary failure in name resolution\nmore lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    assert convert_hf.main(["--from_hf=org/model-1.0", f"--to={tmp_path / 'to'}"]) == 0
    assert asked.keys() == {"org/model-1.0"} and not any("bin" in pattern or pattern == "*" for pattern in asked["org/model-1.0"])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    assert convert_hf.main(["--from_hf=org/model", f"--to={tmp_path / 'x'}"]) == 2
    said = capsys.readouterr().err
    assert "--from_hf=org/model is no directory here, and it could not be fetched" in said and "name resolution. Without a network" in said
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert convert_hf.main(["--from_hf=org/model", f"--to={tmp_path / 'x'}"]) == 2
    assert "pip install --editable '.[hub]' in Rootstock's folder" in capsys.readouterr().err
    for path in ("/gone/model", "./gone", "a/b/c", str(given.folder / "config.json")):
        assert convert_hf.main([f"--from_hf={path}", f"--to={tmp_path / 'x'}"]) == 2
        assert f"--from_hf={path} is no directory; give one with config.json" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("old, new, message", [
    ("bert.Config", "bert.Confix", "there is no 'rootstock.models.bert.Confix'"),
    ('"heads": 4', '"heads": 3', "cannot be built: 3 heads do not divide the width 16"),
    ('"heads": 4', '"heads": 0', "cannot be built"),
    ('"width": 16', '"width": 17', "cannot be built"),
    ('"width": 16', '"width": 12', "does not fit its config.json"),
    ('"layers": 2', '"layers": 0', "does not fit its config.json"),
    ('"pooler": true', '"pooler": false', "unexpected: encoder/pooler/bias, encoder/pooler/kernel"),
])  # fmt: skip
def test_a_damaged_run(theirs, tmp_path, capsys, old, new, message):
    folder = theirs("bert_model").convert()
    assert old in (folder / "config.json").read_text()
    (folder / "config.json").write_text((folder / "config.json").read_text().replace(old, new))
    assert convert_hf.main([f"--from={folder}", f"--to_hf={tmp_path / 'hf'}"]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "hf").exists()
    with pytest.raises(UserError):
        load.load(folder)
