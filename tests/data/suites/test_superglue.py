"""SuperGLUE's casts for encoders, on a few rows by hand; the demo's and the real files as a whole."""

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rootstock.data import framing, spans, vocabularies
from rootstock.data.errors import DataError
from rootstock.data.suites import superglue

LENGTH = 24
HIGHLIGHTED = "The cat ran home\n@highlight\nThe dog sat.\n@highlight\nIt was june"
ROWS = {
    "axb": {"sentence1": "The cat ran.", "sentence2": "it sat", "idx": "4", "label": "not_entailment", "logic": "Negation"},
    "axg": {"premise": "The cat ran.", "hypothesis": "it sat", "idx": 4, "label": "not_entailment", "pair_id": 7},
    "record": {
        "source": "us", "idx": 3,
        "passage": {"text": HIGHLIGHTED, "entities": [{"start": 0, "end": 6}, {"start": 4, "end": 6}, {"start": 28, "end": 34}]},
        "qas": [
            {
                "query": "home ran @placeholder .", "idx": 4,
                "answers": [{"start": 4, "end": 6, "text": "cat"}, {"start": 0, "end": 6, "text": "The cat"}],
            },
            {"query": "@placeholder sat", "idx": 5, "answers": [{"start": 28, "end": 34, "text": "The dog"}]},
        ],
    },
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
        folder = tmp_path / superglue.TASKS[name]("", "", length).set.folder
        folder.mkdir(exist_ok=True)
        file = f"{folder.name}.jsonl" if name.startswith("ax") else file
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        (folder / file).write_bytes(gzip.compress(text.encode()) if file.endswith(".gz") else text.encode())
        return superglue.TASKS[name](str(tmp_path), vocabulary_file, length)

    return write


def shown(row, vocabulary, name="input_ids"):
    return vocabulary.decode(row[name][row["segment_ids"] > 0])


@pytest.mark.parametrize("name", superglue.TASKS)
def test_fields_and_framing(make, vocabulary, name):
    task = make(name, [ROWS[name]])
    (split,) = task.splits
    rows = list(task.rows(split))
    assert task.name == name and split == ("test" if name.startswith("ax") else "train")
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
    make("rte", [ROWS["rte"], ROWS["rte"] | {"idx": 5}], file="val.jsonl.gz")
    task = make("rte", [unlabelled | {"idx": index} for index in range(3)], file="test.jsonl")
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
        ("cb", ROWS["cb"] | {"idx": "four"}, "line 2: 'idx' is 'four', expected a whole number"),
        ("cb", {"premise": "", "idx": 4, "label": "neutral"}, "line 2: the key 'hypothesis' is missing; there are premise, idx, label"),
        ("cb", ROWS["cb"] | {"idx": 9}, r"line 2: idx 9 stands already in '.*train\.jsonl' line 1"),
        ("multirc", ROWS["multirc"] | {"idx": 9},
            "line 2, 'passage', 'questions' 0, 'answers' 0: idx {'paragraph': 9, 'question': 7, 'answer': 1} stands already in .* line 1"),
        ("record", ROWS["record"] | {"idx": 9}, "line 2, 'qas' 0: idx {'passage': 9, 'query': 4} stands already in .* line 1, 'qas' 0"),
        ("record", ROWS["record"] | {"passage": {"text": "cat", "entities": [{"start": 0, "end": 3}]}},
            "line 2, 'passage', 'entities' 0: start 0 and end 3 are no span of the 3 characters of the passage"),
        ("record", ROWS["record"] | {"qas": [{"query": "@placeholder sat", "idx": 8, "answers": [{"text": "cat", "start": 7, "end": 99}]}]},
            "line 2, 'qas' 0, 'answers' 0: start 7 and end 99 are no span of the"),
        ("record", ROWS["record"] | {"qas": [{"query": "it sat", "idx": 8}]},
            "line 2, 'qas' 0: 'query' is 'it sat', which has no @placeholder"),
        ("record", ROWS["record"] | {"qas": [{"query": "@placeholder sat", "idx": 8}]}, "line 2, 'qas' 0: there are no 'answers'"),
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
        ("multirc", {"idx": 0, "passage": {"text": "", "questions": []}}, "line 2, 'passage': 'questions' is empty"),
        ("record", ROWS["record"] | {"qas": []}, "line 2: 'qas' is empty"),
        ("cb", ROWS["cb"] | {"idx": 2**31}, "line 2: 'idx' is 2147483648, expected a number from 0 to 2147483647"),
        ("cb", ROWS["cb"] | {"premise": "a \ud800"}, "line 2: 'premise' holds '\\\\ud800' at character 2, which is no character"),
    ],
)  # fmt: skip
def test_mistakes_name_file_and_line(make, name, row, message):
    with pytest.raises(DataError, match=rf"train\.jsonl' {message}"):
        list(make(name, [ROWS[name] | {"idx": 9}, row]).rows("train"))


