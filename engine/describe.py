"""Objects as JSON and back: dataclasses by their fields, functions and classes as dotted paths.

config.json is written with it, so that a checkpoint can be opened without gin and without the recipe that made it.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from rootstock.engine.errors import UserError


def describe(value: Any) -> Any:
    """JSON for `value`. Raises TypeError for what cannot be named (a lambda, an instance of an unknown class)."""
    if isinstance(value, str) and value.startswith("@"):
        raise TypeError(f"{value!r} cannot be written to config.json, where what begins with @ is a path: give it another name")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping) and "class" in value:
        raise TypeError("a key 'class' cannot be written to config.json, where it names a type: give it another name")
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"class": describe(type(value)), **fields}
    if callable(value) and "<" not in getattr(value, "__qualname__", "<"):
        return f"@{value.__module__}.{value.__qualname__}"
    raise TypeError(f"{value!r} cannot be written to config.json: name a function or class of a module, or use a dataclass")


def rebuild(description: Any) -> Any:
    """The inverse of `describe` (lists come back as tuples)."""
    if isinstance(description, ConfigDict):
        description = description.to_dict()
    if isinstance(description, str) and description.startswith("@"):
        return resolve(description[1:])
    if isinstance(description, list | tuple):
        return tuple(rebuild(item) for item in description)
    if isinstance(description, Mapping):
        fields = {key: rebuild(item) for key, item in description.items() if key != "class"}
        return rebuild(description["class"])(**fields) if "class" in description else fields
    return description


def resolve(path: str) -> Any:
    """The function or class at a dotted path."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"there is no {path!r} in this installation: {error}") from error
