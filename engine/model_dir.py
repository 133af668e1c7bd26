"""MODEL_DIR: what a run leaves behind besides checkpoints and metrics, and the lock that keeps a second run out."""

import contextlib
import fcntl
import json
import math
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from ml_collections import FrozenConfigDict

from rootstock.engine.describe import describe
from rootstock.engine.errors import UserError
from rootstock.engine.state import Blueprint
from rootstock.models.layers import stack

FORMAT = 1


@contextlib.contextmanager
def claimed(model_dir: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Makes the folder and holds its lock. The lock goes with the process, however it ends; a folder made for nothing goes too."""
    path = pathlib.Path(model_dir).absolute()
    made = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / ".lock").open("a+")
    except OSError as error:
        raise UserError(f"MODEL_DIR {path} cannot be written: {error.strerror}") from error
    with lock:
        if jax.process_index() == 0:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                raise UserError(
                    f"MODEL_DIR {path} is in use by process {lock.read().strip() or 'unknown'}; wait for it or choose another MODEL_DIR"
                ) from error
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        try:
            yield path
        finally:
            if made and jax.process_index() == 0 and _nothing_in(path):
                shutil.rmtree(path)


def _nothing_in(path: pathlib.Path) -> bool:
    return all(entry.is_dir() or entry.name == ".lock" for entry in path.rglob("*"))


def write_atomically(path: pathlib.Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_config(model_dir: pathlib.Path, model: Any, vocabulary: Mapping[str, str] | None) -> None:
    """config.json: enough to rebuild the model without gin."""
    config = {"format": FORMAT, "family": describe(type(model)), "model": describe(model.config), "vocabulary": dict(vocabulary or {})}
    write_atomically(model_dir / "config.json", json.dumps(config, indent=2) + "\n")


def read_config(model_dir: str | pathlib.Path) -> FrozenConfigDict:
    """config.json of a run or of a converted checkpoint."""
    path = pathlib.Path(model_dir) / "config.json"
    if not path.is_file():
        raise UserError(f"{model_dir} is not a MODEL_DIR: it holds no config.json")
    try:
        config = json.loads(path.read_text())
        if config["format"] != FORMAT:
            raise UserError(f"{path} has format {config['format']}, this version of rootstock reads {FORMAT}")
        return FrozenConfigDict({key: config[key] for key in ("format", "family", "model", "vocabulary")})
    except (ValueError, KeyError, TypeError) as error:
        hint = "; a Hugging Face model is converted by rootstock.tools.convert_hf" if b'"model_type"' in path.read_bytes() else ""
        raise UserError(f"{path} is not a config.json of rootstock: {type(error).__name__} {error}{hint}") from error


def parameter_table(blueprint: Blueprint) -> str:
    """model-info.txt: every parameter by canonical name."""
    rows = [("name", "shape", "dtype", "axes", "partition", "bytes/device", "")]
    total = here = 0
    for name, spec in sorted(blueprint.specs.items()):
        sharding = blueprint.shardings[name]
        local = math.prod(sharding.shard_shape(spec.shape)) * jax.numpy.dtype(spec.dtype).itemsize
        total, here = total + math.prod(spec.shape), here + local
        names = stack.address(name)
        for canonical, index in names:
            cut = 0 if index is None else 1
            rows.append(
                (
                    canonical,
                    str(spec.shape[cut:]),
                    spec.dtype,
                    str(spec.axes[cut:]),
                    str(tuple(sharding.spec)[cut:]),
                    f"{local // len(names):,}",
                    "" if name in blueprint.trainable else "frozen",
                )
            )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + f"\n\n{total:,} parameters, {here:,} bytes on each device\n"


def adopt_vocabulary(model_dir: pathlib.Path, folder: str | None, checksum: str | None) -> dict[str, str] | None:
    """Copies the vocabulary folder that the data came with into MODEL_DIR/vocabulary; what config.json says of it."""
    if folder is None:
        return None
    target = model_dir / "vocabulary"
    if not target.exists():
        unfinished = model_dir / "vocabulary.tmp"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(folder, unfinished)
        unfinished.rename(target)
    return {"checksum": checksum, "folder": target.name}
