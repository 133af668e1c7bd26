"""What `datasets.Dataset.save_to_disk` of Hugging Face writes: streams of Arrow batches, and state.json which names them in order.

Read with pyarrow alone, so that `datasets` need not be there.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rootstock.data import files
from rootstock.data.errors import DataError
from rootstock.data.sources import arrow
from rootstock.data.sources.source import Source
from rootstock.data.tasks import PLACE

_DEFAULT = "train"
_STATE, _SPLITS = "state.json", "dataset_dict.json"
_END = b"\xff\xff\xff\xff\0\0\0\0"  # without it a stream that is cut short between two batches looks whole


@dataclasses.dataclass(frozen=True)
class SavedDataset(Source):
    """A saved Dataset, or one `split` of a saved DatasetDict."""

    folder: str = dataclasses.field(metadata=PLACE)
    split: str = _DEFAULT
    column: str = "text"

    def inputs(self) -> list[Path]:
        folder = self._split_folder(files.resolve(self.folder))
        note = folder / _STATE
        if not note.is_file():
            raise DataError(f"'{folder}' is not what `datasets` saves to disk: it has no {_STATE}.")
        try:
            found = [folder / entry["filename"] for entry in _json(note)["_data_files"]]
        except (KeyError, TypeError) as error:
            raise DataError(f"'{note}' is not what `datasets` saves to disk: {error!r}.") from error
        if missing := [path.name for path in found if not path.is_file()]:
            raise DataError(f"'{note}' names {', '.join(missing)}, not to be found beside it.")
        return found

    def documents(self, characters: int) -> Iterator[str]:
        for path in self.inputs():
            yield from _texts(path, self.column)

    def _split_folder(self, folder: Path) -> Path:
        if not (folder / _SPLITS).is_file():
            self._check_alone(folder)
            return folder
        splits = _json(folder / _SPLITS).get("splits") or []
        if self.split not in splits:
            raise DataError(f"'{folder}' has no split '{self.split}'; it has {', '.join(map(str, splits)) or 'none'}.")
        return folder / self.split

    def _check_alone(self, folder: Path) -> None:
        """A data set saved by itself knows at most the name of its split."""
        known = _json(folder / _STATE).get("_split") if (folder / _STATE).is_file() else None
        if self.split not in (known, _DEFAULT):
            raise DataError(f"'{folder}' is one data set and has no split '{self.split}'; it {f'is {known}' if known else 'names none'}.")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"'{path}' is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"'{path}' holds no JSON object.")
    return found


def _texts(path: Path, column: str) -> Iterator[str]:
    pyarrow = arrow.require(path)
    with pyarrow.memory_map(str(path)) as mapped:
        if mapped.size() < len(_END) or mapped.read_at(len(_END), mapped.size() - len(_END)) != _END:
            raise DataError(f"'{path}' is cut short: the end of the stream is missing.")
        with arrow.damage(path, "is a damaged Arrow file, or none"):
            stream = pyarrow.ipc.open_stream(mapped)
        arrow.check_column(path, stream.schema, column)
        yield from arrow.texts(path, stream, column)
