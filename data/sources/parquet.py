"""Parquet files, one row group after another."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from rootstock.data.sources import arrow

SUFFIX = ".parquet"

_ROWS = 1024  # decoded at once


def texts(path: Path, column: str) -> Iterator[str]:
    arrow.require(path)
    from pyarrow import parquet

    with arrow.damage(path, "is a damaged Parquet file, or none"):
        file = parquet.ParquetFile(path)
    with file:
        arrow.check_column(path, file.schema_arrow, column)
        groups = (file.iter_batches(_ROWS, row_groups=[group], columns=[column]) for group in range(file.num_row_groups))
        yield from arrow.texts(path, itertools.chain.from_iterable(groups), column)
