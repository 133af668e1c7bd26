"""What a recipe binds, held to the annotations of what it is bound to: a text where a number belongs is told before anything is built."""

import ast
import collections.abc
import inspect
import types
import typing
from collections.abc import Iterator
from typing import Any

from rootstock.engine.errors import UserError

_KINDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", types.NoneType: "None"}
_ACCEPTED = {int: (int,), float: (int, float), bool: (bool,), str: (str,), types.NoneType: (types.NoneType,)}
_LITERALS = (str, int, float, list, tuple, dict, types.NoneType)


def check() -> None:
    """Raises UserError for the first bound value that its annotation rules out."""
    for name, value, hint in _bound():
        if not fits(value, hint):
            raise UserError(f"{name} is {value!r}; it must be {told(hint)}{_without_quotes(name, value, hint)}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value of a recipe can be what an annotation says. What cannot be told, fits."""
    if not isinstance(value, _LITERALS):
        return True  # a reference: what it gives is not known yet
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if hint in _KINDS:
        return isinstance(value, _ACCEPTED[hint]) and (hint is bool or not isinstance(value, bool))
    if origin in (collections.abc.Sequence, list):
        return isinstance(value, list | tuple) and all(fits(item, parts[0]) for item in value)
    if origin in (collections.abc.Mapping, dict):
        return isinstance(value, dict) and all(fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items())
    return not (origin is collections.abc.Callable or (inspect.isclass(hint) and hint.__module__.startswith("rootstock.")))


def told(hint: Any) -> str:
    """An annotation in words."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(told(part) for part in parts))
    if origin in (collections.abc.Sequence, list):
        return "a list in brackets"
    if origin in (collections.abc.Mapping, dict):
        return "a dictionary in braces"
    if origin is collections.abc.Callable:
        return "a function, as in @module.name"
    return _KINDS.get(hint, "an object, as in @module.Name()")


def _bound() -> Iterator[tuple[str, Any, Any]]:
    """Name, value and annotation of every bound parameter; a macro stands for its value and gives its name."""
    import gin

    for (_, selector), parameters in gin.config._CONFIG.items():
        hints = {} if selector == "gin.macro" else _hints(gin.config._REGISTRY[selector].wrapped)
        for parameter, value in parameters.items():
            if parameter in hints:
                name, value = _behind_macros(f"{'.'.join(selector.split('.')[-2:])}.{parameter}", value)
                yield name, value, hints[parameter]


def _hints(configurable: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(configurable.__init__ if inspect.isclass(configurable) else configurable)
    except (AttributeError, NameError, TypeError):  # annotations that stand only for a type checker
        return {}


def _behind_macros(name: str, value: Any) -> tuple[str, Any]:
    import gin

    while isinstance(value, gin.config.ConfigurableReference) and value.selector == "gin.macro":
        name = value.scoped_selector.rpartition("/")[0]
        value = gin.config._CONFIG[name, "gin.macro"]["value"]
    return name, value


def _without_quotes(name: str, value: Any, hint: Any) -> str:
    try:
        meant = ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError):
        return ""
    return f". Without the inner quotes: --gin.{name}={value}" if fits(meant, hint) else ""
