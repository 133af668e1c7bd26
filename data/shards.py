"""One shard of a cache: the rows of one part of a task, with what is counted over them, written so that it is whole or not there.

    SPLIT-00000.array_record   rows, each the plain bytes of its fields one after another; not written where a part has no rows
    SPLIT-00000.npz            while the cache is being built: what this file returns, and the digest of the part that it was made from

A shard that stands already and was made from the same part is not made again.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import pickle
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from rootstock.data.errors import DataError
from rootstock.data.fields import Fields, record_dtype
from rootstock.data.vocabularies import Vocabulary

Tokens = Int64[np.ndarray, "_"]

RECORDS = ".array_record"
NOTES = ".npz"

_GATHER = 4096  # rows that statistics are counted over at once
# A record by itself is what a random read touches; zstd makes token rows five times smaller.
_WRITER_OPTIONS = "group_size:1,zstd:1"
_OF_ROWS = ("slots", "filled")


@dataclasses.dataclass(frozen=True)
class Shard:
    """`entry` is what the manifest says of the file; `counts` what was counted over its rows and the documents they were made of;
    `tokens` how often each id stands in a filled slot."""

    entry: Mapping[str, Any]
    counts: Mapping[str, int]
    tokens: Tokens


def make(name: Path, part: bytes, fields: Fields, vocabulary: Vocabulary) -> Shard:
    """The shard `name` (without suffix) of a pickled part, made unless it is there."""
    digest = hashlib.blake2b(part, digest_size=16).hexdigest()
    if (found := _read(name, digest)) is not None:
        return found
    counts: Counter = Counter()
    tokens = np.zeros(vocabulary.size, np.int64)

    def records() -> Iterator[bytes]:
        nonlocal tokens
        for block in _blocks(pickle.loads(part)(counts), record_dtype(fields)):
            tokens = _count(block, counts, tokens)
            yield from map(np.void.tobytes, block)

    file = _with(name, RECORDS)
    rows = _write(file, records())
    entry = {"file": file.name, "rows": rows}
    if rows:
        entry |= {"bytes": file.stat().st_size, "sha256": sha256(file)}
    notes = json.dumps({"digest": digest, "entry": entry, "counts": counts})
    with whole(_with(name, NOTES)) as path, open(path, "wb") as file:
        np.savez(file, notes=np.array(notes), tokens=tokens)
    return Shard(entry, counts, tokens)


def _with(name: Path, ending: str) -> Path:
    """`with_suffix` would take what is behind a dot in the name of a split away."""
    return name.with_name(name.name + ending)


def _read(name: Path, digest: str) -> Shard | None:
    """A shard that is there, whole and made from the part with this digest."""
    try:
        with open(_with(name, NOTES), "rb") as file, np.load(file) as stored:
            notes, tokens = json.loads(str(stored["notes"])), stored["tokens"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # cut short by a power cut
    records = _with(name, RECORDS)
    same = notes["digest"] == digest and (not notes["entry"]["rows"] or (records.is_file() and sha256(records) == notes["entry"]["sha256"]))
    return Shard(notes["entry"], Counter(notes["counts"]), tokens) if same else None


def summary(shards: Iterable[Shard], drawn: Mapping[str, int], vocabulary: Vocabulary) -> dict[str, Any]:
    """What the manifest says of a split. `tokens` and `unigram_entropy` (nats) leave out the special pieces, framing and padding."""
    counts, entries, tokens = Counter(dict.fromkeys(_OF_ROWS, 0)), [], np.zeros(vocabulary.size, np.int64)
    for shard in shards:
        counts.update(shard.counts)
        tokens = _padded(tokens, len(shard.tokens)) + _padded(shard.tokens, len(tokens))
        entries += [shard.entry] if shard.entry["rows"] else []
    counts.update(drawn)  # which is whole only now
    tokens[list(vocabulary.special_ids)] = 0
    total = int(tokens.sum())
    shares = tokens[tokens > 0] / max(total, 1)
    return {
        "rows": sum(entry["rows"] for entry in entries),
        **{name: counts.pop(name) for name in _OF_ROWS},
        "tokens": total,
        "unigram_entropy": float(-(shares * np.log(shares)).sum()),
        **counts,
        "shards": entries,
    }


def _write(path: Path, records: Iterator[bytes]) -> int:
    """Writes the file, unless there is no record; their number."""
    from array_record.python.array_record_module import ArrayRecordWriter

    if (first := next(records, None)) is None:
        return 0
    rows = 0
    with whole(path) as unfinished:
        writer = ArrayRecordWriter(str(unfinished), _WRITER_OPTIONS)
        for record in itertools.chain([first], records):
            _told(path, writer.write, record)
            rows += 1
        _told(path, writer.close)
    return rows


def _told(path: Path, write: Callable, *record: bytes) -> None:
    """A full disk is a RuntimeError to array_record."""
    try:
        write(*record)
    except RuntimeError as error:
        raise DataError(f"'{path}' cannot be written: {str(error).splitlines()[0]}") from error


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes `path` at the end: what a killed process leaves is never taken for a whole file."""
    unfinished = path.with_suffix(f".{os.getpid()}")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        raise DataError(f"'{path}' cannot be written: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _count(rows: np.ndarray, counts: Counter, tokens: Tokens) -> Tokens:
    """Adds rows in the record layout to `counts` (slots, filled slots, of inputs and of targets); `tokens` with their ids added."""
    for ids, segments in (("input_ids", "segment_ids"), ("target_ids", "target_segment_ids")):
        if {ids, segments} <= set(rows.dtype.names):
            real = rows[segments] != 0
            counts.update(slots=real.size, filled=int(real.sum()))
            found = np.bincount(rows[ids][real])
            tokens = _padded(tokens, len(found)) + _padded(found, len(tokens))
    return tokens


def _padded(counts: Tokens, size: int) -> Tokens:
    return np.pad(counts, (0, max(size - len(counts), 0)))


def _blocks(rows: Iterable, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Rows gathered into arrays of the record layout, each field checked."""
    block = np.zeros(_GATHER, dtype)
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
        if filled == _GATHER:
            yield block
            block, filled = np.zeros(_GATHER, dtype), 0
    if filled:
        yield block[:filled]
