"""A user's own jsonl and tsv files as rows."""

import gzip
import json
import math

import numpy as np
import pytest

from rootstock.data.errors import DataError
from rootstock.data.table_task import TableTask
from rootstock.data.vocabularies import SPECIALS

WORDS = "the cat sat a dog ran".split()
TSV = "id\tsentence\tlabel\nx\tthe cat\tgood\n\ny\ta dog ran\tbad\nz\t\tgood\n"


@pytest.fixture
def make(tmp_path):
    """A task over files by name; `how` goes to TableTask."""
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIALS, *WORDS]) + "\n")

    def build(files, texts=("sentence",), labels=("bad", "good"), length=16):
        folder = tmp_path / "data"
        folder.mkdir()
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return TableTask("mine", str(folder), str(tmp_path / "vocab.txt"), length, texts, "label", labels)

    return build


def test_tsv(make):
    """[CLS] is 2 and [SEP] 3, words from 5 on; the blank line is no row, the empty text is one."""
    task = make({"train.tsv": TSV})
    rows = list(task.rows("train"))
    assert [row["input_ids"][:5].tolist() for row in rows] == [[2, 5, 6, 3, 0], [2, 8, 9, 10, 3], [2, 3, 0, 0, 0]]
    assert [(int(row["label"]), int(row["idx"])) for row in rows] == [(1, 0), (0, 1), (1, 2)]
    assert {name: (field.shape, field.dtype) for name, field in task.fields().items()} == {
        name: (value.shape, str(value.dtype)) for name, value in rows[0].items()
    }
    assert [example["sentence"] for example in task.examples("train")] == ["the cat", "a dog ran", ""]


def test_pairs_of_jsonl_with_numbers(make):
    lines = [{"a": "the cat", "b": "a dog", "label": 2.5}, {"a": "the dog", "b": "ran", "label": 4}]
    task = make({"train.jsonl": "".join(json.dumps(line) + "\n" for line in lines)}, ("a", "b"), ())
    first, second = task.rows("train")
    assert first["input_ids"][:8].tolist() == [2, 5, 6, 3, 8, 9, 3, 0] and first["token_type_ids"][:8].tolist() == [0, 0, 0, 0, 1, 1, 1, 0]
    assert (first["label"], second["label"]) == (2.5, 4.0) and first["label"].dtype == np.float32


def test_true_and_whole_numbers_name_classes(make):
    task = make({"train.jsonl": '{"sentence": "a", "label": true}\n{"sentence": "a", "label": 0}\n'}, labels=("0", "true"))
    assert [int(row["label"]) for row in task.rows("train")] == [1, 0]


def test_splits_and_unlabelled_rows(make):
    unlabelled = "sentence\nthe cat\n"
    task = make({"extra.tsv": unlabelled, "test.tsv.gz": unlabelled, "dev.tsv": TSV, "train.tsv": TSV, "notes.md": "no split"})
    assert task.splits == ("train", "validation", "test", "extra")
    assert [path.name for path in task.inputs()] == ["train.tsv", "dev.tsv", "test.tsv.gz", "extra.tsv"]
    assert [int(row["label"]) for row in task.rows("test")] == [-1]
    numbers = TableTask("mine", task.data_dir, task.vocabulary, 16, ("sentence",), "label")
    assert math.isnan(next(numbers.rows("test"))["label"])


def test_an_empty_label_is_none_where_none_is_needed(make):
    task = make({"train.tsv": TSV, "test.tsv": "sentence\tlabel\nthe cat\t\n"})
    assert [int(row["label"]) for row in task.rows("test")] == [-1]


def test_counts_add_up(make):
    from collections import Counter

    task, counts = make({"train.tsv": TSV}), Counter()
    assert len(list(task.rows("train", counts))) == 3
    assert counts == {"documents": 3, "empty_texts": 1}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"train.tsv": "text\tlabel\nthe cat\tgood\n"}, r"train.tsv' line 1 should be a header with 'sentence'. Seen: text, label"),
        ({"train.tsv": "sentence\tlabel\nthe cat\tgood\textra\n"}, r"line 2 has 3 fields, the header has 2 \(sentence, label\)"),
        ({"train.tsv": "sentence\tlabel\nthe cat\tfine\n"}, r"line 2: 'label' is 'fine', expected one of 'bad', 'good'"),
        ({"train.tsv": "sentence\nthe cat\n"}, "line 2: the label 'label' is missing; there are sentence"),
        ({"train.jsonl": '{"label": "good"}\n'}, "line 1: the key 'sentence' is missing"),
        ({"train.jsonl": '{"sentence": null, "label": "good"}\n'}, "'sentence' is None, expected a string"),
        ({"train.tsv": b"sentence\tlabel\nth\xff cat\tgood\n"}, "is not UTF-8 text: byte 0xff at offset 2 of line 2"),
        ({"dev.tsv": TSV, "val.jsonl": ""}, "are both the split 'validation' of mine"),
        ({"test.tsv": TSV}, r"mine has no split 'train' in .*; it has test"),
        ({"notes.md": ""}, "holds no file of mine"),
        ({"train.tsv": "sentence\tlabel\n", "dev.tsv": TSV}, r"train\.tsv' holds no rows\."),
        ({"train.jsonl": "\n"}, r"train\.jsonl' holds no rows\."),
        (
            {"train.tsv": "sentence\tlabel\tlabel\nthe cat\tgood\tbad\n"},
            "line 1 is a header that names a column twice",
        ),
    ],
)
def test_bad_input(make, files, said):
    task = make(files)
    with pytest.raises(DataError, match=said):
        list(task.rows("train"))


def test_a_file_is_no_folder(make):
    task = make({"train.tsv": TSV})
    with pytest.raises(DataError, match=r"train\.tsv' is no folder; expected one that holds mine"):
        _ = TableTask("mine", f"{task.data_dir}/train.tsv", task.vocabulary, 16, ("sentence",), "label").splits


def test_a_number_that_is_none(make):
    task = make({"train.tsv": "sentence\tlabel\nthe cat\tnan\n"}, labels=())
    with pytest.raises(DataError, match="'label' is 'nan', expected a number"):
        list(task.rows("train"))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (dict(texts=("a", "b", "c")), "expected one or two"),
        (dict(labels=("one",)), "expected two different names or more"),
        (dict(labels=("x", "x")), "expected two different names or more"),
        (dict(length=8), "the length of mine's rows is 8"),
    ],
)
def test_bad_descriptions(make, how, said):
    with pytest.raises(DataError, match=said):
        make({}, **how)
