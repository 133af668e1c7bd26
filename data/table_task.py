"""A user's own task: rows of jsonl or tsv files by the names of their columns.

    DIR/train.tsv, validation.tsv (or dev, val), test.tsv; or .jsonl; plain, .gz or .xz

Every such file of DIR is a split under its own name. A tsv file begins with a header, and nothing in it is quoted; a jsonl file has an
object a line. One or two columns are text; the label is a class name, or a number where no class is named. A file other than train and
validation may lack the label. `idx` is the number of the row, from 0; blank lines do not count.
"""

import dataclasses
import functools
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rootstock.data import files, framing, jsonl
from rootstock.data.errors import DataError
from rootstock.data.fields import Field, sequence_fields
from rootstock.data.jsonl import Record
from rootstock.data.tasks import PLACE, InParts, Part, Row, batched
from rootstock.data.vocabularies import Vocabulary

_PART = 4096  # examples
_ENDINGS = tuple(kind + packed for kind in (".jsonl", ".tsv") for packed in ("", ".gz", ".xz"))
_NAMES = {"dev": "validation", "val": "validation"}
_ORDER = ("train", "validation", "test")
_LABELLED = ("train", "validation")
_SHORTEST = 16  # a row shorter than this holds no pair worth the name


@dataclasses.dataclass(frozen=True)
class TableTask(InParts):
    """`texts` are one or two columns. `labels` are the class names in the order of their indices; without any the label is a number."""

    title: str
    data_dir: str = dataclasses.field(metadata=PLACE)
    vocabulary: str = dataclasses.field(metadata=PLACE)
    length: int
    texts: Sequence[str]
    label: str
    labels: Sequence[str] = ()

    def __post_init__(self):
        if len(self.texts) not in (1, 2):
            raise DataError(f"{self.title} has the text columns {list(self.texts)}; expected one or two.")
        if len(self.labels) == 1 or len(set(self.labels)) < len(self.labels):
            raise DataError(f"{self.title} has the labels {list(self.labels)}; expected two different names or more, or none for a number.")
        if self.length < _SHORTEST:
            raise DataError(f"the length of {self.title}'s rows is {self.length}; expected {_SHORTEST} or more.")

    @property
    def name(self) -> str:
        return self.title

    @property
    def splits(self) -> tuple[str, ...]:
        found = self._files()
        if not found:
            raise DataError(
                f"'{self.data_dir}' holds no file of {self.title}: expected train.tsv or train.jsonl and so on, plain, .gz or .xz."
            )
        return (*(split for split in _ORDER if split in found), *sorted(found.keys() - set(_ORDER)))

    def fields(self) -> dict[str, Field]:
        return sequence_fields(self.length) | {"label": Field((), "int32" if self.labels else "float32"), "idx": Field(())}

    def inputs(self) -> list[Path]:
        found = self._files()
        return [found[split] for split in self.splits]

    def examples(self, split: str) -> Iterator[dict[str, Any]]:
        """Texts by column, `label` (a class index, -1 without label; or a number, NaN without), `idx`."""
        number = -1
        for number, record in enumerate(self._records(split)):
            yield {name: record.text(name) for name in self.texts} | {"label": self._label(record, split), "idx": number}
        if number < 0:
            raise DataError(f"'{self._files()[split]}' holds no rows.")

    def parts(self, split: str, counts: Counter) -> Iterator[Part]:
        """Counts `documents`, and `empty_texts` among their texts; both stay."""
        return (functools.partial(_rows_of, self, examples) for examples in batched(self.examples(split), _PART))

    def _files(self) -> dict[str, Path]:
        """By split."""
        found: dict[str, Path] = {}
        if not (folder := files.resolve(self.data_dir)).is_dir():
            raise DataError(f"'{folder}' is no folder; expected one that holds {self.title}: train.tsv or train.jsonl and so on.")
        for path in sorted(folder.iterdir()):
            ending = next((ending for ending in _ENDINGS if path.name.endswith(ending)), None)
            if ending is None or not path.is_file():
                continue
            stem = path.name.removesuffix(ending)
            split = _NAMES.get(stem, stem)
            if split in found:
                raise DataError(f"'{found[split]}' and '{path}' are both the split '{split}' of {self.title}; keep one of them.")
            found[split] = path
        return found

    def _records(self, split: str) -> Iterator[Record]:
        path = self._files().get(split)
        if path is None:
            raise DataError(f"{self.title} has no split '{split}' in '{self.data_dir}'; it has {', '.join(self.splits)}.")
        return jsonl.records(path) if ".jsonl" in path.suffixes else _table(path, self.texts)

    def _label(self, record: Record, split: str) -> int | float:
        value = record.values.get(self.label)
        if value in (None, "") and split not in _LABELLED:
            return -1 if self.labels else math.nan
        if value is None:
            raise record.wrong(f"the label '{self.label}' is missing; there are {', '.join(record.values)}")
        said = value if isinstance(value, str) else json.dumps(value)
        if not self.labels:
            return _number(record, self.label, said)
        if said not in self.labels:
            raise record.wrong(f"'{self.label}' is {said!r}, expected one of {', '.join(map(repr, self.labels))}")
        return list(self.labels).index(said)


def _number(record: Record, column: str, said: str) -> float:
    try:
        value = float(said)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise record.wrong(f"'{column}' is {said!r}, expected a number, or class names in `labels`")
    return value


def _table(path: Path, needed: Sequence[str]) -> Iterator[Record]:
    """The rows of a tsv file by the names in its header."""
    names: list[str] | None = None
    with files.open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip("\n"):
                continue
            values, where = line.rstrip("\n").split("\t"), f"'{path}' line {number}"
            if names is None:
                names = values
                if len(set(filled := [name for name in names if name])) < len(filled):
                    raise DataError(f"{where} is a header that names a column twice. Seen: {', '.join(names)[:200]}")
                if missing := [name for name in needed if name not in names]:
                    raise DataError(f"{where} should be a header with {', '.join(map(repr, missing))}. Seen: {', '.join(names)[:200]}")
            elif len(values) != len(names):
                raise DataError(f"{where} has {len(values)} fields, the header has {len(names)} ({', '.join(names)}).")
            else:
                yield Record(dict(zip(names, values, strict=True)), where)


def _rows_of(task: TableTask, examples: list[dict[str, Any]], counts: Counter) -> Iterator[Row]:
    vocabulary = task.load_vocabulary()
    for example in examples:
        counts.update(documents=1, empty_texts=sum(not example[name].strip() for name in task.texts))
        yield _row(task, example, vocabulary)


def _row(task: TableTask, example: dict[str, Any], vocabulary: Vocabulary) -> Row:
    first, *second = (vocabulary.encode(example[name]) for name in task.texts)
    if second:
        row = framing.frame_longest_first(first, second[0], vocabulary, task.length)
    else:
        row = framing.frame(first[: task.length - framing.SINGLE], None, vocabulary, task.length)
    label = np.int32(example["label"]) if task.labels else np.float32(example["label"])
    return row | {"label": label, "idx": np.int32(example["idx"])}
