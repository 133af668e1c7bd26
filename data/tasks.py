"""What a task is: a named source of rows of fixed shape, the same for the cache, for reading in memory and for seqio.

A task reads and casts its rows in Python, by `rows`; `seqio()` wraps the same rows as a seqio.Task for use in mixtures.
The work is done there, and not in TensorFlow preprocessors, so that one code makes the ids of both ways and the first needs no TensorFlow.
"""

import abc
import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np

from rootstock.data import vocabularies
from rootstock.data.fields import Field

Row = dict[str, np.ndarray | np.generic]
# Metadata of a dataclass field that says where something is, not what the rows are: it is left out of the description.
PLACE = {"describes": False}
Part = Callable[[Counter], Iterator[Row]]  # makes some rows, and counts what it meets; can be pickled

_PART = 1 << 24  # characters: some seconds of tokenising, and a shard of ten or twenty megabytes


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """Subclasses are frozen dataclasses of plain values, so that they can be pickled, compared and written down."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Short, as it appears in metrics and file names."""

    @property
    @abc.abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Those of train, validation and test that there are."""

    @abc.abstractmethod
    def fields(self) -> dict[str, Field]:
        """Shape and dtype of every array of a row."""

    @abc.abstractmethod
    def inputs(self) -> list[Path]:
        """The files that are read."""

    @abc.abstractmethod
    def rows(self, split: str, counts: Counter | None = None) -> Iterator[Row]:
        """The rows of a split in their order. What the task counts on the way (documents, dropped) is added to `counts`."""

    def parts(self, split: str, counts: Counter) -> Iterator[Part]:
        """The rows of a split in parts that know nothing of one another: made in parallel, each a shard of the cache, and kept when
        building is stopped. Drawing them is the cheap half of the work; what is counted in doing so goes to `counts`, the rest to the
        Counter that a part is called with. All is one part unless the task is `InParts`."""
        yield functools.partial(_whole, self, split)

    def load_vocabulary(self) -> vocabularies.Vocabulary:
        return vocabularies.load(self.vocabulary)

    def description(self) -> dict[str, Any]:
        """What decides the rows, apart from the contents of the input files: plain values without paths, which differ between machines."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.metadata.get("describes", True)}
        vocabulary = self.load_vocabulary()
        return {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "name": self.name,
            **values,
            "vocabulary_sha256": vocabulary.checksum,
            "lowercase": vocabulary.lowercase,
        }

    def seqio(self, name: str | None = None) -> Any:
        """This task as a seqio.Task, under its own name or another. Needs the extra `data`."""
        from rootstock.data import seqio_bridge

        return seqio_bridge.to_seqio(self, name or self.name)


class InParts(Task):
    """A task that says its parts; its rows are theirs, one after another."""

    @abc.abstractmethod
    def parts(self, split: str, counts: Counter) -> Iterator[Part]: ...

    def rows(self, split: str, counts: Counter | None = None) -> Iterator[Row]:
        counts = Counter() if counts is None else counts
        for part in self.parts(split, counts):
            yield from part(counts)


def _whole(task: Task, split: str, counts: Counter) -> Iterator[Row]:
    return task.rows(split, counts)


def parted(documents: Iterable[Sized], size: int = _PART, *, most: float = math.inf) -> Iterator[list]:
    """At most `most` documents, gathered to `size` characters (or ids) and a little more. Depends on nothing but the documents."""
    part, gathered = [], 0
    for document in documents:
        part.append(document)
        gathered += len(document)
        if gathered >= size or len(part) >= most:
            yield part
            part, gathered = [], 0
    if part:
        yield part


def batched(items: Iterable, size: int) -> Iterator[Sequence]:
    """Lists of `size` items, the last one shorter."""
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
