"""GLUE's casts for encoders and the oddities of its files, on a few rows by hand; the real files as a whole."""

import gzip
from collections import Counter

import numpy as np
import pytest

from rootstock.data.errors import DataError
from rootstock.data.suites import glue

LENGTH = 24
# Header, and two rows: files as GLUE has them. CoLA's has no header.
FILES = {
    "cola": ("", "gj04\t1\t\tThe cat ran.", "gj04\t0\t*\tran cat The"),
    "sst2": ("sentence\tlabel", "the cat ran \t1", "it was not \t0"),
    "mrpc": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", '1\t7\t8\tthe "cat ran\tit sat', "0\t9\t10\tit\tthe dog"),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        "0\tg\tf\t2012\t1\tn\tn\tthe cat\tit sat\t3.800",
        "1\tg\tf\t2012\t4\tn\tn\tit\tthe dog\t0",
    ),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "5\t1\t2\twhy the cat?\twhat sat?\t1", "6\t3\t4\twhy?\twhat?\t0"),
    "mnli": (
        "index\tsentence1\tsentence2\tlabel1\tgold_label",
        "0\tthe cat ran\tit sat\tneutral\tcontradiction",
        "1\tit\tthe dog\tx\tneutral",
    ),
    "qnli": ("index\tquestion\tsentence\tlabel", "0\twhat ran?\tthe cat ran\tentailment", "1\twhy?\tit sat\tnot_entailment"),
    "rte": ("index\tsentence1\tsentence2\tlabel", "0\tthe cat ran\tit sat\tnot_entailment", "1\tit\tthe dog\tentailment"),
    "wnli": ("index\tsentence1\tsentence2\tlabel", "0\tthe cat ran\tit sat\t1", "1\tit\tthe dog\t0"),
    "ax": ("index\tsentence1\tsentence2", "0\tthe cat ran\tit sat", "1\tit\tthe dog"),
}
TEST = {"ax": ("AX.tsv", "test")}


@pytest.fixture
def make(tmp_path, vocabulary_file):
    """A task over the lines of one file."""

    def write(name, lines, length=LENGTH, file=None):
        folder = tmp_path / glue.TASKS[name]("", "", length).set.folder
        folder.mkdir(exist_ok=True)
        text = "".join(line + "\n" for line in lines if line).encode()
        path = folder / (file or TEST.get(name, ("train.tsv",))[0])
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
        return glue.TASKS[name](str(tmp_path), vocabulary_file, length)

    return write


def shown(row, vocabulary):
    return vocabulary.decode(row["input_ids"][row["segment_ids"] > 0])


@pytest.mark.parametrize(
    "name, first, labels",
    [
        ("cola", "[CLS] the cat ran. [SEP]", (1, 0)),
        ("sst2", "[CLS] the cat ran [SEP]", (1, 0)),
        ("mrpc", "[CLS] the [UNK] cat ran [SEP] it sat [SEP]", (1, 0)),
        ("stsb", "[CLS] the cat [SEP] it sat [SEP]", (np.float32(3.8), np.float32(0))),
        ("qqp", "[CLS] why the cat? [SEP] what sat? [SEP]", (1, 0)),
        ("mnli", "[CLS] the cat ran [SEP] it sat [SEP]", (2, 1)),
        ("qnli", "[CLS] what ran? [SEP] the cat ran [SEP]", (0, 1)),
        ("rte", "[CLS] the cat ran [SEP] it sat [SEP]", (1, 0)),
        ("wnli", "[CLS] the cat ran [SEP] it sat [SEP]", (1, 0)),
        ("ax", "[CLS] the cat ran [SEP] it sat [SEP]", (-1, -1)),
    ],
)
def test_rows(make, vocabulary, name, first, labels):
    task = make(name, FILES[name])
    (split,) = task.splits
    rows = list(task.rows(split))
    assert task.name == ("glue_rte" if name == "rte" else name) and split == TEST.get(name, ("", "train"))[1]
    for row in rows:
        assert {key: (value.shape, value.dtype) for key, value in row.items()} == {
            key: (field.shape, np.dtype(field.dtype)) for key, field in task.fields().items()
        }
    assert shown(rows[0], vocabulary) == first
    assert tuple(row["label"] for row in rows) == labels
    assert [int(row["idx"]) for row in rows] == [0, 1]


