"""Rows made by hand, as a task of the data room gives them."""

import dataclasses

import pytest

from rootstock.data import fields, tasks


@dataclasses.dataclass(frozen=True)
class Handmade(tasks.Task):
    """One split, `validation`, of arrays."""

    arrays: dict
    name = "handmade"
    vocabulary = None
    splits = ("validation",)

    def fields(self):
        return {name: fields.Field(array.shape[1:], str(array.dtype)) for name, array in self.arrays.items()}

    def inputs(self):
        return []

    def rows(self, split, counts=None, each=map):
        size = len(self.arrays["label"])
        counts["documents"] += size
        return ({name: array[row] for name, array in self.arrays.items()} for row in range(size))


@pytest.fixture(scope="session")
def handmade():
    return Handmade
