"""Official files as true TFDS directories, which `tfds.load` reads like downloaded ones: TFDS's names, versions, features and order.

TFDS's own builder of the suite writes, with its downloads replaced by our examples; no Beam, no network. metadata.json says what was
imported and whether it is the whole official set.
"""

import contextlib
import dataclasses
import functools
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from rootstock.data.errors import DataError
from rootstock.data.jsonl import Record
from rootstock.data.suites import official, tfds_folders
from rootstock.data.suites.examples import Skipped, key_of
from rootstock.data.suites.official import Comparison
from rootstock.data.suites.sets import Set
from rootstock.data.suites.task import empty_texts, told


@dataclasses.dataclass(frozen=True)
class Source:
    """The examples of one set, read and compared with the official ones."""

    set: Set
    examples: dict[str, list[Record]]
    skipped: dict[str, list[Skipped]]
    comparisons: list[Comparison]

    @property
    def whole(self) -> bool:
        return all(comparison.verdict == official.WHOLE for comparison in self.comparisons)

    def report(self) -> list[str]:
        """Lines for people: every split, what was skipped, and what the set is as a whole."""
        lines = list(map(str, self.comparisons))
        lines += [told(self.set.tfds, split, rows) for split, rows in self.skipped.items() if rows]
        for split, rows in self.examples.items():
            if empty := sum(empty_texts(self.set, row) for row in rows):
                lines.append(f"{split}: {empty} empty text{'s' * (empty > 1)}, kept")
        found = {comparison.verdict for comparison in self.comparisons}
        what = "not the official set" if official.OTHER in found else "a subset of the official set"
        return [*lines, f"{self.set.tfds} is {'whole' if self.whole else what}"]

    def metadata(self) -> dict[str, Any]:
        return {
            "imported_by": "rootstock.tools.import_dataset",
            "whole": self.whole,
            "splits": [dataclasses.asdict(comparison) for comparison in self.comparisons],
            "skipped": {split: len(rows) for split, rows in self.skipped.items()},
        }


def read(of: Set, data_dir: str | Path) -> Source:
    """Reads all official files of a set; a mistake in any shows before anything is written."""
    examples: dict[str, list[Record]] = {}
    skipped: dict[str, list[Skipped]] = {}
    for split in of.files:
        if of.official(data_dir, split):
            found = list(of.official_examples(data_dir, split))
            examples[split] = [example for example in found if isinstance(example, Record)]
            skipped[split] = [example for example in found if isinstance(example, Skipped)]
    if not examples:
        raise of.missing(data_dir)
    comparisons = [official.compare(of.tfds, split, examples.get(split, ()), of.labels) for split in of.files]
    return Source(of, examples, skipped, comparisons)


def target(of: Set, to: str | Path) -> Path:
    """Where the set will lie. It must not be there yet."""
    folder = Path(_builder(of, to).data_dir)
    if folder.exists():
        raise DataError(f"'{folder}' is there already; an import never overwrites. Delete it or give another --to.")
    return folder


def write(source: Source, to: str | Path, file_format: str = "tfrecord") -> Path:
    """Writes a set below the TFDS data_dir `to`; the folder of this version."""
    folder = target(source.set, to)
    # TFDS says "Downloading" and makes a folder for it, although there is nothing to download.
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as downloads:
        _builder(source.set, to, source, file_format).download_and_prepare(download_dir=downloads)
    return folder


def _builder(of: Set, to: str | Path, source: Source | None = None, file_format: str = "tfrecord") -> Any:
    suite, config = of.tfds.split("/")
    return _builder_class(suite)(source, data_dir=str(to), config=config, file_format=file_format)


@functools.cache
def _builder_class(suite: str) -> Any:
    """TFDS's builder of a suite with our examples."""
    tfds = tfds_folders.require("writing TFDS directories")
    theirs = tfds.builder_cls(suite)

    class Imported(theirs, skip_registration=True):
        name = suite
        pkg_dir_path = theirs._get_pkg_dir_path()  # else TFDS looks for the suite's texts beside this file
        url_infos: ClassVar[dict] = {}  # nothing is downloaded

        def __init__(self, source: Source | None, **where: Any):
            self._source = source
            super().__init__(**where)

        def _info(self):
            info = super()._info()
            metadata = tfds.core.MetadataDict(self._source.metadata() if self._source else {})
            return tfds.core.DatasetInfo(
                builder=self,
                description=info.description,
                features=info.features,
                homepage=self.builder_config.url,
                citation=info.citation,
                metadata=metadata,
            )

        def _split_generators(self, downloads):
            return {split: _keyed(examples) for split, examples in self._source.examples.items()}

    return Imported


def _keyed(examples: list[Record]) -> Iterator[tuple[int | str, dict[str, Any]]]:
    for example in examples:
        yield key_of(example), dict(example.values)
