"""What an encoder was pretrained on, and whether texts of a test are known to be among it."""

import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

from rootstock.engine.errors import UserError
from rootstock.engine.model_dir import read_config
from rootstock.engine.resume import bindings

# Of a pretraining recipe: what names its texts, and the runs that it began with.
SOURCES = re.compile(r"DATA_DIR|CACHE_DIR|sources\.\w+\.(files|folder|name|data_dir)")
BEFORE = re.compile(r"ENCODER|PRETRAINED|INIT_FROM|train\.Run\.(init_from|continue_from)")


def pretraining_files(encoder: str | pathlib.Path) -> list[str]:
    """Names of the files and folders that the run in `encoder`, and those before it, read: their recipes', and those in the manifests of
    their caches. None are known of a converted model.
    """
    found: set[str] = set()
    waiting, seen = [pathlib.Path(encoder)], set()
    while waiting:
        if (folder := waiting.pop()) in seen or not (config := folder / "config.gin").is_file():
            continue
        seen.add(folder)
        bound = bindings(config.read_text())
        named = _texts(bound, SOURCES)
        found |= {*named, *(file for name in named for file in _cached(pathlib.Path(name)))}
        waiting += map(pathlib.Path, _texts(bound, BEFORE))
    return sorted(found)


def _texts(bound: Mapping[str, str], names: re.Pattern) -> list[str]:
    """The texts, alone or in lists, that such parameters are bound to."""
    return [text for name, value in bound.items() if names.fullmatch(name) for text in re.findall(r"'([^']+)'", value)]


def _cached(folder: pathlib.Path) -> Iterator[str]:
    """The input files of a cache, or of a folder of caches."""
    for path in (folder / "manifest.json", *folder.glob("*/manifest.json")):
        try:
            yield from [entry["file"] for entry in json.loads(path.read_text())["inputs"]]
        except (OSError, ValueError, KeyError, TypeError):  # none, or not one of ours
            continue


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
