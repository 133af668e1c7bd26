"""Pretraining text as rows of raw tokens: documents joined and cut to a fixed number, for what corrupts them anew at every reading.

Unlike `text.TextTask` nothing frames a document and a row knows no boundary between two, as in T5 (Raffel et al. 2019, arXiv 1910.10683,
section 3.1.4). Rows are full but for the last of each part of the corpus, which keeps what is left.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator

import numpy as np

from rootstock.data.errors import DataError
from rootstock.data.fields import Field
from rootstock.data.tasks import Part, Row, batched, parted
from rootstock.data.text import DocumentTask, documents_of
from rootstock.data.vocabularies import Vocabulary

SHORTEST = 2  # tokens of a row: one to keep and one to corrupt

_BATCH = 64  # documents tokenised in one call


@dataclasses.dataclass(frozen=True)
class RawTextTask(DocumentTask):
    """Rows of `length` tokens; `segment_ids` are 0 where a row is not full. With `closed` EOS ends every document, as decoder-only models
    want it. Splits are those of `text.TextTask`.
    """

    closed: bool = False

    def __post_init__(self):
        if self.length < SHORTEST:
            raise DataError(f"RawTextTask.length is {self.length}; a row has {SHORTEST} tokens or more.")
        if not 0 <= self.validation_fraction < 1:
            raise DataError(f"RawTextTask.validation_fraction is {self.validation_fraction}; expected a share from 0 to below 1.")

    @property
    def name(self) -> str:
        return "raw_text"

    def fields(self) -> dict[str, Field]:
        return {name: Field((self.length,)) for name in ("input_ids", "segment_ids")}

    def parts(self, split: str, counts: Counter) -> Iterator[Part]:
        vocabulary = self.load_vocabulary()
        if self.closed:
            vocabulary.require("eos")
        end = [vocabulary.eos_id] if self.closed else []
        return (functools.partial(_joined, self.length, vocabulary, end, texts) for texts in parted(documents_of(self, split, counts)))


def _joined(length: int, vocabulary: Vocabulary, end: list[int], texts: list[str], counts: Counter) -> Iterator[Row]:
    """Rows of the documents of one part. Counts `documents`, and `dropped` of them: nothing but control characters, or a last one that is
    too short for a row.
    """
    waiting: list[int] = []
    last = 0
    for some in batched(texts, _BATCH):
        for ids in vocabulary.encode_batch(some):
            counts["documents"] += 1
            counts["dropped"] += not ids
            waiting += [*ids, *end] if ids else []
            last = len(ids) + len(end) if ids else last
        full = len(waiting) // length * length
        for start in range(0, full, length):
            yield _row(waiting[start : start + length], length, vocabulary)
        del waiting[:full]
    if len(waiting) >= SHORTEST:
        yield _row(waiting, length, vocabulary)
    elif waiting:
        counts["dropped"] += last <= len(waiting)


def _row(ids: list[int], length: int, vocabulary: Vocabulary) -> Row:
    row = {"input_ids": np.full(length, vocabulary.pad_id or 0, np.int32), "segment_ids": np.zeros(length, np.int32)}
    row["input_ids"][: len(ids)] = ids
    row["segment_ids"][: len(ids)] = 1
    return row
