"""Text files to documents to rows."""

from collections import Counter

import numpy as np
import pytest

from rootstock.data.documents import documents, held_out
from rootstock.data.errors import DataError
from rootstock.data.text import TextTask


def lines(text):
    return text.splitlines(keepends=True)


LONG = "word " * 60  # longer than a heading


def test_paragraphs_and_gaps():
    text = f"Chapter 1\n\n\n{LONG}\nwrapped line\n\nnext paragraph\n\n\nChapter 2\n\n\n{LONG}\n"
    long = LONG.strip()
    assert list(documents(lines(text))) == [f"Chapter 1\n{long} wrapped line\nnext paragraph", f"Chapter 2\n{long}"]


@pytest.mark.parametrize("between", ["\n", "\n\n"])
def test_long_texts_are_cut_between_lines(between):
    sentences = [f"sentence {i} of a text without chapters." for i in range(500)]
    found = list(documents(lines(between.join(sentences)), characters=1000))
    assert " ".join(found).split() == " ".join(sentences).split()
    assert all(990 <= len(document) < 1300 for document in found[:-1])


def test_blank_files_have_no_documents():
    assert list(documents([])) == list(documents(["\n", "  \n"])) == []


def test_splits_are_disjoint_and_whole(corpus, vocabulary_file, vocabulary):
    task = TextTask(str(corpus), vocabulary_file, 32, validation_fraction=0.2, characters=500)
    counts = {split: Counter() for split in task.splits}
    ids = {
        split: Counter(i for row in task.rows(split, counts[split]) for i in row["input_ids"][row["segment_ids"] > 0].tolist())
        for split in task.splits
    }
    every = [document for path in task.inputs() for document in documents(path.read_text().splitlines(True), 500)]
    assert counts["train"]["documents"] + counts["validation"]["documents"] == len(every)
    assert counts["validation"]["documents"] == sum(held_out(document, 0.2) for document in every) > 0.1 * len(every)
    whole = Counter(i for document in every for i in vocabulary.encode(document))
    found = ids["train"] + ids["validation"]
    assert {i: n for i, n in found.items() if i not in vocabulary.special_ids} == whole


def test_the_split_does_not_depend_on_the_length(corpus, vocabulary_file, vocabulary):
    def tokens(length):
        rows = TextTask(str(corpus), vocabulary_file, length, validation_fraction=0.1).rows("validation")
        return sum(int(np.isin(row["input_ids"], vocabulary.special_ids, invert=True).sum()) for row in rows)

    assert tokens(16) == tokens(64) > 0


def test_no_validation_split(corpus, vocabulary_file):
    task = TextTask(str(corpus), vocabulary_file, 32, validation_fraction=0.0)
    assert task.splits == ("train",)
    with pytest.raises(DataError, match="has no split 'validation'; it has train"):
        next(task.rows("validation"))


def test_description_names_no_path(corpus, vocabulary_file):
    task = TextTask(str(corpus), vocabulary_file, 32)
    assert str(corpus.parent) not in str(task.description())
    assert vocabulary_file not in str(task.description())


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(length=2), "TextTask.length is 2"),
        (dict(validation_fraction=1.0), "TextTask.validation_fraction is 1.0"),
        (dict(source="no/such/*.txt"), r"'no/such/\*\.txt' matches no file"),
        (dict(vocabulary="no/vocab.txt"), r"'no/vocab\.txt' does not exist"),
    ],
)
def test_mistakes(corpus, vocabulary_file, change, message):
    with pytest.raises(DataError, match=message):
        next(TextTask(**(dict(source=str(corpus), vocabulary=vocabulary_file, length=32) | change)).rows("train"))


def test_empty_corpus(tmp_path, vocabulary_file):
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(DataError, match=r"there is no text in .*empty\.txt"):
        next(TextTask(str(tmp_path), vocabulary_file, 32).rows("train"))
