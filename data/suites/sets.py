"""What one set of a suite is, and its examples from wherever they lie."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rootstock.data import files
from rootstock.data.errors import DataError
from rootstock.data.jsonl import Record
from rootstock.data.suites import tfds_folders
from rootstock.data.suites.examples import Examples

COMPRESSED = ("", ".gz", ".xz")


@dataclasses.dataclass(frozen=True)
class Set:
    """One data set of a suite."""

    name: str  # ours; no two sets of any suite share it
    tfds: str  # TFDS's name and configuration
    folder: str  # of the official files
    # For every split the files it is read from, in order of preference: each entry names files that are needed together.
    files: Mapping[str, Sequence[tuple[str, ...]]]
    labels: tuple[str, ...]  # TFDS's class names in the order of their indices; none where the label is a number
    texts: tuple[str, ...]  # the features that are text
    read: Callable[["Set", str, list[Path]], Examples]  # of itself, a split and its files
    rows: Any  # what `read` knows of the rows

    def splits(self, data_dir: str | Path) -> tuple[str, ...]:
        """The splits that `data_dir` holds, in TFDS's order."""
        if folder := tfds_folders.find(files.resolve(data_dir), self.tfds):
            return tuple(split for split in self.files if split in tfds_folders.splits(folder))
        return tuple(split for split in self.files if self.official(data_dir, split))

    def inputs(self, data_dir: str | Path, split: str) -> list[Path]:
        """The files of a split."""
        if folder := tfds_folders.find(files.resolve(data_dir), self.tfds):
            return tfds_folders.shards(folder, split)
        return self.official(data_dir, split)

    def official(self, data_dir: str | Path, split: str) -> list[Path]:
        """The official files of a split, none if there are none."""
        folder = files.resolve(data_dir) / self.folder
        for names in self.files.get(split, ()):
            found = [path for name in names for path in _first(folder, name)]
            if len(found) == len(names):
                return found
        return []

    def examples(self, data_dir: str | Path, split: str) -> Examples:
        """The examples of a split: in the order of the official file, of a TFDS directory (which is shuffled) in the order of `idx`."""
        if folder := tfds_folders.find(files.resolve(data_dir), self.tfds):
            return tfds_folders.examples(folder, split)
        return self.official_examples(data_dir, split)

    def official_examples(self, data_dir: str | Path, split: str) -> Examples:
        """The examples of the official files."""
        paths = self.official(data_dir, split)
        if not paths:
            raise self.missing(data_dir, split)
        return _not_empty(self.read(self, split, paths), paths)

    def missing(self, data_dir: str | Path, split: str | None = None) -> DataError:
        """What to raise where a split, or the whole set, is not there."""
        names = ", ".join(" with ".join(together) for split in self.files for together in self.files[split])
        found = self.splits(data_dir)
        if split is None or not found:
            return DataError(
                f"'{data_dir}' holds nothing of {self.name}: neither a TFDS directory '{self.tfds}' nor in '{self.folder}' "
                f"any of {names}, plain, .gz or .xz."
            )
        return DataError(f"{self.name} has no split '{split}' in '{data_dir}'; it has {', '.join(found)}.")


def _first(folder: Path, name: str) -> list[Path]:
    return [path for suffix in COMPRESSED if (path := folder / (name + suffix)).is_file()][:1]


def _not_empty(examples: Examples, paths: list[Path]) -> Examples:
    kept, last = 0, None
    for example in examples:
        kept += isinstance(example, Record)
        last = example
        yield example
    if not kept:
        why = f"; all are skipped, the last one as {last.why}" if last else ""
        raise DataError(f"'{paths[0]}' holds no rows{why}.")
