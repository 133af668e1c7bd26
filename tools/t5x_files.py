"""The arrays of a T5X checkpoint by their paths (`target/encoder/layers_0/attention/query/kernel`); read with tensorstore, local or gs://.

Two layouts. The legacy one: a msgpack file `checkpoint` holds the tree, whose large leaves are specifications of zarr arrays beside it and
whose small ones are values. Orbax's: zarr arrays named by their paths with dots, in an OCDBT store or one folder each, in the folder
itself (where `checkpoint` says PLACEHOLDER for them) or in `state/`.
"""

import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import tensorstore as ts
from flax import serialization, traverse_util

from rootstock.engine.errors import UserError

VERSIONS = (2, 3)  # of the legacy layout
TREE, STEP = "checkpoint", re.compile(r"checkpoint_(\d+)")
_METADATA = {".zarray": "zarr", "zarr.json": "zarr3"}


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array in a store, not read yet. `shape` is what the tree says of it, where it says something."""

    store: ts.KvStore
    path: str
    driver: str
    shape: tuple[int, ...] | None = None


Leaf = np.ndarray | Stored


def find(source: str, step: int | None) -> tuple[str, dict[str, Leaf]]:
    """The checkpoint's folder, and its leaves by path. `source` is that folder, or the one that holds checkpoints (`step`: the newest)."""
    folder = _checkpoint(source, step)
    try:
        return folder, _leaves(folder)
    except (ValueError, OSError) as error:  # of tensorstore: the network, permissions
        raise UserError(f"{folder} cannot be read: {str(error).splitlines()[0][:300]}") from error


def _leaves(folder: str) -> dict[str, Leaf]:
    here = _opened(folder)
    tree = _tree(here, folder)
    if tree is not None and "version" in tree:
        return _legacy(here, folder, tree)
    found = _orbax(here, tree or {})
    if not found:
        below = _opened(f"{folder.rstrip('/')}/state")
        found = _orbax(below, _tree(below, folder) or {})
    if not found:
        raise UserError(f"{folder} is no checkpoint of T5X: it holds neither the file {TREE} nor arrays that Orbax wrote")
    return found


def _checkpoint(source: str, step: int | None) -> str:
    if step is not None:
        return f"{source.rstrip('/')}/checkpoint_{step}"
    if source.startswith("gs://"):
        return source
    if not (path := pathlib.Path(source)).is_dir():
        raise UserError(f"--from={source} is no directory")
    steps = [int(named[1]) for entry in path.iterdir() if entry.is_dir() and (named := STEP.fullmatch(entry.name))]
    return str(path / f"checkpoint_{max(steps)}") if steps else source


def _opened(folder: str) -> ts.KvStore:
    if bucket := re.fullmatch(r"gs://([^/]+)/?(.*)", folder):
        spec = {"driver": "gcs", "bucket": bucket[1], "path": f"{bucket[2].rstrip('/')}/"}
    else:
        spec = {"driver": "file", "path": f"{pathlib.Path(folder).absolute()}/"}
    return ts.KvStore.open(spec).result()


def _tree(store: ts.KvStore, folder: str) -> dict[str, Any] | None:
    """The content of the file `checkpoint`, None where there is none."""
    try:
        found = store.read(TREE).result()
        if found.state != "value":
            return None
        tree = serialization.msgpack_restore(found.value)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{folder}/{TREE} cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{folder}/{TREE} holds {type(tree).__name__}; expected the tree of a T5X checkpoint")
    return tree


def _legacy(store: ts.KvStore, folder: str, tree: Mapping[str, Any]) -> dict[str, Leaf]:
    if tree["version"] not in VERSIONS:
        raise UserError(f"{folder} has version {tree['version']} of T5X's checkpoints; known here are {' and '.join(map(str, VERSIONS))}")
    if not isinstance(tree.get("optimizer"), dict):
        raise UserError(f"{folder}/{TREE} holds no 'optimizer', under which T5X keeps parameters and optimizer state")
    flat = traverse_util.flatten_dict(tree["optimizer"], is_leaf=lambda _, value: _is_specification(value))
    return {"/".join(path): _leaf(store, folder, "/".join(path), value) for path, value in flat.items() if value is not None}


def _is_specification(value: Any) -> bool:
    return isinstance(value, dict) and {"driver", "kvstore", "metadata"} <= value.keys()


