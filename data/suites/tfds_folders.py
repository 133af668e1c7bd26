"""Examples out of a TFDS data_dir, downloaded by TFDS or written by `rootstock.tools.import_dataset`: DIR/super_glue/boolq/1.0.2/...

Finding a set and its splits needs no TensorFlow; reading does, whether the shards are tfrecord or array_record.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from rootstock.data.errors import DataError
from rootstock.data.jsonl import Record
from rootstock.data.suites.examples import index_of

_INFO = "dataset_info.json"


def find(data_dir: Path, name: str) -> Path | None:
    """The newest version of a set in a data_dir, if it has any."""
    versions = [path for path in (data_dir / name).glob("*.*.*") if (path / _INFO).is_file() and re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    return max(versions, key=lambda path: tuple(map(int, path.name.split("."))), default=None)


def splits(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(split["name"] for split in json.loads((folder / _INFO).read_text())["splits"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"'{folder / _INFO}' is not what TFDS writes: {error!r}.") from error


def shards(folder: Path, split: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if re.search(rf"-{split}\.\w+-\d+-of-\d+$", path.name))


def require(what: str) -> ModuleType:
    """The module tensorflow_datasets, or a DataError that says how to come by it."""
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise DataError(
            f"{what} needs tensorflow_datasets and TensorFlow, which are not installed ({error}). Install the extra `data` "
            "(`pip install --editable '.[data]'` in Rootstock's folder), or read the official files."
        ) from error
    return tensorflow_datasets


def examples(folder: Path, split: str) -> Iterator[Record]:
    """All examples of a split in the order of `idx`: TFDS writes them shuffled."""
    tfds = require(f"reading '{folder}'")
    if split not in splits(folder):
        raise DataError(f"'{folder}' has no split '{split}'; it has {', '.join(splits(folder))}.")
    with readable(folder, split):
        found = [_plain(example) for example in _read(tfds.builder_from_directory(folder), split, tfds)]
    records = [Record(example, f"'{folder}' split {split} idx {example['idx']}") for example in found]
    yield from sorted(records, key=index_of)


@contextlib.contextmanager
def readable(folder: Path, split: str) -> Iterator[None]:
    """A shard that is missing, cut short or damaged is told in a DataError, whichever library meets it."""
    import tensorflow as tf

    try:
        yield
    except (tf.errors.OpError, OSError, ValueError, RuntimeError, IndexError) as error:
        said = re.sub(r"\{\{.*?\}\} ?| \[Op:.*", "", str(error)) or repr(error)  # TensorFlow says by what operation it came
        raise DataError(f"'{folder}' split {split} cannot be read: {said.splitlines()[0]}") from error


def _read(builder: Any, split: str, tfds: ModuleType) -> Iterator[dict[str, Any]]:
    if builder.info.file_format.value == "array_record":
        yield from builder.as_data_source(split)
    else:
        yield from tfds.as_numpy(builder.as_dataset(split, shuffle_files=False))


def _plain(value: Any) -> Any:
    """Arrays and bytes as Python's own numbers, strings and lists."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value.decode() if isinstance(value, bytes) else value
