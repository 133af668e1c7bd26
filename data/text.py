"""Pretraining text: files to packed rows of fixed length."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rootstock.data import files as text_files
from rootstock.data import packing, vocabularies
from rootstock.data.documents import documents, held_out
from rootstock.data.errors import DataError
from rootstock.data.fields import Field, sequence_fields
from rootstock.data.tasks import PLACE, Map, Row, Task, batched

_BATCH = 64  # documents tokenised in one call


@dataclasses.dataclass(frozen=True)
class TextTask(Task):
    """Documents of text files, cut into pieces that fit a row and packed (`packing`).

    What a document is stands in `documents`; `characters` is the length from which one ends at the next blank line.
    About `validation_fraction` of the documents, chosen by a hash of their text, are the validation split, whatever the row length.
    """

    files: str | Sequence[str] = dataclasses.field(metadata=PLACE)  # globs or folders
    vocabulary: str = dataclasses.field(metadata=PLACE)
    length: int
    validation_fraction: float = 0.02
    characters: int = 4096

    def __post_init__(self):
        if self.length <= packing.FRAME:
            raise DataError(f"TextTask.length is {self.length}; it must be more than the {packing.FRAME} of [CLS] and [SEP].")
        if not 0 <= self.validation_fraction < 1:
            raise DataError(f"TextTask.validation_fraction is {self.validation_fraction}; expected a share from 0 to below 1.")

    @property
    def name(self) -> str:
        return "text"

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "validation") if self.validation_fraction else ("train",)

    def fields(self) -> dict[str, Field]:
        return sequence_fields(self.length)

    def inputs(self) -> list[Path]:
        return text_files.expand(self.files)

    def rows(self, split: str, counts: Counter | None = None, each: Map = map) -> Iterator[Row]:
        vocabulary = self.load_vocabulary()
        counts = Counter() if counts is None else counts
        texts = batched(documents_of(self, split), _BATCH)
        encode = functools.partial(encode_documents, vocabulary.path, vocabulary.lowercase)

        def pieces():
            for encoded in each(encode, texts):
                for ids in encoded:
                    counts["documents"] += 1
                    counts["dropped"] += not ids  # nothing but control characters
                    yield from packing.cut(ids, self.length)

        return packing.pack(pieces(), self.length, vocabulary)


def documents_of(task, split: str) -> Iterator[str]:
    """The documents of a split, file by file, for a task with `files`, `characters` and `validation_fraction`."""
    if split not in task.splits:
        raise DataError(f"the task '{task.name}' has no split '{split}'; it has {', '.join(task.splits)}.")
    empty = True
    for path in task.inputs():
        with text_files.open_text(path) as lines:
            for document in documents(lines, task.characters):
                empty = False
                if held_out(document, task.validation_fraction) == (split == "validation"):
                    yield document
    if empty:
        raise DataError(f"there is no text in {', '.join(map(str, task.inputs()))}: nothing but blank lines, or no byte at all.")


def encode_documents(path: str, lowercase: bool, texts: list[str]) -> list[list[int]]:
    """Ids of some documents; a function of plain values, so that other processes can run it."""
    return vocabularies.load(path, lowercase).encode_batch(texts)