def _leaf(store: ts.KvStore, folder: str, name: str, value: Any) -> Leaf:
    if not _is_specification(value):
        return np.asarray(value)
    try:
        # Before version 0.1.14 of tensorstore the path stood outside `kvstore`. Where the array was written to does not matter: it is here.
        path = value["kvstore"]["path"] if "path" in value["kvstore"] else value["path"]
        shape = tuple(int(size) for size in value["metadata"]["shape"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}/{TREE} tells of {name} not where it is or which shape it has") from error
    if not isinstance(path, str) or path.startswith("/") or ".." in path.split("/") or value["driver"] not in _METADATA.values():
        raise UserError(f"{folder}/{TREE} says that {name} is {value['driver']!r} at {path!r}; expected a zarr array beside it")
    return Stored(store, f"{path.rstrip('/')}/", value["driver"], shape)


def _orbax(store: ts.KvStore, tree: Mapping[str, Any]) -> dict[str, Leaf]:
    """Arrays by the names of their folders, and values that stand in the tree itself."""
    flat = traverse_util.flatten_dict(tree)
    found: dict[str, Leaf] = {"/".join(path): np.asarray(v) for path, v in flat.items() if isinstance(v, np.ndarray | np.generic | int)}
    if store.read("manifest.ocdbt").result().state == "value":
        store = ts.KvStore.open({"driver": "ocdbt", "base": store.spec().to_json()}).result()
    for key in sorted(key.decode() for key in store.list().result()):
        path, _, last = key.rpartition("/")
        if last in _METADATA and "/" not in path:
            found[path.replace(".", "/")] = Stored(store, f"{path}/", _METADATA[last])
    below = next((root for root in ("optimizer/", "_optimizer/") if any(name.startswith(root) for name in found)), "")
    return {name.removeprefix(below): leaf for name, leaf in found.items() if name.startswith(below)}


def read(leaves: Mapping[str, Leaf], folder: str) -> dict[str, np.ndarray]:
    """Values in float32 (whole numbers as they are). Raises UserError for what is missing, damaged, not finite or of another shape."""
    opening = {name: _open(leaf) for name, leaf in leaves.items() if isinstance(leaf, Stored)}
    found = {}
    for name, leaf in leaves.items():
        try:
            value = leaf if isinstance(leaf, np.ndarray) else _value(leaf, opening[name].result())
        except (ValueError, OSError) as error:
            told = "is missing" if "NOT_FOUND" in str(error) else f"cannot be read: {str(error).splitlines()[0][:300]}"
            raise UserError(f"{folder}: the array {name} {told}") from error
        if value.dtype == np.uint16:
            raise UserError(f"{folder}: the array {name} holds bfloat16 as uint16, as T5X wrote before June 2021, which is not read here")
        if value.dtype == ml_dtypes.bfloat16 or value.dtype.kind == "f":
            value = value.astype(np.float32)
            if not np.isfinite(value).all():
                raise UserError(f"{folder}: the array {name} holds numbers that are not finite; it is damaged, or its training was")
        found[name] = value
    return found


def _open(leaf: Stored) -> ts.Future:
    return ts.open({"driver": leaf.driver, "kvstore": leaf.store.spec().to_json() | {"path": leaf.store.path + leaf.path}}, open=True)


def _value(leaf: Stored, array: ts.TensorStore) -> np.ndarray:
    if leaf.shape not in (None, array.shape):
        raise ValueError(f"its shape is {list(array.shape)}, and the tree says {list(leaf.shape)}")
    missing = next(_missing(leaf), None)
    if missing is not None:  # tensorstore would give zeros for it
        raise ValueError(f"its part {missing} is missing")
    return np.asarray(array.read().result())


def _missing(leaf: Stored) -> Iterator[str]:
    """The chunks of a zarr array that are not stored."""
    if leaf.driver != "zarr":
        return
    metadata = json.loads(leaf.store.read(f"{leaf.path}.zarray").result().value)
    grid = [math.ceil(size / chunk) for size, chunk in zip(metadata["shape"], metadata["chunks"], strict=True)]
    here = ts.KvStore.KeyRange(leaf.path, f"{leaf.path[:-1]}0")  # "0" follows "/"
    stored = {key.decode().removeprefix(leaf.path) for key in leaf.store.list(here).result()}
    for index in np.ndindex(*grid):
        key = metadata.get("dimension_separator", ".").join(map(str, index)) or "0"
        if key not in stored:
            yield key