def test_long_sentence(make, vocabulary):
    (row,) = make("sst2", ["sentence\tlabel", "cat " * 50 + "\t1"]).rows("train")
    assert shown(row, vocabulary) == "[CLS] " + "cat " * 22 + "[SEP]"


def test_test_files_have_no_labels(make):
    make("cola", FILES["cola"])
    make("cola", FILES["cola"][1:], file="dev.tsv.gz")
    task = make("cola", ["index\tsentence", "0\tthe cat", "1\tit"], file="test.tsv")
    assert task.splits == ("train", "validation", "test")
    assert list(task.examples("test")) == [{"sentence": "the cat", "label": -1, "idx": 0}, {"sentence": "it", "label": -1, "idx": 1}]
    header, *rows = FILES["stsb"]
    task = make("stsb", [header.removesuffix("\tscore"), *(row.rpartition("\t")[0] for row in rows)], file="test.tsv")
    assert [example["label"] for example in task.examples("test")] == [-1.0, -1.0]
    with pytest.raises(DataError, match=r"train\.tsv' line 2: the key 'label' is missing; there are sentence"):
        list(make("sst2", ["sentence", "the cat"]).rows("train"))


def test_splits_of_mnli(make):
    for file in ("train", "test_mismatched", "dev_matched", "dev_mismatched"):
        task = make("mnli", FILES["mnli"], file=f"{file}.tsv")
    assert task.splits == ("train", "validation_matched", "validation_mismatched", "test_mismatched")
    assert len(list(task.rows("validation_mismatched"))) == 2


def test_mrpc_out_of_microsofts_files(make):
    """dev_ids.tsv tells the splits apart, idx is the row of Microsoft's file, and labels of its test file stay away, as with TFDS."""
    header, one, two = FILES["mrpc"]
    make("mrpc", [header, one], file="train.tsv")  # not read where the others are
    make("mrpc", [header, one, two, "1\t11\t12\tthe dog\tit ran"], file="msr_paraphrase_train.txt")
    make("mrpc", ["9\t10"], file="dev_ids.tsv")
    task = make("mrpc", [header, one], file="msr_paraphrase_test.txt.gz")
    assert [example["idx"] for example in task.examples("train")] == [0, 2]
    assert list(task.examples("validation")) == [{"sentence1": "it", "sentence2": "the dog", "label": 0, "idx": 1}]
    assert list(task.examples("test")) == [{"sentence1": 'the "cat ran', "sentence2": "it sat", "label": -1, "idx": 0}]
    assert [path.name for path in task.inputs()] == ["msr_paraphrase_train.txt", "dev_ids.tsv", "msr_paraphrase_test.txt.gz"]


@pytest.mark.parametrize("headed", [True, False])
def test_qqp_skips_malformed_rows(make, caplog, headed):
    """Such rows are known, and TFDS leaves them out too; idx goes on counting."""
    header, one, two = FILES["qqp"]
    lines = [header] * headed + ["5\t1\t2\twhy?\twhat? 0", one, "7\t8\t9\tq\tq\t", two]
    task = make("qqp", lines)
    counts = Counter()
    assert [int(row["idx"]) for row in task.rows("train", counts)] == [1, 3]
    assert counts == {"documents": 4, "dropped": 2, "empty_texts": 0}
    first = 1 + headed
    assert f"train.tsv' line {first}: it has 5 fields, expected 6 (id, qid1, qid2, question1, question2, is_duplicate)" in caplog.text
    assert f"train.tsv' line {first + 2}: its 'is_duplicate' is empty" in caplog.text


