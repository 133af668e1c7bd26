"""Rows in words: what is right, in which order they are read, what is counted, what is refused."""

import dataclasses
import json

import numpy as np
import pytest

from rootstock.engine.errors import UserError
from rootstock.finetune import tasks
from rootstock.finetune.predictions import NONE
from rootstock.finetune.text_to_text import mixture, rows


def read(tiny, name, folder, split="validation", lengths=(24, 8)):
    return rows.read(tasks.find(name), str(folder), str(tiny.folder / "vocab.txt"), *lengths, split)


@pytest.fixture
def suite(tmp_path):
    """Writes a split of a set: (folder, file, rows) -> the data_dir."""

    def write(folder, file, lines):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{file}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return tmp_path

    return write


def boolq(idx, label, passage="the cat ran"):
    return {"question": "is it", "passage": passage, "idx": idx, "label": label}


def test_predictions(tiny, suite):
    """Of classes: what names none is wrong, and counted by its words."""
    folder = suite("BoolQ", "val", [boolq(7, True), boolq(4, False), boolq(9, True), boolq(5, False)])
    split = read(tiny, "boolq", folder)
    found = rows.predictions(tasks.find("boolq"), split, ["true", "maybe", "false", "maybe"])
    assert found.idx.tolist() == [7, 4, 9, 5] and found.golds.tolist() == [1, 0, 1, 0] and found.answers.tolist() == [1, NONE, 0, NONE]
    assert tasks.find("boolq").score(found) == {"accuracy": 0.25} and found.unread == {"maybe": 2}
    assert json.loads(found.jsonl().splitlines()[1]) == {"idx": 4, "label": "False", "prediction": None, "said": "maybe"}
    assert tasks.find("boolq").majority(split) == {"accuracy": 0.5}


def test_groups_of_multirc(tiny, suite):
    answers = [{"idx": 1, "text": "the dog", "label": 1}, {"idx": 2, "text": "home", "label": 0}]
    asked = [{"idx": 7, "question": "Why?", "answers": answers}, {"idx": 8, "question": "When?", "answers": answers}]
    folder = suite("MultiRC", "val", [{"idx": 3, "passage": {"text": "The cat ran.", "questions": asked}}])
    split = read(tiny, "multirc", folder)
    found = rows.predictions(tasks.find("multirc"), split, ["true", "false", "true", "true"])
    assert found.idx.tolist() == [[3, 7, 1], [3, 7, 2], [3, 8, 1], [3, 8, 2]]
    assert tasks.find("multirc").score(found) == {"f1a": pytest.approx(2 * 2 / (2 + 3)), "question_exact_match": 0.5}


def test_record_and_wsc(tiny, suite):
    passage = {"text": "The cat ran\n@highlight\nThe dog sat", "entities": [{"start": 4, "end": 6}, {"start": 23, "end": 29}]}
    asked = [{"query": "@placeholder sat", "idx": number, "answers": [{"start": 4, "end": 6, "text": "cat"}]} for number in (5, 6)]
    folder = suite("ReCoRD", "val", [{"source": "us", "idx": 2, "passage": passage, "qas": asked}])
    found = rows.predictions(tasks.find("record"), read(tiny, "record", folder), ["the cat!", "dog"])
    assert found.idx.tolist() == [[2, 5], [2, 6]] and found.golds.tolist() == [("cat",), ("cat",)] and found.labels == ()
    assert tasks.find("record").score(found) == {"text_f1": 0.5, "text_exact_match": 0.5} and not found.unread
    target = {"span1_text": "the dog", "span1_index": 3, "span2_text": "it", "span2_index": 7}
    wsc = [{"text": "the cat and the dog ran then it sat", "idx": i, "label": i == 1, "target": target} for i in range(3)]
    folder = suite("WSC", "val", wsc)
    found = rows.predictions(tasks.find("wsc"), read(tiny, "wsc", folder), ["dog", "dog", "the cat"])
    assert (found.answers.tolist(), found.golds.tolist()) == ([1, 1, 0], [0, 1, 0])


def test_numbers(tiny, suite, tmp_path):
    (tmp_path / "STS-B").mkdir()
    (tmp_path / "STS-B" / "dev.tsv").write_text("index\tsentence1\tsentence2\tscore\n0\tthe cat\tit sat\t3.800\n1\tit\ta dog\t0\n")
    found = rows.predictions(tasks.find("stsb"), read(tiny, "stsb", tmp_path), ["3.8", "none"])
    np.testing.assert_allclose(found.golds, [3.8, 0.0], rtol=1e-6)
    assert found.answers.tolist() == [3.8, -1.0] and found.unread == {"none": 1}  # T5's number for what is none


