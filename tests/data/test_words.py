"""Word boundaries from a segmenter ride along with the pieces."""

import numpy as np
import pytest

from rootstock.data import vocabularies
from rootstock.data.errors import DataError
from rootstock.data.words import SegmentedTask, continuing

TEXT = "使用语言模型 来预测下一个词"
WORDS = ["使用", "语言", "模型", " ", "来", "预测", "下", "一个", "词"]


def segment(text):
    """The words of TEXT, wherever they stand in a row."""
    found, place = [], 0
    while place < len(text):
        word = next((word for word in WORDS if text.startswith(word, place)), text[place])
        found.append(word)
        place += len(word)
    return found


def test_continuing():
    """The characters that begin no word."""
    offsets = [(place, place + 1) for place, letter in enumerate(TEXT) if letter != " "]
    assert [TEXT[a] for (a, _), on in zip(offsets, continuing(TEXT, WORDS, offsets), strict=True) if on] == list("用言型测个")
    assert continuing("ab cd", ["ab", "cd"], [(0, 1), (1, 2), (2, 4), (4, 5)]) == [False, True, False, True]  # a piece with its blank
    with pytest.raises(DataError, match="the segmenter's word '模' does not come next"):
        continuing(TEXT, ["使用", "模"], offsets)


def test_rows(tmp_path):
    letters = sorted(set("".join(WORDS)) - {" "})
    (tmp_path / "vocab.txt").write_text("\n".join([*vocabularies.SPECIALS, *letters]))
    (tmp_path / "a.txt").write_text("\n\n".join([TEXT] * 5))
    task = SegmentedTask(str(tmp_path / "a.txt"), str(tmp_path / "vocab.txt"), 10, validation_fraction=0.0, segmenter=f"{__name__}.segment")
    rows = list(task.rows("train"))
    known = vocabularies.load(tmp_path / "vocab.txt")
    on = [known.piece_of(i) for row in rows for i in row["input_ids"][row["continues"] == 1]]
    assert set(on) == set("用言型测个") and len(on) == 5 * 5
    assert {name: row.shape for name, row in rows[0].items()} == {name: field.shape for name, field in task.fields().items()}
    assert all((row["continues"][row["segment_ids"] == 0] == 0).all() and row["input_ids"].max() < known.size for row in rows)
    assert np.concatenate([row["input_ids"] for row in rows]).dtype == np.int32


def test_no_such_segmenter(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    task = SegmentedTask(str(tmp_path / "a.txt"), "unused", 10, segmenter="no_such_module.cut")
    with pytest.raises(DataError, match=r"the segmenter 'no_such_module\.cut' cannot be loaded"):
        list(task.rows("train"))
