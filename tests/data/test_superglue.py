"""SuperGLUE's casts, on a few rows by hand; the demo's and the real files as a whole."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from rootstock.data import framing, spans, superglue, vocabularies
from rootstock.data.errors import DataError

LENGTH = 24
ROWS = {
    "boolq": {"question": "do cats run", "passage": "Cats -- The cat ran home.", "idx": 4, "label": True},
    "cb": {"premise": "The cat ran.", "hypothesis": "it sat", "idx": 4, "label": "neutral"},
    "rte": {"premise": "The cat ran.", "hypothesis": "it ran", "idx": 4, "label": "entailment"},
    "copa": {"premise": "The cat ran.", "choice1": "the dog ran.", "choice2": "it sat.", "question": "cause", "idx": 4, "label": 1},
    "wic": {
        "word": "run", "sentence1": "The cat ran home.", "sentence2": "Do you run?", "idx": 4, "label": False,
        "start1": 8, "end1": 11, "start2": 7, "end2": 10,
    },
    "wsc": {
        "text": "The cat and the dog ran, then it sat.", "idx": 4, "label": True,
        "target": {"span1_text": "the dog", "span1_index": 3, "span2_text": "it", "span2_index": 7},
    },
    "multirc": {
        "idx": 4,
        "passage": {
            "text": "The cat ran home and sat.",
            "questions": [
                {
                    "idx": 7, "question": "Why?",
                    "answers": [{"idx": 1, "text": "the dog ran.", "label": 1}, {"idx": 2, "text": "", "label": 0}],
                },
                {"idx": 8, "question": "What sat?", "answers": [{"idx": 3, "text": "a mat", "label": 0}]},
            ],
        },
    },
}  # fmt: skip


@pytest.fixture
def make(tmp_path, vocabulary_file):
    """A task over given rows (objects, or lines as they stand)."""

    def write(name, rows, length=LENGTH, file="train.jsonl"):
        folder = tmp_path / superglue.TASKS[name]("", "", length).cast.folder
        folder.mkdir(exist_ok=True)
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        (folder / file).write_bytes(gzip.compress(text.encode()) if file.endswith(".gz") else text.encode())
        return superglue.TASKS[name](str(tmp_path), vocabulary_file, length)

    return write


def shown(row, vocabulary, name="input_ids"):
    return vocabulary.decode(row[name][row["segment_ids"] > 0])


@pytest.mark.parametrize("name", superglue.TASKS)
def test_fields_and_framing(make, vocabulary, name):
    task = make(name, [ROWS[name]])
    rows = list(task.rows("train"))
    assert task.name == name and task.splits == ("train",)
    for row in rows:
        assert {key: (value.shape, value.dtype) for key, value in row.items()} == {
            key: (field.shape, np.dtype(field.dtype)) for key, field in task.fields().items()
        }
        for ids, types, segments, positions in zip(
            *(row[key].reshape(-1, LENGTH) for key in ("input_ids", "token_type_ids", "segment_ids", "positions")), strict=True
        ):
            real = int(segments.sum())
            ends = np.flatnonzero(ids == vocabulary.sep_id)
            assert segments.tolist() == [1] * real + [0] * (LENGTH - real)
            assert positions.tolist() == [*range(real), *[0] * (LENGTH - real)]
            assert ids[0] == vocabulary.cls_id and ends[-1] == real - 1 and not ids[real:].any()
            assert types.tolist() == [int(ends[0] < i < real) for i in range(LENGTH)]


@pytest.mark.parametrize(
    "name, expected, label",
    [
        ("boolq", "[CLS] do cats run [SEP] cats - - the cat r ##an home. [SEP]", 1),
        ("cb", "[CLS] the cat ran. [SEP] it sat [SEP]", 2),
        ("rte", "[CLS] the cat ran. [SEP] it ran [SEP]", 0),
    ],
)
def test_pairs(make, vocabulary, name, expected, label):
    (row,) = make(name, [ROWS[name]]).rows("train")
    assert shown(row, vocabulary) == expected.replace("r ##an", "ran")
    assert (row["label"], row["idx"]) == (label, 4)


def test_copa(make, vocabulary):
    for question, asked in (("cause", "what was the cause of this?"), ("effect", "what happened as a result?")):
        (row,) = make("copa", [ROWS["copa"] | {"question": question}]).rows("train")
        texts = [vocabulary.decode(ids[segments > 0]) for ids, segments in zip(row["input_ids"], row["segment_ids"], strict=True)]
        assert texts == [f"[CLS] the cat ran. {asked} [SEP] {choice} [SEP]" for choice in ("the dog ran.", "it sat.")]
        assert row["label"] == 1


def test_multirc(make, vocabulary):
    rows = list(make("multirc", [ROWS["multirc"]]).rows("train"))
    assert [row["idx"].tolist() for row in rows] == [[4, 7, 1], [4, 7, 2], [4, 8, 3]]
    assert [int(row["label"]) for row in rows] == [1, 0, 0]
    assert shown(rows[0], vocabulary) == "[CLS] the cat ran home and sat. why? [SEP] the dog ran. [SEP]"
    assert shown(rows[1], vocabulary).endswith("why? [SEP] [SEP]")


@pytest.mark.parametrize("name, words", [("wic", ["ran", "run"]), ("wsc", ["the dog", "it"])])
@pytest.mark.parametrize("padding", [0, 40])
def test_spans(make, vocabulary, name, words, padding):
    """The spans are those tokens, also when there is much text before and behind that has to go."""
    row = dict(ROWS[name])
    more = "and " * padding
    if name == "wsc":
        row["text"] = more + row["text"] + " " + more
        row["target"] = row["target"] | {"span1_index": 3 + padding, "span2_index": 7 + padding}
    else:
        row["sentence1"] = more + row["sentence1"] + " " + more
        row |= {"start1": 8 + len(more), "end1": 11 + len(more)}
    (cast,) = make(name, [row]).rows("train")
    assert [vocabulary.decode(cast["input_ids"][start:end]) for start, end in cast["spans"]] == words
    if padding:
        assert cast["segment_ids"].all()


def test_truncation(make, vocabulary):
    long = "cat " * 50
    (boolq,) = make("boolq", [ROWS["boolq"] | {"passage": long}]).rows("train")
    assert shown(boolq, vocabulary) == "[CLS] do cats run [SEP] " + "cat " * 17 + "[SEP]"
    (rte,) = make("rte", [ROWS["rte"] | {"premise": long}]).rows("train")
    assert shown(rte, vocabulary) == "[CLS] " + "cat " * 19 + "[SEP] it ran [SEP]"
    passage = ROWS["multirc"]["passage"] | {"text": long}
    first, *_ = make("multirc", [ROWS["multirc"] | {"passage": passage}]).rows("train")
    assert shown(first, vocabulary) == "[CLS] " + "cat " * 15 + "why? [SEP] the dog ran. [SEP]"


@pytest.mark.parametrize("a, b, room, expected", [
    (3, 4, 7, (3, 4)), (9, 2, 7, (5, 2)), (2, 9, 7, (2, 5)), (9, 9, 7, (4, 3)), (4, 9, 7, (4, 3)), (9, 3, 7, (4, 3)), (0, 9, 7, (0, 7)),
])  # fmt: skip
def test_longest_first(a, b, room, expected):
    def one_by_one(a, b):  # as Hugging Face's slow tokenizers do
        while a + b > room:
            a, b = (a - 1, b) if a > b else (a, b - 1)
        return a, b

    assert framing.longest_first(a, b, room) == expected == one_by_one(a, b)


def test_words_at():
    text = "Emma's dog saw it; they use it, Lev Kamenev, Stalin and Zinoviev left. Two\nlines"

    def found(index, words):
        place = spans.words_at(text, index, words)
        return place and text[slice(*place)]

    assert found(0, "Emma") == "Emma"
    assert spans.words_at(text, 3, "it") == (15, 17)
    assert text.index("it, Lev") == spans.words_at(text, 5, "it")[0]  # said of "use": the nearest
    assert found(13, "Two lines") == "Two\nlines"
    assert found(8, "Kamenev and Zinoviev") == "Kamenev, Stalin and"
    assert found(0, "nobody") is None
    assert found(99, "it") is None


def test_own_format_of_boolqs_authors(make, vocabulary):
    row = {"question": "do cats run", "title": "Cats", "answer": False, "passage": "The cat ran home.", "idx": 0}
    (cast,) = make("boolq", [row]).rows("train")
    assert shown(cast, vocabulary) == "[CLS] do cats run [SEP] cats - - the cat ran home. [SEP]"
    assert cast["label"] == 0


def test_splits_and_suffixes(make):
    unlabelled = {key: value for key, value in ROWS["rte"].items() if key != "label"}
    make("rte", [ROWS["rte"]])
    make("rte", [ROWS["rte"]] * 2, file="val.jsonl.gz")
    task = make("rte", [unlabelled] * 3, file="test.jsonl")
    assert task.splits == ("train", "validation", "test")
    assert [int(row["label"]) for row in task.rows("test")] == [-1] * 3
    assert len(list(task.rows("validation"))) == 2
    with pytest.raises(DataError, match=r"train\.jsonl' line 1: the key 'label' is missing; there are premise, hypothesis, idx"):
        list(make("rte", [unlabelled]).rows("train"))


@pytest.mark.parametrize(
    "name, row, message",
    [
        ("rte", "{bad", "line 2 is not JSON: .* Seen: '{bad'"),
        ("rte", "[1]", "line 2 is not a JSON object"),
        ("rte", ROWS["rte"] | {"label": "maybe"}, "line 2: 'label' is 'maybe', expected one of 'entailment', 'not_entailment'"),
        ("rte", ROWS["rte"] | {"label": ["entailment"]}, r"line 2: 'label' is \['entailment'\], expected one of"),
        ("boolq", ROWS["boolq"] | {"label": "yes"}, "line 2: 'label' is 'yes', expected one of False, True"),
        ("copa", ROWS["copa"] | {"label": 2}, "line 2: 'label' is 2, expected one of 0, 1"),
        ("copa", ROWS["copa"] | {"question": "reason"}, "line 2: 'question' is 'reason', expected 'cause' or 'effect'"),
        ("cb", ROWS["cb"] | {"premise": 3}, "line 2: 'premise' is 3, expected a string"),
        ("cb", ROWS["cb"] | {"idx": "4"}, "line 2: 'idx' is '4', expected a whole number"),
        ("wic", ROWS["wic"] | {"end2": 99}, "line 2: start2 7 and end2 99 are no span of the 11 characters of sentence2"),
        ("wic", ROWS["wic"] | {"sentence2": "        run", "start2": 1, "end2": 3}, "line 2: the vocabulary makes no token of the span"),
        ("wsc", ROWS["wsc"] | {"target": ROWS["wsc"]["target"] | {"span1_text": "nobody"}}, "line 2: span1_text 'nobody' is not at"),
        ("wsc", ROWS["wsc"] | {"target": {}}, r"line 2, 'target': the key 'span1_text' is missing"),
        ("wsc", {"text": "cat " * 40 + "it", "idx": 0, "label": True, "target": {
            "span1_text": "cat " * 40, "span1_index": 0, "span2_text": "it", "span2_index": 40}}, "line 2: the marked spans alone"),
        ("multirc", {"idx": 0, "passage": {"text": "", "questions": [
            {"idx": 1, "question": "", "answers": [{"idx": 2, "text": ""}]}]}},
            "line 2, 'passage', 'questions' 0, 'answers' 0: the key 'label' is"),
        ("multirc", {"idx": 0, "passage": {"text": "", "questions": ["why"]}}, "line 2, 'passage': 'questions' holds 'why'"),
    ],
)  # fmt: skip
def test_mistakes_name_file_and_line(make, name, row, message):
    with pytest.raises(DataError, match=rf"train\.jsonl' {message}"):
        list(make(name, [ROWS[name], row]).rows("train"))


def test_missing_files(make, tmp_path, vocabulary_file):
    with pytest.raises(DataError, match=r"CB' holds none of the files of cb: train\.jsonl, val\.jsonl, test\.jsonl, plain"):
        _ = superglue.cb(str(tmp_path), vocabulary_file, LENGTH).splits
    with pytest.raises(DataError, match=r"rte has no split 'validation' in '.*RTE'; it has train"):
        next(make("rte", [ROWS["rte"]]).rows("validation"))
    with pytest.raises(DataError, match=r"'nowhere' does not exist"):
        next(superglue.rte("nowhere", vocabulary_file, LENGTH).rows("train"))
    with pytest.raises(DataError, match="the length of rte's rows is 8; expected 16 or more"):
        superglue.rte(str(tmp_path), vocabulary_file, 8)


@pytest.mark.parametrize("name, train, validation", [("boolq", 1206, 3270), ("copa", 400, 100), ("wsc", 554, 104)])
def test_demo(name, train, validation):
    task = superglue.TASKS[name]("data/demo/superglue", "data/demo/vocab.txt", 128)
    assert task.splits == ("train", "validation")
    assert (len(list(task.rows("train"))), len(list(task.rows("validation")))) == (train, validation)


OFFICIAL = {
    "boolq": (1206, 3270, 3245), "cb": (250, 56, 250), "copa": (400, 100, 500), "multirc": (27243, 4848, 9693), "rte": (2490, 277, 3000),
    "wic": (5428, 638, 1400), "wsc": (554, 104, 146),
}  # fmt: skip


@pytest.mark.real_data
@pytest.mark.skipif("ROOTSTOCK_REAL_DATA" not in os.environ, reason="ROOTSTOCK_REAL_DATA does not say where the corpora are")
@pytest.mark.parametrize("name", OFFICIAL)
def test_every_row_of_the_official_files(name):
    data = Path(os.environ["ROOTSTOCK_REAL_DATA"])
    task = superglue.TASKS[name](str(data / "superglue"), str(data / "vocab/bert-base-uncased-vocab.txt"), 128)
    rows = {split: list(task.rows(split)) for split in task.splits}
    assert tuple(len(rows[split]) for split in ("train", "validation", "test")) == OFFICIAL[name]
    assert {int(row["label"]) for row in rows["train"]} == set(range(len(task.labels)))
    assert {int(row["label"]) for row in rows["test"]} == {-1}
    if name == "wsc":  # "it" is said to be at the word "use"
        row = rows["validation"][42]
        vocabulary = vocabularies.load(task.vocabulary)
        assert [vocabulary.decode(row["input_ids"][start:end]) for start, end in row["spans"]] == ["safe", "it"]
