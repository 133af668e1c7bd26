"""Rows in memory: what is small enough needs no cache."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from rootstock.data import vocabularies
from rootstock.data.errors import DataError
from rootstock.data.fields import Field


class Arrays:
    """A source over arrays that share their leading axis."""

    def __init__(self, arrays: Mapping[str, np.ndarray], vocabulary: str | None = None):
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) != 1:
            raise DataError(f"the arrays of a source have one length; seen {lengths}.")
        self.arrays = dict(arrays)
        self.fields = {name: Field(array.shape[1:], str(array.dtype)) for name, array in arrays.items()}
        self.vocabulary = vocabulary
        self.vocabulary_checksum = vocabularies.load(vocabulary).checksum if vocabulary else None

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, np.ndarray]], vocabulary: str | None = None) -> "Arrays":
        """Stacks rows, for example a task's: `Arrays.of(task.rows("validation"), task.vocabulary)`."""
        rows = list(rows)
        if not rows:
            raise DataError("there are no rows to make a source of.")
        return cls({name: np.stack([row[name] for row in rows]) for name in rows[0]}, vocabulary)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {name: array[index] for name, array in self.arrays.items()}

    def read_batch(self, indices: Sequence[int] | Int[np.ndarray, "B"]) -> dict[str, np.ndarray]:
        return {name: array[np.asarray(indices, np.int64)] for name, array in self.arrays.items()}
