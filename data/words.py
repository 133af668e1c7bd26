"""Pretraining text with word boundaries, for languages that write none: Chinese whole-word masking (Cui et al. 2021, arXiv 1906.08101).

Pieces stay as they are; the field `continues` is 1 where a piece goes on with the word that the piece before it belongs to.
"""

import dataclasses
import functools
import importlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rootstock.data import packing
from rootstock.data.errors import DataError
from rootstock.data.fields import Field
from rootstock.data.tasks import Part, Row, parted
from rootstock.data.text import TextTask, documents_of
from rootstock.data.vocabularies import Vocabulary

Segmenter = Callable[[str], Sequence[str]]

_FLAG = 1 << 30  # rides on an id through the packing; no vocabulary is as large


@dataclasses.dataclass(frozen=True)
class SegmentedTask(TextTask):
    """`text.TextTask` with `continues`. `segmenter` is the dotted path of a function that cuts a text into its words, in order and with
    nothing left out but white space: "jieba.lcut", or your own.
    """

    segmenter: str = "jieba.lcut"

    @property
    def name(self) -> str:
        return "segmented_text"

    def fields(self) -> dict[str, Field]:
        return super().fields() | {"continues": Field((self.length,))}

    def parts(self, split: str, counts: Counter) -> Iterator[Part]:
        load_segmenter(self.segmenter)
        return (functools.partial(_rows, self, texts) for texts in parted(documents_of(self, split, counts)))


def load_segmenter(path: str) -> Segmenter:
    """The function at a dotted path."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise DataError(f"the segmenter {path!r} cannot be loaded: {error}; name a function of an installed module") from error


def continuing(text: str, words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether each piece, given by the characters that it stands for, goes on with a word of `words`."""
    begins, place = set(), 0
    for word in filter(None, (word.strip() for word in words)):
        found = text.find(word, place)
        if found < 0 or text[place:found].strip():
            raise DataError(f"the segmenter's word {word!r} does not come next in the text, which goes on {text[place : place + 20]!r}")
        begins.add(found)
        place = found + len(word)
    firsts = [start + len(text[start:end]) - len(text[start:end].lstrip()) for start, end in offsets]
    return [first not in begins for first in firsts]


def _rows(task: SegmentedTask, texts: list[str], counts: Counter) -> Iterator[Row]:
    vocabulary, segment = task.load_vocabulary(), load_segmenter(task.segmenter)

    def pieces():
        for text in texts:
            ids = _flagged(text, segment(text), vocabulary)
            counts["documents"] += 1
            counts["dropped"] += not ids
            yield from packing.cut(ids, task.length)

    for row in packing.pack(pieces(), task.length, vocabulary):
        yield row | {"input_ids": row["input_ids"] % _FLAG, "continues": (row["input_ids"] >= _FLAG).astype(np.int32)}


def _flagged(text: str, words: Sequence[str], vocabulary: Vocabulary) -> list[int]:
    ids, offsets = vocabulary.encode_with_offsets(text)
    return [i + _FLAG * on for i, on in zip(ids, continuing(text, words, offsets), strict=True)]
