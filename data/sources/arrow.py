"""Texts out of Arrow's columns. pyarrow comes with the extra `corpora`."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from rootstock.data.errors import DataError


def require(path: Path) -> ModuleType:
    """The module pyarrow, or a DataError that says how to come by it."""
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(
            f"reading '{path}' needs pyarrow, which is not installed: pip install --editable '.[corpora]' in Rootstock's folder."
        ) from error
    return pyarrow


def check_column(path: Path, schema: Any, column: str) -> None:
    """Raises unless the schema has this column and it holds strings."""
    types = require(path).types
    if column not in schema.names:
        raise DataError(f"'{path}' has no column '{column}'; it has {', '.join(schema.names) or 'none'}.")
    kind = schema.field(column).type
    value = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_string(value) or types.is_large_string(value) or types.is_string_view(value)):
        raise DataError(f"the column '{column}' of '{path}' is of type {kind}, expected strings.")


def texts(path: Path, batches: Iterable[Any], column: str) -> Iterator[str]:
    """The strings of a column, "" for a null."""
    row = 0
    for batch in _undamaged(path, iter(batches)):
        for value in batch.column(batch.schema.get_field_index(column)):
            try:
                yield (value.as_py() or "").strip()
            except UnicodeDecodeError as error:
                raise DataError(f"'{path}' row {row + 1}: '{column}' is not UTF-8 text ({error.reason}).") from error
            row += 1


@contextlib.contextmanager
def damage(path: Path, what: str) -> Iterator[None]:
    """Arrow's errors as ours."""
    try:
        yield
    except (require(path).ArrowException, OSError) as error:
        raise DataError(f"'{path}' {what}: {str(error).splitlines()[0]}") from error


def _undamaged(path: Path, batches: Iterator[Any]) -> Iterator[Any]:
    rows = 0
    while True:
        with damage(path, f"is damaged after row {rows:,}"):
            batch = next(batches, None)
        if batch is None:
            return
        rows += len(batch)
        yield batch
