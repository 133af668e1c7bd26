"""Pretraining text: documents to packed rows of fixed length."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rootstock.data import packing, sources, vocabularies
from rootstock.data.documents import held_out
from rootstock.data.errors import DataError
from rootstock.data.fields import Field, sequence_fields
from rootstock.data.tasks import PLACE, InParts, Part, Row, batched, parted

_BATCH = 64  # documents tokenised in one call


@dataclasses.dataclass(frozen=True)
class DocumentTask(InParts):
    """Rows that are made of the documents of a source.

    About `validation_fraction` of the documents, chosen by a hash of their text, are the validation split, whatever the row length.
    `characters` is the length from which a document of running text ends at the next blank line (`documents`).
    """

    source: sources.Source | str | Sequence[str] = dataclasses.field(metadata=PLACE)  # a string is a glob or a folder: `sources.Files`
    vocabulary: str = dataclasses.field(metadata=PLACE)
    length: int
    validation_fraction: float = 0.02
    characters: int = 4096

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "validation") if self.validation_fraction else ("train",)

    def inputs(self) -> list[Path]:
        return sources.source_of(self.source).inputs()

    def description(self) -> dict[str, Any]:
        return super().description() | {"source": sources.source_of(self.source).description()}


@dataclasses.dataclass(frozen=True)
class TextTask(DocumentTask):
    """Documents, cut into pieces that fit a row and packed (`packing`)."""

    def __post_init__(self):
        if self.length <= packing.FRAME:
            raise DataError(f"TextTask.length is {self.length}; it must be more than the {packing.FRAME} of [CLS] and [SEP].")
        if not 0 <= self.validation_fraction < 1:
            raise DataError(f"TextTask.validation_fraction is {self.validation_fraction}; expected a share from 0 to below 1.")

    @property
    def name(self) -> str:
        return "text"

    def fields(self) -> dict[str, Field]:
        return sequence_fields(self.length)

    def parts(self, split: str, counts: Counter) -> Iterator[Part]:
        return (
            functools.partial(packed, self.length, self.load_vocabulary(), texts) for texts in parted(documents_of(self, split, counts))
        )


def packed(length: int, vocabulary: vocabularies.Vocabulary, texts: list[str], counts: Counter) -> Iterator[Row]:
    """Documents as rows of `length`. Counts `documents`, and `dropped` of them: nothing but control characters."""

    def pieces():
        for some in batched(texts, _BATCH):
            for ids in vocabulary.encode_batch(some):
                counts["documents"] += 1
                counts["dropped"] += not ids
                yield from packing.cut(ids, length)

    return packing.pack(pieces(), length, vocabulary)


def documents_of(task: DocumentTask, split: str, counts: Counter | None = None) -> Iterator[str]:
    """The documents of a split. Empty ones are left out and counted: `documents` and `dropped`."""
    counts = Counter() if counts is None else counts
    if split not in task.splits:
        raise DataError(f"the task '{task.name}' has no split '{split}'; it has {', '.join(task.splits)}.")
    empty = True
    for document in sources.source_of(task.source).documents(task.characters):
        empty = empty and not document
        if held_out(document, task.validation_fraction) != (split == "validation"):
            continue
        if document:
            yield document
        else:
            counts.update(documents=1, dropped=1)
    if empty:
        raise DataError(f"there is no text in {', '.join(map(str, task.inputs()))}: nothing but blank lines, or no byte at all.")
