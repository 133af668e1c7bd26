"""Rows of JSON-lines files that remember where they stand, so that every mistake in them is named by file and line."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rootstock.data import files
from rootstock.data.errors import DataError

_MISSING = object()
_KINDS = {str: "a string", int: "a whole number", list: "a list", dict: "an object"}


@dataclasses.dataclass(frozen=True)
class Record:
    """One JSON object and where it was read."""

    values: Mapping[str, Any]
    where: str

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def get(self, key: str, kind: type) -> Any:
        """The value of a key that must be there and be of this kind."""
        value = self.values.get(key, _MISSING)
        if value is _MISSING:
            raise self.wrong(f"the key '{key}' is missing; there are {', '.join(self.values) or 'none'}")
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.wrong(f"'{key}' is {value!r}, expected {_KINDS[kind]}")
        return value

    def text(self, key: str) -> str:
        """Half of a surrogate pair, which JSON can spell, is no text."""
        text = self.get(key, str)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise self.wrong(
                f"'{key}' holds {text[error.start]!r} at character {error.start:,}, which is no character of Unicode"
            ) from error
        return text

    def optional_text(self, key: str) -> str:
        """A text without the blanks at its ends, "" for null."""
        return "" if self.values.get(key, _MISSING) is None else self.text(key).strip()

    def integer(self, key: str) -> int:
        return self.get(key, int)

    def inside(self, key: str) -> "Record":
        """The object under a key."""
        return Record(self.get(key, dict), f"{self.where}, '{key}'")

    def each(self, key: str) -> list["Record"]:
        """The objects of the list under a key."""
        items = self.get(key, list)
        for item in items:
            if not isinstance(item, dict):
                raise self.wrong(f"'{key}' holds {item!r}, expected objects")
        return [Record(item, f"{self.where}, '{key}' {index}") for index, item in enumerate(items)]

    def wrong(self, what: str) -> DataError:
        return DataError(f"{self.where}: {what}.")


def records(path: str | Path) -> Iterator[Record]:
    """The objects of a JSON-lines file, plain or compressed; blank lines are skipped."""
    with files.open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"'{path}' line {number}"
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where} is not JSON: {error}. Seen: {_short(line)}") from error
            if not isinstance(values, dict):
                raise DataError(f"{where} is not a JSON object. Seen: {_short(line)}")
            yield Record(values, where)


def _short(line: str) -> str:
    return repr(line.strip()[:60])
