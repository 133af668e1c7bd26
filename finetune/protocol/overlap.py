"""What an encoder was pretrained on, and whether texts of a test are known to be among it."""

import json
import pathlib
from collections.abc import Mapping, Sequence

from rootstock.engine.errors import UserError
from rootstock.engine.model_dir import read_config
from rootstock.engine.resume import bindings

SOURCES = ("DATA_DIR", "CACHE_DIR")  # macros of a pretraining recipe


def pretraining_files(encoder: str | pathlib.Path) -> list[str]:
    """Names of the files and folders that the run in `encoder` read: its recipe's, and those in the manifest of its cache. None are known
    of a converted model.
    """
    config = pathlib.Path(encoder) / "config.gin"
    bound = bindings(config.read_text()) if config.is_file() else {}
    named = [bound[macro].strip("'\"") for macro in SOURCES if macro in bound]
    manifests = [pathlib.Path(name) / "manifest.json" for name in named]
    inputs = [entry["file"] for path in manifests if path.is_file() for entry in json.loads(path.read_text())["inputs"]]
    return sorted({*named, *inputs})


def warnings(encoder: str | pathlib.Path, tasks: Sequence[str], overlaps: Mapping[str, Sequence[str]]) -> list[str]:
    """A paragraph for each task whose texts are known to be in what the encoder was pretrained on."""
    try:
        read_config(encoder)
    except UserError:
        return []
    files = pretraining_files(encoder)
    told = []
    for task in tasks:
        seen = [file for file in files if any(part.lower() in file.lower() for part in overlaps.get(task, ()))]
        if seen:
            told.append(
                f"{task}: texts of its validation and test rows are known to be in what {encoder} was pretrained on ({', '.join(seen)}); "
                "its scores may be too good"
            )
    return told