def test_missing_files(make, tmp_path, vocabulary_file):
    with pytest.raises(DataError, match=r"nothing of cb: .*'super_glue/cb' .* 'CB' any of train\.jsonl, val\.jsonl, test\.jsonl, plain"):
        _ = superglue.cb(str(tmp_path), vocabulary_file, LENGTH).splits
    with pytest.raises(DataError, match=r"rte has no split 'validation' in '.*'; it has train"):
        next(make("rte", [ROWS["rte"]]).rows("validation"))
    with pytest.raises(DataError, match=r"'nowhere' does not exist"):
        next(superglue.rte("nowhere", vocabulary_file, LENGTH).rows("train"))
    with pytest.raises(DataError, match="the length of rte's rows is 8; expected 16 or more"):
        superglue.rte(str(tmp_path), vocabulary_file, 8)
    with pytest.raises(DataError, match=r"train\.jsonl' holds no rows\."):
        list(make("rte", []).rows("train"))
    with pytest.raises(DataError, match=r"train\.jsonl' holds no rows; all are skipped, the last one as its label is '-'"):
        list(make("rte", [ROWS["rte"] | {"label": "-"}]).rows("train"))


def test_not_utf8(make, tmp_path):
    task = make("rte", [ROWS["rte"]])
    (tmp_path / "RTE" / "train.jsonl").write_bytes(b'{"premise": "caf\xe9"}\n')
    with pytest.raises(DataError, match=r"train\.jsonl' is not UTF-8 text: byte 0xe9 at offset 16 of line 1"):
        list(task.rows("train"))


def test_counts_add_up(make, caplog):
    """Rows of the input = rows made + rows dropped; empty texts are counted and kept."""
    rows = [ROWS["cb"] | {"idx": 0}, ROWS["cb"] | {"idx": 1, "label": "-"}, ROWS["cb"] | {"idx": 2, "premise": " "}]
    counts = Counter()
    made = list(make("cb", rows).rows("train", counts))
    assert [int(row["idx"]) for row in made] == [0, 2]
    assert counts == {"documents": 3, "dropped": 1, "empty_texts": 1}
    assert "cb train: 1 row skipped (" in caplog.text and "train.jsonl' line 2: its label is '-', for annotators who" in caplog.text


def test_examples_are_those_of_tfds(make):
    """Feature names and values as TFDS's own builder gives them."""
    assert list(make("boolq", [ROWS["boolq"]]).examples("train")) == [
        {"question": "do cats run", "passage": "Cats -- The cat ran home.", "label": 1, "idx": 4}
    ]
    assert list(make("wsc", [ROWS["wsc"]]).examples("train")) == [
        {
            "text": "The cat and the dog ran, then it sat.", "label": 1, "idx": 4,
            "span1_text": "the dog", "span1_index": 3, "span2_text": "it", "span2_index": 7,
        }
    ]  # fmt: skip
    first, *_ = make("multirc", [ROWS["multirc"]]).examples("train")
    assert first == {
        "paragraph": "The cat ran home and sat.", "question": "Why?", "answer": "the dog ran.", "label": 1,
        "idx": {"paragraph": 4, "question": 7, "answer": 1},
    }  # fmt: skip
    first, _ = make("record", [ROWS["record"]]).examples("train")
    assert first == {
        "passage": HIGHLIGHTED, "query": "home ran @placeholder .", "entities": ["The cat", "The dog", "cat"],
        "answers": ["The cat", "cat"], "idx": {"passage": 3, "query": 4},
    }  # fmt: skip


