"""Five hundred damaged Hugging Face directories and as many damaged checkpoints: truncated, or with one bit flipped.

What is promised of a directory: a mistake told in a paragraph, or a model. Names, shapes and types of tensors are guarded by safetensors'
header and by config.json, so a flip there changes no value. A flip among the numbers cannot be seen (safetensors has no checksum): it
changes one number, which stays finite. config.json has no checksum either: a flip that leaves it JSON of known fields is read as it stands.
A vocabulary in two files (vocab.txt, tokenizer.json) must be the same in both. Of a checkpoint of ours, with its own checksums: a
mistake, or every bit.
"""

import dataclasses
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from rootstock.data import vocabularies
from rootstock.engine import checkpoints
from rootstock.engine.describe import rebuild
from rootstock.engine.errors import UserError
from rootstock.engine.load import load
from rootstock.engine.model_dir import read_config
from rootstock.models import bert
from rootstock.tools import convert_hf

pytestmark = pytest.mark.slow

STORED = Path(__file__).parents[1] / "golden" / "hf"
CASES = 500


def damaged(chance, content, where=None):
    """`content` cut short, or with one bit of `where` flipped."""
    if chance.random() < 0.25:
        return content[: chance.randrange(len(content))]
    place, bit = chance.choice(where or range(len(content))), 1 << chance.randrange(8)
    return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def values(folder):
    return {name: np.asarray(value) for name, value in checkpoints.read_params(folder).items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A directory with both kinds of vocabulary, and its MODEL_DIR."""
    folder = tmp_path_factory.mktemp("fuzz")
    theirs = shutil.copytree(STORED / "bert_masked_lm", folder / "hf", ignore=shutil.ignore_patterns("cases.npz"))
    pieces = [*vocabularies.SPECIALS, *"the cat sat on a mat . , ##s ##ed ##a".split(), *"bcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    vocabularies.load(folder / "vocab.txt").export(theirs)
    convert_hf.convert(str(theirs), str(folder / "model"))
    return theirs, folder / "model"


def parts(theirs):
    """(file, the bytes of it that are flipped), each as often as it shall be hit."""
    header = 8 + int.from_bytes((theirs / "model.safetensors").read_bytes()[:8], "little")
    size = (theirs / "model.safetensors").stat().st_size
    return [
        *[("config.json", None)] * 3,
        *[("model.safetensors", range(header))] * 3,
        *[("model.safetensors", range(header, size))] * 2,
        ("vocab.txt", None),
        ("tokenizer.json", None),
        ("tokenizer_config.json", None),
    ]


def test_damaged_directories(whole, tmp_path):
    theirs, model = whole
    chance, kinds = random.Random(0), parts(theirs)
    params, config, pieces = values(model), (model / "config.json").read_text(), pieces_of(model)
    seen = {"refused": 0, "config.json": 0, "body": 0, "same": 0}
    for case in range(CASES):
        name, where = kinds[case % len(kinds)]
        folder = shutil.copytree(theirs, tmp_path / "hf", dirs_exist_ok=True)
        (folder / name).write_bytes(damaged(chance, (folder / name).read_bytes(), where))
        target = tmp_path / f"model{case}"
        try:
            convert_hf.convert(str(folder), str(target))
        except UserError as error:
            assert str(error) and not target.exists()
            seen["refused"] += 1
            continue
        found = values(target)
        wrong = {key: int((found[key].view(np.uint32) != params[key].view(np.uint32)).sum()) for key in params}
        body = name == "model.safetensors" and where.start > 0
        assert found.keys() == params.keys() and sum(wrong.values()) <= (1 if body else 0), (case, name, wrong)
        assert all(np.isfinite(value).all() for value in found.values())
        if name == "config.json":
            said = json.loads((folder / name).read_text())
            assert dataclasses.asdict(rebuild(read_config(target).model)) == as_it_stands(said), case
        else:
            assert name.startswith("tokenizer") or (target / "config.json").read_text() == config, (case, name)
        assert pieces_of(target) == pieces, (case, name)
        seen[name if name == "config.json" else "body" if body and sum(wrong.values()) else "same"] += 1
        shutil.rmtree(target)
    assert not [path for path in tmp_path.iterdir() if path.name != "hf"]  # nothing half-written
    assert seen["refused"] > CASES / 3 and min(seen.values()) > 10, seen


def as_it_stands(said):
    """What a reader of transformers' documentation of BertConfig would say."""
    return dataclasses.asdict(
        bert.Config(
            vocab_size=said["vocab_size"],
            width=said["hidden_size"],
            layers=said["num_hidden_layers"],
            heads=said["num_attention_heads"],
            mlp_width=said["intermediate_size"],
            max_length=said["max_position_embeddings"],
            token_types=said["type_vocab_size"],
            dropout=said.get("hidden_dropout_prob", 0.1),
            attention_dropout=said.get("attention_probs_dropout_prob", 0.1),
            norm_eps=said.get("layer_norm_eps", 1e-12),
            init_std=said.get("initializer_range", 0.02),
            activation=bert.activations.gelu,
            pooler=False,
        )
    )


def pieces_of(model):
    vocabulary = vocabularies.load(model / "vocabulary")
    return [vocabulary.piece_of(i) for i in range(vocabulary.size)]


def test_damaged_checkpoints(whole, tmp_path):
    """Of the files that are read: every one below the step, and config.json."""
    _, model = whole
    chance, folder = random.Random(1), shutil.copytree(model, tmp_path / "model")
    params, names = (
        values(model),
        sorted(path for path in (folder / "checkpoints" / "0").rglob("*") if path.is_file() and path.stat().st_size),
    )
    refused = 0
    for case in range(CASES):
        path = names[case % len(names)] if case % 10 else folder / "config.json"
        content = path.read_bytes()
        path.write_bytes(damaged(chance, content))
        try:
            _, found = load(folder)
            assert found.keys() == params.keys(), (case, path)
            assert all(np.asarray(found[key]).tobytes() == params[key].tobytes() for key in params), (case, path)
            assert "checkpoints" not in path.parts or path.name == "checksums.json", (case, path)
        except UserError as error:
            assert str(error)
            refused += 1
        path.write_bytes(content)
    assert refused > CASES / 2
    load(folder)
