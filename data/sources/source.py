"""What a source of documents is."""

import abc
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Source(abc.ABC):
    """Subclasses are frozen dataclasses of plain values."""

    @abc.abstractmethod
    def inputs(self) -> list[Path]:
        """The files that are read."""

    @abc.abstractmethod
    def documents(self, characters: int) -> Iterator[str]:
        """All documents in their order. A row (of JSON lines, Parquet, a data set) is a document, and an empty one where it holds no
        text; running text is cut into documents of about `characters` (`documents`)."""

    def description(self) -> dict[str, Any]:
        """What decides the documents, apart from the contents of the files."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.metadata.get("describes", True)}
        return {"class": type(self).__name__, **values}