@pytest.mark.parametrize(
    "name, line, message",
    [
        ("rte", "2\tit\tthe dog", r"line 4 has 3 fields, expected 4 \(index, sentence1, sentence2, label\)\."),
        ("rte", "2\tit\tthe\tdog\tentailment", "line 4 has 5 fields, expected 4"),
        ("cola", "gj04\t1\tThe cat", r"line 3 has 3 fields, expected 4 \(source, is_acceptable, original, sentence\)"),
        ("rte", "2\tit\tthe dog\tmaybe", "line 4: 'label' is 'maybe', expected one of entailment, not_entailment, or their numbers 0, 1"),
        ("wnli", "2\tit\tthe dog\t", "line 4: 'label' is '', expected one of"),
        ("sst2", "the cat\t2", "line 4: 'label' is '2', expected one of negative, positive, or their numbers 0, 1"),
        ("stsb", "2\tg\tf\t2012\t4\tn\tn\tit\tthe dog\t5.1", "line 4: 'score' is '5.1', expected a number from 0 to 5"),
        ("stsb", "2\tg\tf\t2012\t4\tn\tn\tit\tthe dog\tnan", "line 4: 'score' is 'nan', expected a number from 0 to 5"),
    ],
)
def test_mistakes_name_file_and_line(make, name, line, message):
    with pytest.raises(DataError, match=rf"train\.tsv' {message}"):
        list(make(name, [*FILES[name], line]).rows("train"))


def test_no_agreement(make, caplog):
    task = make("mnli", [*FILES["mnli"], "2\tit\tthe cat\tx\t-"])
    counts = Counter()
    assert len(list(task.rows("train", counts))) == 2
    assert (counts["documents"], counts["dropped"]) == (3, 1)
    assert "train.tsv' line 4: its label is '-'" in caplog.text


def test_broken_files(make, tmp_path):
    with pytest.raises(DataError, match=r"line 1 should be a header with 'sentence'\. Seen: 'the cat', '1'"):
        list(make("sst2", ["the cat\t1"]).rows("train"))
    with pytest.raises(DataError, match=r"train\.tsv' holds no rows\."):
        list(make("sst2", ["sentence\tlabel"]).rows("train"))
    task = make("sst2", FILES["sst2"])
    (tmp_path / "SST-2" / "train.tsv").write_bytes(b"sentence\tlabel\ncaf\xe9\t1\n")
    with pytest.raises(DataError, match=r"train\.tsv' is not UTF-8 text: byte 0xe9 at offset 3 of line 2"):
        list(task.rows("train"))


# Rows of every split, GLUE's own figures.
OFFICIAL = {
    "cola": {"train": 8551, "validation": 1043, "test": 1063}, "sst2": {"train": 67349, "validation": 872, "test": 1821},
    "mrpc": {"train": 3668, "validation": 408, "test": 1725}, "stsb": {"train": 5749, "validation": 1500, "test": 1379},
    "qnli": {"validation": 5463, "test": 5463}, "rte": {"train": 2490, "validation": 277, "test": 3000},
    "wnli": {"train": 635, "validation": 71, "test": 146}, "ax": {"test": 1104},
}  # fmt: skip


@pytest.mark.real_data
@pytest.mark.parametrize("name", OFFICIAL)
def test_every_row_of_the_official_files(name, real_data):
    task = glue.TASKS[name](f"{real_data}/glue", f"{real_data}/vocab/bert-base-uncased-vocab.txt", 128)
    found = {split: list(task.examples(split)) for split in task.splits}
    assert {split: len(examples) for split, examples in found.items()} == OFFICIAL[name]
    for split, examples in found.items():
        known = {-1} if split == "test" else set(range(len(task.labels)))
        assert {example["label"] for example in examples} == known or (name == "stsb" and split != "test")
        assert len({example["idx"] for example in examples}) == len(examples)
    row = next(task.rows("validation" if "validation" in found else "test"))
    assert row["segment_ids"].any()


@pytest.mark.real_data
def test_the_copy_of_qqp_without_a_header(real_data, tmp_path, caplog):
    (tmp_path / "QQP").mkdir()
    (tmp_path / "QQP" / "dev.tsv.gz").symlink_to(f"{real_data}/glue/QQP/new_dev.tsv.gz")
    task = glue.qqp(str(tmp_path), f"{real_data}/vocab/bert-base-uncased-vocab.txt", 64)
    counts = Counter()
    assert sum(1 for _ in task._counted("validation", counts)) == 23496
    assert (counts["documents"], counts["dropped"]) == (23497, 1)
    assert "dev.tsv.gz' line 1: it has 5 fields, expected 6" in caplog.text
