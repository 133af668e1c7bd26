"""What the engine reads: batches by the global index of their first example.

A stream has no state. Row i of `Shuffled` lies in epoch i // n, at place i % n of that epoch's own permutation, which grain's
`index_shuffle` computes for one index at a time; so any batch of any epoch is found at once, and a run that stops
at example i goes on at example i on any number of processes.
"""

import abc
import hashlib
import struct
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from rootstock.data.errors import DataError
from rootstock.data.fields import Fields

Batch = dict[str, np.ndarray]

WEIGHT = "weight"  # float32 [B]: 1 for a real row, 0 for padding
_ROUNDS = 4  # of grain's cipher; four are its default too


@runtime_checkable
class Source(Protocol):
    """Rows by index: `cache.Source`, `cached.Cached`, `arrays.Arrays`."""

    fields: Fields
    vocabulary: str | None
    vocabulary_checksum: str | None

    def __len__(self) -> int: ...

    def read_batch(self, indices: Int64[np.ndarray, "B"]) -> Batch: ...


class _Stream(abc.ABC):
    def __init__(self, source: Source):
        if len(source) == 0:
            raise DataError(f"{_name(source)} holds no rows, so nothing can be read from it.")
        self.source = source

    @property
    def vocabulary(self) -> str | None:
        """Where the vocabulary that made the ids is, for `vocabularies.load`."""
        return self.source.vocabulary

    @property
    def vocabulary_checksum(self) -> str | None:
        return self.source.vocabulary_checksum

    def spec(self, size: int) -> dict[str, Any]:
        """Shapes and dtypes of a batch of `size` rows."""
        import jax

        spec = {name: jax.ShapeDtypeStruct((size, *field.shape), np.dtype(field.dtype)) for name, field in self.source.fields.items()}
        return spec | {WEIGHT: jax.ShapeDtypeStruct((size,), np.dtype("float32"))}

    def batch(self, start: int, size: int, shard: int = 0, shards: int = 1) -> Batch:
        """Rows [start, start + size) of the stream; of them only part `shard` of `shards` equal parts."""
        part = _divide(size, shards)
        return self._rows(np.arange(start + shard * part, start + (shard + 1) * part))

    @abc.abstractmethod
    def _rows(self, places: Int64[np.ndarray, "B"]) -> Batch:
        """The rows at these places of the stream."""


class Shuffled(_Stream):
    """Endless: each epoch is another permutation of the source, fixed by `seed`."""

    def __init__(self, source: Source, seed: int):
        super().__init__(source)
        self.seed = seed

    def order(self, places: Int64[np.ndarray, "B"]) -> Int64[np.ndarray, "B"]:
        """The rows of the source that stand at these places of the stream."""
        from grain.experimental import index_shuffle

        rows = len(self.source)
        seeds = {epoch: _epoch_seed(self.seed, epoch) for epoch in np.unique(places // rows).tolist()}
        return np.array(
            [index_shuffle(place % rows, max_index=rows - 1, seed=seeds[place // rows], rounds=_ROUNDS) for place in places.tolist()],
            np.int64,
        )

    def _rows(self, places: Int64[np.ndarray, "B"]) -> Batch:
        return self.source.read_batch(self.order(places)) | {WEIGHT: np.ones(len(places), np.float32)}


class Ordered(_Stream):
    """The source once, in order; beyond its end rows are zero and have weight 0."""

    def __len__(self) -> int:
        return len(self.source)

    def _rows(self, places: Int64[np.ndarray, "B"]) -> Batch:
        real = places < len(self.source)
        read = self.source.read_batch(places[real])
        padded = {name: np.zeros((len(places), *field.shape), field.dtype) for name, field in self.source.fields.items()}
        for name, values in read.items():
            padded[name][real] = values
        return padded | {WEIGHT: real.astype(np.float32)}


class Mixed:
    """Several streams at once, each with a fixed share of every batch. A batch is a dict of batches by task."""

    def __init__(self, streams: Mapping[str, Shuffled], shares: Mapping[str, int]):
        if streams.keys() != shares.keys() or not streams:
            raise DataError(
                f"a mixture needs a share for each of its streams, which are {', '.join(streams)}; shares are for {', '.join(shares)}."
            )
        bad = {name: share for name, share in shares.items() if share < 1}
        if bad:
            raise DataError(f"the shares of a mixture are whole numbers from 1; seen {bad}.")
        checksums = {name: stream.source.vocabulary_checksum for name, stream in streams.items()}
        if len(set(checksums.values())) > 1:
            raise DataError(f"the streams of a mixture were made with different vocabularies; their SHA-256: {checksums}.")
        self.streams = dict(streams)
        self.shares = dict(shares)
        self._total = sum(shares.values())

    @property
    def vocabulary(self) -> str | None:
        """The same for every stream."""
        return next(iter(self.streams.values())).vocabulary

    @property
    def vocabulary_checksum(self) -> str | None:
        return next(iter(self.streams.values())).vocabulary_checksum

    def spec(self, size: int) -> dict[str, dict[str, Any]]:
        return {name: stream.spec(self._part(name, size, "batch size")) for name, stream in self.streams.items()}

    def batch(self, start: int, size: int, shard: int = 0, shards: int = 1) -> dict[str, Batch]:
        return {
            name: stream.batch(self._part(name, start, "position"), self._part(name, size, "batch size"), shard, shards)
            for name, stream in self.streams.items()
        }

    def _part(self, name: str, whole: int, what: str) -> int:
        part, rest = divmod(whole * self.shares[name], self._total)
        if rest:
            fraction = f"{whole} x {self.shares[name]} / {self._total}"
            raise DataError(f"the {what} {whole} gives '{name}' {fraction} rows, which is no whole number; shares are {self.shares}.")
        return part


def _divide(size: int, shards: int) -> int:
    if size % shards:
        raise DataError(f"a batch of {size} rows cannot be cut into {shards} equal parts.")
    return size // shards


def _epoch_seed(seed: int, epoch: int) -> int:
    """32 bits of both. grain's own seed + epoch would make epoch 1 of seed 0 the epoch 0 of seed 1."""
    return int.from_bytes(hashlib.blake2b(struct.pack("<qq", seed, epoch), digest_size=4).digest(), "little")


def _name(source: Source) -> str:
    where = getattr(source, "directory", None)
    return f"split '{source.split}' of the cache '{where}'" if where else "the source"
