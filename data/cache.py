"""The cache: rows of a task as ArrayRecord shards with a manifest; random access by row, no TensorFlow.

    DIRECTORY/manifest.json              format, task description, fields, and for each split its shards, sums and statistics
    DIRECTORY/vocabulary/                the vocabulary that made the ids, for `vocabularies.load`
    DIRECTORY/SPLIT-00000.array_record   rows, each the plain bytes of its fields one after another

A cache is written beside its place and renamed when whole, so a folder with a manifest is a whole cache.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from rootstock.data.errors import DataError
from rootstock.data.fields import Field, Fields, record_dtype
from rootstock.data.vocabularies import Vocabulary

FORMAT = 1
MANIFEST = "manifest.json"
VOCABULARY = "vocabulary"
PARTIAL = ".partial"

_GATHER = 4096  # rows that statistics are counted over at once
# A record by itself is what a random read touches; zstd makes token rows five times smaller.
_WRITER_OPTIONS = "group_size:1,zstd:1"
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


class Statistics:
    """Counts over the rows of a split: slots, filled slots, and each non-special id."""

    def __init__(self, vocabulary: Vocabulary | None):
        self._special = list(vocabulary.special_ids) if vocabulary else []
        self._counts = np.zeros(vocabulary.size if vocabulary else 0, np.int64)
        self._slots = self._filled = 0

    def add(self, rows: np.ndarray) -> None:
        """Counts rows in the record layout; rows without `input_ids` and `segment_ids` have no such counts."""
        if not {"input_ids", "segment_ids"} <= set(rows.dtype.names):
            return
        real = rows["segment_ids"] != 0
        self._slots += real.size
        self._filled += int(real.sum())
        counts = np.bincount(rows["input_ids"][real], minlength=len(self._counts))
        self._counts = counts + np.pad(self._counts, (0, len(counts) - len(self._counts)))

    def summary(self) -> dict[str, Any]:
        """`tokens` and `unigram_entropy` (nats) leave out the special pieces, framing and padding."""
        counts = self._counts.copy()
        counts[self._special] = 0
        tokens = int(counts.sum())
        shares = counts[counts > 0] / max(tokens, 1)
        return {
            "slots": self._slots,
            "filled": self._filled,
            "tokens": tokens,
            "unigram_entropy": float(-(shares * np.log(shares)).sum()),
        }


def write(
    splits: Mapping[str, Iterable[Mapping[str, np.ndarray]]],
    directory: str | Path,
    fields: Fields,
    *,
    description: Mapping[str, Any],
    inputs: Sequence[Mapping[str, Any]] = (),
    vocabulary: Vocabulary | None = None,
    counts: Mapping[str, Counter] | None = None,
    rows_per_shard: int = 65536,
    progress: Callable[[str, Iterable], Iterable] = lambda split, rows: rows,
) -> None:
    """Writes every split's rows. `description` and `inputs` (file names and sizes) say what the rows are; `counts` holds, for each split,
    what the task counts while its rows are drawn (documents, dropped); `progress` may wrap the rows of a split."""
    directory = Path(directory)
    if directory.is_dir() and any(directory.iterdir()):
        raise DataError(f"'{directory}' is there already and not empty; a cache is written to a new folder. Delete it or name another.")
    partial = partial_folder(directory)
    shutil.rmtree(partial, ignore_errors=True)  # what a killed writer left
    partial.mkdir(parents=True)
    try:
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "task": dict(description),
            "inputs": list(inputs),
            "vocabulary": None,
            "fields": {name: {"shape": list(field.shape), "dtype": field.dtype} for name, field in fields.items()},
            "splits": {},
        }
        if vocabulary:
            vocabulary.save(partial / VOCABULARY)
            manifest["vocabulary"] = {"sha256": vocabulary.checksum, "size": vocabulary.size, "lowercase": vocabulary.lowercase}
        for split, rows in splits.items():
            statistics = Statistics(vocabulary)
            shards = [
                _write_shard(partial / name, records)
                for name, records in _shards(split, progress(split, rows), fields, statistics, rows_per_shard)
            ]
            manifest["splits"][split] = {
                "rows": sum(shard["rows"] for shard in shards),
                **statistics.summary(),
                **(counts or {}).get(split, {}),
                "shards": shards,
            }
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        if directory.is_dir():
            directory.rmdir()
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def partial_folder(directory: Path) -> Path:
    """Where a cache stands while it is being written."""
    return directory.with_name(directory.name + PARTIAL)


def _shards(split, rows, fields, statistics, rows_per_shard) -> Iterator[tuple[str, Iterator[bytes]]]:
    """For each shard its file name and its records, drawn from `rows` as they are asked for."""
    blocks = _blocks(rows, record_dtype(fields), min(_GATHER, rows_per_shard))
    block = next(blocks, None)
    shard = 0
    while block is not None:

        def records():
            nonlocal block
            written = 0
            while block is not None and written < rows_per_shard:
                taken, rest = np.split(block, [rows_per_shard - written])
                statistics.add(taken)
                yield from map(np.void.tobytes, taken)
                written += len(taken)
                block = rest if len(rest) else next(blocks, None)

        yield f"{split}-{shard:05d}.array_record", records()
        shard += 1


def _blocks(rows: Iterable, dtype: np.dtype, size: int) -> Iterator[np.ndarray]:
    """Rows gathered into arrays of the record layout, each field checked."""
    block = np.zeros(size, dtype)
    filled = 0
    for row in rows:
        if row.keys() != dtype.fields.keys():
            raise DataError(f"a row has the fields {', '.join(row)}; expected {', '.join(dtype.names)}.")
        for name in dtype.names:
            expected = dtype[name]
            value = np.asarray(row[name])
            if value.shape != expected.shape or value.dtype != expected.base:
                seen = f"{value.dtype}{list(value.shape)}"
                raise DataError(f"field {name} of a row is {seen}; expected {expected.base}{list(expected.shape)}.")
            block[name][filled] = value
        filled += 1
        if filled == size:
            yield block
            block, filled = np.zeros(size, dtype), 0
    if filled:
        yield block[:filled]


def _write_shard(path: Path, records: Iterator[bytes]) -> dict[str, Any]:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), _WRITER_OPTIONS)
    rows = 0
    for record in records:
        writer.write(record)
        rows += 1
    writer.close()
    return {"file": path.name, "rows": rows, "bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """What a cache says of itself."""
    path = Path(directory) / MANIFEST
    if not path.is_file():
        raise DataError(f"'{directory}' holds no cache: '{path}' is missing. Build it with `python -m rootstock.tools.cache_tasks`.")
    try:
        manifest = json.loads(path.read_text())
        found = manifest["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"'{path}' is not the manifest of a cache: {error!r}.") from error
    if found != FORMAT:
        raise DataError(f"'{path}' has cache format {found}; this version of Rootstock reads format {FORMAT}. Build the cache anew.")
    return manifest


class Source:
    """The rows of one split of a cache, by index. Opening it compares every shard's size with the manifest."""

    def __init__(self, directory: str | Path, split: str):
        self.directory = Path(directory)
        self.split = split
        self.manifest = read_manifest(directory)
        if split not in self.manifest["splits"]:
            raise DataError(f"the cache '{directory}' has no split '{split}'; it has {', '.join(self.manifest['splits'])}.")
        self.statistics: dict[str, Any] = {k: v for k, v in self.manifest["splits"][split].items() if k != "shards"}
        self.fields = {name: Field(tuple(f["shape"]), f["dtype"]) for name, f in self.manifest["fields"].items()}
        self.vocabulary = str(self.directory / VOCABULARY) if self.manifest["vocabulary"] else None
        self.vocabulary_checksum = self.manifest["vocabulary"]["sha256"] if self.manifest["vocabulary"] else None
        self._shards = self.manifest["splits"][split]["shards"]
        self._starts = np.cumsum([0] + [shard["rows"] for shard in self._shards])
        self._dtype = record_dtype(self.fields)
        self._readers: dict[int, Any] = {}
        for shard in self._shards:
            self._check_size(shard)

    def _check_size(self, shard: Mapping[str, Any]) -> None:
        path = self.directory / shard["file"]
        if not path.is_file():
            raise DataError(f"the cache '{self.directory}' is not whole: '{path}' is missing, expected {shard['bytes']:,} bytes.")
        if (size := path.stat().st_size) != shard["bytes"]:
            sizes = f"{size:,} bytes, its manifest says {shard['bytes']:,}"
            raise DataError(f"the cache '{self.directory}' is damaged: '{path}' has {sizes}. Copy or build it anew.")

    def verify(self) -> None:
        """Reads every shard and compares its SHA-256 with the manifest."""
        for shard in self._shards:
            path = self.directory / shard["file"]
            if (found := _sha256(path)) != shard["sha256"]:
                sums = f"{found}, the manifest says {shard['sha256']}"
                raise DataError(f"'{path}' is damaged: its SHA-256 is {sums}. Copy or build the cache anew.")

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of the {len(self):,} in {self.directory}/{self.split}")
        return {name: values[0] for name, values in self.read_batch([index % len(self)]).items()}

    def read_batch(self, indices: Sequence[int] | Int[np.ndarray, "B"]) -> dict[str, np.ndarray]:
        """The rows `indices`, in that order: for each field an array with a leading batch axis."""
        indices = np.asarray(indices, np.int64)
        rows = np.empty(len(indices), self._dtype)
        where = np.searchsorted(self._starts, indices, side="right") - 1
        for shard in np.unique(where):
            mine = np.flatnonzero(where == shard)
            rows[mine] = np.frombuffer(b"".join(self._read(int(shard), indices[mine] - self._starts[shard])), self._dtype)
        return {name: np.ascontiguousarray(rows[name]) for name in self.fields}

    def _read(self, shard: int, local: np.ndarray) -> list[bytes]:
        path = self.directory / self._shards[shard]["file"]
        try:
            if shard not in self._readers:
                self._readers[shard] = self._open(path, self._shards[shard]["rows"])
            return self._readers[shard].read(local.tolist())
        except (RuntimeError, ValueError, IndexError) as error:
            raise DataError(f"'{path}' is damaged: {error}. Copy or build the cache anew.") from error

    @staticmethod
    def _open(path: Path, rows: int) -> Any:
        from array_record.python.array_record_module import ArrayRecordReader

        reader = ArrayRecordReader(str(path), _READER_OPTIONS)
        if reader.num_records() != rows:
            raise ValueError(f"it holds {reader.num_records():,} rows where the manifest says {rows:,}")
        return reader

    def __reduce__(self):
        return Source, (self.directory, self.split)


def baseline(source: Source) -> dict[str, float]:
    """What a masked-LM loss on `source` is held against: the entropy of its tokens, in nats, which a model without context reaches."""
    return {"unigram_entropy": source.statistics["unigram_entropy"]}
