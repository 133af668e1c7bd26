"""The cache: rows of a task as ArrayRecord shards with a manifest; random access by row, no TensorFlow.

    DIRECTORY/manifest.json              format, task description, fields, and for each split its shards, sums and statistics
    DIRECTORY/vocabulary/                the vocabulary that made the ids, for `vocabularies.load`
    DIRECTORY/SPLIT-00000.array_record   rows, each the plain bytes of its fields one after another

A cache is written (`build`) beside its place and renamed when whole, so a folder with a manifest is a whole cache.
"""

import json
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from rootstock.data import mixtures
from rootstock.data.errors import DataError
from rootstock.data.fields import Field, record_dtype
from rootstock.data.shards import sha256
from rootstock.data.vocabularies import Vocabulary

FORMAT = 1
MANIFEST = "manifest.json"
VOCABULARY = "vocabulary"
PARTIAL = ".partial"
RATES = "mixture.json"

_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


def partial_folder(directory: Path) -> Path:
    """Where a cache stands while it is being written."""
    return directory.with_name(directory.name + PARTIAL)


def finish(partial: Path, directory: Path, manifest: Mapping[str, Any], vocabulary: Vocabulary) -> None:
    """Makes the folder of a cache out of the one in which its shards were written; `manifest` is completed by what is known here."""
    vocabulary.save(partial / VOCABULARY)
    known = {"sha256": vocabulary.checksum, "size": vocabulary.size, "lowercase": vocabulary.lowercase}
    (partial / MANIFEST).write_text(json.dumps({"format": FORMAT, **manifest, "vocabulary": known}, indent=1) + "\n")
    if directory.is_dir():
        directory.rmdir()
    partial.rename(directory)
    kept = {shard["file"] for split in manifest["splits"].values() for shard in split["shards"]} | {MANIFEST, VOCABULARY}
    for path in directory.iterdir():  # notes, and what killed workers left
        if path.name not in kept:
            path.unlink()


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
    if missing := {"splits", "fields", "vocabulary", "task", "inputs"} - manifest.keys():
        raise DataError(f"'{path}' is not the manifest of a cache: it lacks {', '.join(sorted(missing))}.")
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
        self.vocabulary = str(self.directory / VOCABULARY)
        self.vocabulary_checksum = self.manifest["vocabulary"]["sha256"]
        self._shards = self.manifest["splits"][split]["shards"]
        self._starts = np.cumsum([0] + [shard["rows"] for shard in self._shards])
        self._dtype = record_dtype(self.fields)
        self._readers: dict[int, Any] = {}
        for shard in self._shards:
            self._check_size(shard)
        _allow_open_files(len(self._shards))

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
            if (found := sha256(path)) != shard["sha256"]:
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


def _allow_open_files(more: int) -> None:
    """A shard stays open once it has been read from, and many systems allow 1,024 files unless asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        wanted = soft + more
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def write_rates(directory: Path, rates: Mapping[str, float]) -> None:
    """Says of a folder of caches how they are mixed."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / RATES).write_text(json.dumps({"rates": dict(rates)}, indent=1) + "\n")


def read_rates(directory: str | Path) -> dict[str, float]:
    path = Path(directory) / RATES
    try:
        return mixtures.normalised(json.loads(path.read_text())["rates"])
    except FileNotFoundError as error:
        raise DataError(f"'{directory}' holds no mixture of caches: '{path}' is missing. `cache_tasks --mixture` writes it.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"'{path}' does not give the rates of a mixture: {error!r}") from error


def baseline(source: Source) -> dict[str, float]:
    """What a masked-LM loss on `source` is held against: the entropy of its tokens, in nats, which a model without context reaches."""
    return {"unigram_entropy": source.statistics["unigram_entropy"]}
