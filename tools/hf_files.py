"""A Hugging Face directory: config.json, safetensors in one file or several, vocabulary files. No pickle is ever opened."""

import contextlib
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from rootstock.engine.errors import UserError

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
SETTINGS = "tokenizer_config.json"
VOCABULARY = (
    "vocab.txt", "tokenizer.json", SETTINGS, "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "spiece.model", "spm.model", "sentencepiece.bpe.model",
)  # fmt: skip
FLOATS = {"F64", "F32", "F16", "BF16"}
PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


def local(name: str) -> pathlib.Path:
    """The directory `name`, or the files of the model of that name on the Hugging Face hub."""
    path = pathlib.Path(name)
    if path.is_dir():
        return path
    if path.exists() or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise UserError(
            f"--from_hf={name} is no directory; give one with {CONFIG} and {WEIGHTS}, or a model's name on the hub, as in org/model"
        )
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(
            f"--from_hf={name} is no directory here, and to fetch a model of that name the package huggingface_hub is needed: "
            "pip install --editable '.[hub]' in Rootstock's folder"
        ) from error
    try:
        return pathlib.Path(huggingface_hub.snapshot_download(name, allow_patterns=[CONFIG, "*.safetensors", INDEX, *VOCABULARY]))
    except Exception as error:  # its own errors, those of the network and of several libraries below it
        told = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"--from_hf={name} is no directory here, and it could not be fetched from the Hugging Face hub: {told[0][:300]}. Without a "
            "network, fetch the files elsewhere and give their directory"
        ) from error


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """An object from a JSON file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repetition)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds {type(found).__name__}; expected a JSON object")
    return found


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def weight_files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Every tensor's name with the file that holds it; reads no tensor."""
    if (folder / WEIGHTS).is_file():
        return dict.fromkeys(_names(folder / WEIGHTS), folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return _sharded(folder)
    if any(path for pattern in PICKLES for path in folder.glob(pattern)):
        raise UserError(
            f"{folder} holds its weights only as a pickle, which may run any code when it is opened, so it is not opened here. Make "
            "safetensors of it where you trust it, with torch and transformers: BertForMaskedLM.from_pretrained(DIR)"
            f".save_pretrained(NEW_DIR), or whatever class stands in {CONFIG}; then convert NEW_DIR"
        )
    raise UserError(f"{folder} holds no weights: expected {WEIGHTS}, or {INDEX} with its files")


def _sharded(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    index = read_json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict) or not index or not all(isinstance(file, str) for file in index.values()):
        raise UserError(f"{folder / INDEX} has no weight_map from tensors to files")
    held: dict[str, pathlib.Path] = {}
    for file in sorted(set(index.values())):
        if not re.fullmatch(r"[\w-][\w.-]*\.safetensors", file):
            raise UserError(f"{folder / INDEX} names the file {file!r}; expected *.safetensors beside it")
        names = _names(folder / file)
        if twice := sorted(held.keys() & set(names)):
            raise UserError(f"{folder / file} and {held[twice[0]].name} both hold {twice[0]}")
        held |= dict.fromkeys(names, folder / file)
    wrong = sorted(name for name in held.keys() | index.keys() if name not in held or index.get(name) != held[name].name)
    if wrong:
        raise UserError(f"{folder / INDEX} does not agree with its files about {', '.join(wrong[:4])}{' ...' if len(wrong) > 4 else ''}")
    return held


def _names(path: pathlib.Path) -> list[str]:
    with _opened(path) as file:
        return list(file.keys())


def read_tensors(files: Mapping[str, pathlib.Path]) -> dict[str, np.ndarray]:
    """The named tensors in float32. Raises UserError for what is no float, or not finite."""
    found = {}
    for path in sorted(set(files.values())):
        with _opened(path) as file:
            for name in (name for name, place in files.items() if place == path):
                if (dtype := file.get_slice(name).get_dtype()) not in FLOATS:
                    raise UserError(f"{path}: the tensor {name} is of type {dtype}; expected one of {', '.join(sorted(FLOATS))}")
                found[name] = file.get_tensor(name).astype(np.float32)
                if not np.isfinite(found[name]).all():
                    raise UserError(
                        f"{path}: the tensor {name} holds numbers that are not finite; the file is damaged, or its training was"
                    )
    return found


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is no readable safetensors file: {str(error).splitlines()[0]}") from error


def vocabulary_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """What a tokenizer is made of; empty where the directory has none. Settings alone are no vocabulary, but for ByT5's bytes."""
    found = [folder / name for name in VOCABULARY if (folder / name).is_file()]
    whole = any(path.suffix in (".txt", ".model") or path.name in ("tokenizer.json", "vocab.json") for path in found)
    return found if whole or _of_bytes(folder / SETTINGS) else []


def _of_bytes(settings: pathlib.Path) -> bool:
    return settings.is_file() and b'"ByT5Tokenizer"' in settings.read_bytes()


def write(folder: pathlib.Path, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """config.json and model.safetensors as transformers itself writes them."""
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    # save_file writes an array's memory as it lies, so a transposed view would come out wrong.
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / WEIGHTS, metadata={"format": "pt"})


@contextlib.contextmanager
def fresh_folder(flag: str, target: str) -> Iterator[pathlib.Path]:
    """A folder that becomes `target` when the block ends well, and is gone when it does not."""
    path = pathlib.Path(target).absolute()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{flag}={target} exists and is not an empty folder; name one that does not exist yet")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.mkdir()
        yield unfinished
        unfinished.rename(path)
    except OSError as error:
        raise UserError(f"{flag}={target} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
