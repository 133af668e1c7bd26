"""Data sets in a TFDS data_dir. Needs the extra `data`; nothing is downloaded."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rootstock.data import files
from rootstock.data.errors import DataError
from rootstock.data.sources.source import Source
from rootstock.data.suites import tfds_folders
from rootstock.data.tasks import PLACE

_INFO = "dataset_info.json"


@dataclasses.dataclass(frozen=True)
class Tfds(Source):
    """`name` as TFDS writes it: "c4", "c4/en", "wikipedia/20230601.en:1.0.0". Left out, the configuration is the only one there is, and
    the version the newest. `split` may be a slice, as "train[:10%]".
    """

    name: str
    data_dir: str = dataclasses.field(metadata=PLACE)
    split: str = "train"
    feature: str = "text"

    def inputs(self) -> list[Path]:
        folder = self._folder()
        split = re.split(r"\W", self.split, maxsplit=1)[0]
        if split not in tfds_folders.splits(folder):
            raise DataError(f"'{folder}' has no split '{self.split}'; it has {', '.join(tfds_folders.splits(folder))}.")
        return tfds_folders.shards(folder, split)

    def documents(self, characters: int) -> Iterator[str]:
        self.inputs()
        for number, example in enumerate(self._examples()):
            where = f"'{self._folder()}' split {self.split} example {number + 1}"
            if self.feature not in example:
                raise DataError(f"{where} has no feature '{self.feature}'; it has {', '.join(example)}.")
            yield _text(example[self.feature], f"{where}, '{self.feature}'")

    def _examples(self) -> Iterator[dict[str, Any]]:
        from rootstock.data import seqio_bridge

        folder = self._folder()
        seqio = seqio_bridge.require_seqio(f"reading '{folder}'")
        source = seqio.TfdsDataSource(tfds_data_dir=str(folder), splits={"documents": self.split}, read_only=True)
        builder = source.tfds_dataset.builder
        with tfds_folders.readable(folder, self.split):
            if builder.info.file_format.value == "array_record":  # which TFDS does not give as a tf.data.Dataset
                yield from builder.as_data_source(self.split)
            else:
                yield from source.get_dataset("documents", shuffle=False).as_numpy_iterator()

    def _folder(self) -> Path:
        data_dir = files.resolve(self.data_dir)
        name, _, version = self.name.partition(":")
        if version:
            folder = data_dir / name / version
            found = folder if (folder / _INFO).is_file() else None
        else:
            found = tfds_folders.find(data_dir, name) or self._only_configuration(data_dir)
        if found is None:
            there = sorted(str(path.parent.relative_to(data_dir)) for path in data_dir.glob(f"**/{_INFO}"))
            raise DataError(f"the TFDS data_dir '{data_dir}' holds no '{self.name}'; it holds {', '.join(there[:20]) or 'no data set'}.")
        return found

    def _only_configuration(self, data_dir: Path) -> Path | None:
        folders = sorted(path for path in (data_dir / self.name).glob("*") if tfds_folders.find(path.parent, path.name))
        if len(folders) > 1:
            names = ", ".join(f"{self.name}/{path.name}" for path in folders)
            raise DataError(f"'{data_dir}' holds several configurations of '{self.name}'; name one of {names}.")
        return tfds_folders.find(data_dir, f"{self.name}/{folders[0].name}") if folders else None


def _text(value: Any, where: str) -> str:
    if not isinstance(value, bytes | str):
        raise DataError(f"{where} is {value!r:.60}, expected a text.")
    try:
        return (value.decode() if isinstance(value, bytes) else value).strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text ({error.reason}).") from error