def test_record(make, vocabulary):
    rows = list(make("record", [ROWS["record"]], length=40).rows("train"))
    assert [row["idx"].tolist() for row in rows] == [[3, 4, 0], [3, 4, 1], [3, 4, 2], [3, 5, 0], [3, 5, 1], [3, 5, 2]]
    assert [int(row["label"]) for row in rows] == [1, 0, 1, 0, 1, 0]
    passage = "the cat ran home. the dog sat. it was june"
    assert shown(rows[1], vocabulary) == f"[CLS] {passage} [SEP] home ran the dog. [SEP]"
    assert shown(rows[3], vocabulary) == f"[CLS] {passage} [SEP] the cat sat [SEP]"
    (cut, *_) = make("record", [ROWS["record"]], length=16).rows("train")
    assert shown(cut, vocabulary) == "[CLS] the cat ran home. the dog sat [SEP] home ran the cat. [SEP]"
    unanswered = ROWS["record"] | {"qas": [{"query": "@placeholder sat", "idx": 0}]}
    assert [int(row["label"]) for row in make("record", [unanswered], file="test.jsonl").rows("test")] == [-1] * 3


def test_diagnostics(make, vocabulary):
    """Labelled, though they are tests; AX-b's copies write idx as a string."""
    for name in ("axb", "axg"):
        (row,) = make(name, [ROWS[name]]).rows("test")
        assert shown(row, vocabulary) == "[CLS] the cat ran. [SEP] it sat [SEP]"
        assert (row["label"], row["idx"]) == (1, 4)


@pytest.mark.parametrize("name, train, validation", [("boolq", 1206, 3270), ("copa", 400, 100), ("wsc", 554, 104)])
def test_demo(name, train, validation):
    task = superglue.TASKS[name]("data/demo/superglue", "data/demo/vocab.txt", 128)
    assert task.splits == ("train", "validation")
    assert (len(list(task.rows("train"))), len(list(task.rows("validation")))) == (train, validation)


OFFICIAL = {
    "boolq": (1206, 3270, 3245), "cb": (250, 56, 250), "copa": (400, 100, 500), "multirc": (27243, 4848, 9693), "rte": (2490, 277, 3000),
    "wic": (5428, 638, 1400), "wsc": (554, 104, 146), "record": (143, 136, 53),
}  # fmt: skip


@pytest.mark.real_data
@pytest.mark.skipif("ROOTSTOCK_REAL_DATA" not in os.environ, reason="ROOTSTOCK_REAL_DATA does not say where the corpora are")
@pytest.mark.parametrize("name", OFFICIAL)
def test_every_row_of_the_official_files(name):
    data = Path(os.environ["ROOTSTOCK_REAL_DATA"])
    task = superglue.TASKS[name](str(data / "superglue"), str(data / "vocab/bert-base-uncased-vocab.txt"), 128)
    rows = {split: list(task.rows(split)) for split in task.splits}
    assert tuple(len(rows[split]) for split in ("train", "validation", "test")) == OFFICIAL[name]
    assert {int(row["label"]) for row in rows["train"]} == set(range(len(superglue.LABELS[name])))
    assert {int(row["label"]) for row in rows["test"]} == {-1}
    if name == "multirc":
        counts = {split: Counter() for split in rows}
        for split in rows:
            list(task._counted(split, counts[split]))
        assert {split: count["empty_texts"] for split, count in counts.items()} == {"train": 3, "validation": 0, "test": 1}
    if name == "wsc":  # "it" is said to be at the word "use"
        row = rows["validation"][42]
        vocabulary = vocabularies.load(task.vocabulary)
        assert [vocabulary.decode(row["input_ids"][start:end]) for start, end in row["spans"]] == ["safe", "it"]


def test_a_broken_tfds_directory(tmp_path, vocabulary_file):
    """What a TFDS directory holds is known without TensorFlow."""
    folder = tmp_path / "super_glue" / "cb" / "1.0.2"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"splits": [{"name": "test"}, {"name": "train"}]}')
    assert superglue.cb(str(tmp_path), vocabulary_file, LENGTH).splits == ("train", "test")
    (folder / "dataset_info.json").write_text("{}")
    with pytest.raises(DataError, match=r"dataset_info\.json' is not what TFDS writes: KeyError\('splits'\)"):
        _ = superglue.cb(str(tmp_path), vocabulary_file, LENGTH).splits
