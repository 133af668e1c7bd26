"""Files by glob, told apart by name: JSON lines, Parquet, and running text for all else."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from rootstock.data import documents, files, jsonl
from rootstock.data.errors import DataError
from rootstock.data.sources import parquet
from rootstock.data.sources.source import Source
from rootstock.data.tasks import PLACE

JSON_LINES = (".jsonl", ".json", ".ndjson")


@dataclasses.dataclass(frozen=True)
class Files(Source):
    """One glob or several, or folders, whose text, .jsonl and .parquet files are read. Text and JSON lines may be .gz, .xz or .zst.

    `key` is that of the text in a JSON line, and the name of the column in a Parquet file.
    """

    files: str | Sequence[str] = dataclasses.field(metadata=PLACE)
    key: str = "text"

    def inputs(self) -> list[Path]:
        return files.expand(self.files)

    def documents(self, characters: int) -> Iterator[str]:
        for path in self.inputs():
            kind = files.kind(path)
            if kind in JSON_LINES:
                yield from (record.optional_text(self.key) for record in jsonl.records(path))
            elif kind == parquet.SUFFIX and path.suffix != kind:
                raise DataError(f"'{path}' is a packed Parquet file, which cannot be read by row group: unpack it.")
            elif kind == parquet.SUFFIX:
                yield from parquet.texts(path, self.key)
            else:
                with files.open_text(path) as lines:
                    yield from documents.documents(lines, characters)
