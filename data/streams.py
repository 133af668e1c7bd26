"""What the engine reads: batches by the global index of their first example.

A stream has no state. Row i of `Shuffled` lies in epoch i // n, at place i % n of that epoch's own permutation, which grain's
`index_shuffle` computes for one index at a time; so any batch of any epoch is found at once, and a run that stops
at example i goes on at example i on any number of processes. `Interleaved` and `Mixed` are several such streams at once.
"""

import abc
import hashlib
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from rootstock.data import cache, mixtures
from rootstock.data.errors import DataError
from rootstock.data.fields import Fields, sequence_fields

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


class Stream(abc.ABC):
    """Rows of one source, by their place in the stream."""

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
        return self.rows(np.arange(start + shard * part, start + (shard + 1) * part))

    @abc.abstractmethod
    def rows(self, places: Int64[np.ndarray, "B"]) -> Batch:
        """The rows at these places of the stream."""


class Shuffled(Stream):
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

    def rows(self, places: Int64[np.ndarray, "B"]) -> Batch:
        return self.source.read_batch(self.order(places)) | {WEIGHT: np.ones(len(places), np.float32)}


class Ordered(Stream):
    """The source once, in order; beyond its end rows are zero and have weight 0."""

    def __len__(self) -> int:
        return len(self.source)

    def rows(self, places: Int64[np.ndarray, "B"]) -> Batch:
        real = places < len(self.source)
        read = self.source.read_batch(places[real])
        padded = {name: np.zeros((len(places), *field.shape), field.dtype) for name, field in self.source.fields.items()}
        for name, values in read.items():
            padded[name][real] = values
        return padded | {WEIGHT: real.astype(np.float32)}


class Bucketed(Ordered):
    """As `Ordered`, with every batch cut to the shortest of `lengths` that holds its longest row, so padding is not computed.

    A batch has one of `len(lengths)` shapes, and what reads it is compiled as often: for evaluation and prediction, where rows that follow
    one another are about as long (sorted input). A training step is compiled for one shape.
    """

    def __init__(self, source: Source, lengths: Sequence[int]):
        super().__init__(source)
        longest = source.fields["segment_ids"].shape[-1]
        if sorted(set(lengths)) != list(lengths) or not lengths or lengths[0] < 1 or lengths[-1] != longest:
            raise DataError(f"the lengths of buckets are {list(lengths)}; expected them to rise to {longest}, the length of a row.")
        self.lengths = tuple(lengths)
        segments = source.read_batch(np.arange(len(source)))["segment_ids"].reshape(len(source), -1, longest)
        self._longest = ((segments != 0).any(1) * np.arange(1, longest + 1)).max(1)

    def batch(self, start: int, size: int, shard: int = 0, shards: int = 1) -> Batch:
        longest = max(self._longest[start : start + size], default=1)  # of the whole batch: every process cuts alike
        length = next(length for length in self.lengths if length >= longest)
        rows = super().batch(start, size, shard, shards)
        return {name: np.ascontiguousarray(values[..., :length]) if name in sequence_fields(0) else values for name, values in rows.items()}


class Interleaved:
    """Several sources as one stream: example i is from the source that `mixtures.order` says. All have the same fields and vocabulary.

    After any number of examples each source has given its part of them to less than one; `shares` says what the parts are.
    """

    def __init__(self, streams: Mapping[str, Stream], rates: Mapping[str, float]):
        _check_same_names(streams, rates)
        _check_vocabularies(streams)
        fields = {name: dict(stream.source.fields) for name, stream in streams.items()}
        first, *others = fields
        if different := next((name for name in others if fields[name] != fields[first]), None):
            raise DataError(
                f"the sources of a mixture have one set of fields; '{first}': {fields[first]}; '{different}': {fields[different]}."
            )
        self.streams = dict(streams)
        self.shares = mixtures.cycle_shares({name: rates[name] for name in streams})

    @classmethod
    def cached(cls, directory: str | Path, split: str, seed: int) -> "Interleaved":
        """The mixture that `cache_tasks --mixture` made of a seqio Mixture: a cache for each task, and their rates."""
        rates = cache.read_rates(directory)
        return cls({name: Shuffled(cache.Source(Path(directory) / name, split), seed) for name in rates}, rates)

    @property
    def vocabulary(self) -> str | None:
        """The same for every stream."""
        return next(iter(self.streams.values())).vocabulary

    @property
    def vocabulary_checksum(self) -> str | None:
        return next(iter(self.streams.values())).vocabulary_checksum

    def spec(self, size: int) -> dict[str, Any]:
        return next(iter(self.streams.values())).spec(size)

    def where(self, places: Int64[np.ndarray, "B"]) -> tuple[Int64[np.ndarray, "B"], Int64[np.ndarray, "B"]]:
        """For each place of the stream the number of its source, and the place in that source's own stream."""
        shares = tuple(self.shares.values())
        sources, before = mixtures.order(shares)
        cycles, rest = np.divmod(places, len(sources))
        return sources[rest], cycles * np.array(shares)[sources[rest]] + before[rest]

    def batch(self, start: int, size: int, shard: int = 0, shards: int = 1) -> Batch:
        part = _divide(size, shards)
        sources, places = self.where(np.arange(start + shard * part, start + (shard + 1) * part))
        batch = {name: np.empty((part, *leaf.shape[1:]), leaf.dtype) for name, leaf in self.spec(part).items()}
        for number, stream in enumerate(self.streams.values()):
            mine = np.flatnonzero(sources == number)
            if len(mine):
                for name, values in stream.rows(places[mine]).items():
                    batch[name][mine] = values
        return batch


class Mixed:
    """Several streams at once, each with a fixed share of every batch. A batch is a dict of batches by task."""

    def __init__(self, streams: Mapping[str, Shuffled], shares: Mapping[str, int]):
        _check_same_names(streams, shares)
        bad = {name: share for name, share in shares.items() if share < 1}
        if bad:
            raise DataError(f"the shares of a mixture are whole numbers from 1; seen {bad}.")
        _check_vocabularies(streams)
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


def _check_same_names(streams: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    if streams.keys() != parts.keys() or not streams:
        raise DataError(
            f"a mixture needs a share for each of its streams, which are {', '.join(streams)}; shares are for {', '.join(parts)}."
        )


def _check_vocabularies(streams: Mapping[str, Stream]) -> None:
    checksums = {name: stream.source.vocabulary_checksum for name, stream in streams.items()}
    if len(set(checksums.values())) > 1:
        raise DataError(f"the streams of a mixture were made with different vocabularies; their SHA-256: {checksums}.")


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