def test_longest_first(tiny, suite):
    """Batches are cut to a power of two that holds their longest row; `place` finds each row's own."""
    folder = suite("BoolQ", "val", [boolq(i, True, "cat " * words) for i, words in enumerate((3, 40, 8, 2, 30))])
    split = read(tiny, "boolq", folder, lengths=(80, 4))
    ordered = split.longest_first()
    widths = [ordered.batch(first, 2) for first in (0, 2, 4)]
    longest = sorted(map(len, split.inputs()), reverse=True)[::2]
    assert [batch["input_ids"].shape[1] for batch in widths] == [min(n for n in (32, 64, 80) if n >= found) for found in longest]
    assert widths[0]["input_ids"].shape != widths[2]["input_ids"].shape
    places = np.concatenate([batch[rows.PLACE] for batch in widths])[:5]
    assert places.tolist() == [1, 4, 2, 0, 3] and widths[2]["weight"].tolist() == [1, 0]
    ids = [batch["input_ids"][row] for batch in widths for row in range(2)][:5]
    for place, found in zip(places, ids, strict=True):
        assert [index for index in found.tolist() if index] == [index for index in split.inputs()[place] if index]


def test_cuts_are_counted_and_said(tiny, suite, capsys):
    """What fits with its end token is not cut."""
    lines = [boolq(i, True, "cat " * words) for i, words in enumerate((3, 4, 40))]
    folder = suite("BoolQ", "train", lines)
    whole = read(tiny, "boolq", folder, "train", (200, 8))
    longest = max(map(len, whole.inputs()))
    second = sorted(map(len, whole.inputs()))[1]
    assert [read(tiny, "boolq", folder, "train", (longest - less, 8)).counts["cut_inputs"] for less in (0, 1)] == [0, 1]
    assert read(tiny, "boolq", folder, "train", (second - 1, 8)).counts["cut_inputs"] == 2
    of = mixture.Tasks(("boolq",), str(folder), str(tiny.folder / "vocab.txt"), second, 8)
    mixture.training(of, 0)
    assert f"boolq: 1 of 3 inputs are longer than {second} tokens and were cut" in capsys.readouterr().err


def test_targets_that_are_cut_are_said(tiny, suite, capsys):
    target = {"span1_text": "the dog and the cat", "span1_index": 0, "span2_text": "it", "span2_index": 6}
    wsc = [{"text": "the dog and the cat ran it sat", "idx": i, "label": True, "target": target} for i in range(2)]
    of = mixture.Tasks(("wsc",), str(suite("WSC", "train", wsc)), str(tiny.folder / "vocab.txt"), 24, 4)
    mixture.training(of, 0)
    assert "wsc: 2 of 2 targets are longer than 4 tokens and were cut" in capsys.readouterr().err


def test_a_mixture_in_proportion(tiny, suite):
    suite("BoolQ", "train", [boolq(i, True) for i in range(9)])
    folder = suite("CB", "train", [{"premise": "it ran", "hypothesis": "it sat", "idx": i, "label": "neutral"} for i in range(3)])
    of = mixture.Tasks(("boolq", "cb"), str(folder), str(tiny.folder / "vocab.txt"), 24, 8)
    assert mixture.training(of, 0).shares == {"boolq": 3, "cb": 1}
    assert mixture.training(of, 0, cap=3).shares == {"boolq": 1, "cb": 1}
    assert mixture.training(of, 0, limits={"boolq": 6}).shares == {"boolq": 2, "cb": 1}
    batch = mixture.training(of, 0).batch(0, 8)
    assert batch["target_ids"].shape == (8, 8) and len({tuple(row[:4]) for row in batch["input_ids"].tolist()}) == 2


def test_mistakes(tiny, suite):
    vocabulary = str(tiny.folder / "vocab.txt")
    with pytest.raises(UserError, match="TASKS is empty; name at least one task"):
        mixture.Tasks((), "", vocabulary, 24, 8)
    with pytest.raises(UserError, match="axb is not trained on: it has no training rows of its own; name rte in TASKS"):
        mixture.Tasks(("axb",), "", vocabulary, 24, 8)
    own = dataclasses.replace(tasks.find("boolq"), name="reviews")
    with pytest.raises(UserError, match="reviews has no text-to-text form; these have one: boolq, cb"):
        rows.read(own, "", vocabulary, 24, 8, "validation")
    target = {"span1_text": "the dog", "span1_index": 3, "span2_text": "it", "span2_index": 7}
    wsc = [{"text": "the cat and the dog ran then it sat", "idx": i, "label": i == 1, "target": target} for i in range(3)]
    split = read(tiny, "wsc", suite("WSC", "train", wsc), "train")
    with pytest.raises(UserError, match="the split 'train' of wsc_text cannot be scored: 3 examples make 1 training rows"):
        rows.predictions(tasks.find("wsc"), split, [""])
