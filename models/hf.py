"""Hugging Face's names beside ours: what a table of a family is, and how it is read from either side.

A family's table stands beside its model as `FAMILY` in `models/{model_type}_hf.py`; a new family adds that file and nothing else.
Nothing here touches a disk: configurations are the content of a config.json, tensors are arrays by name.
"""

import dataclasses
import functools
import importlib
import math
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

OWN = ("dtype", "scan", "remat", "position_init")  # fields of our configurations that change no value of a trained model


class Mismatch(ValueError):
    """What stands in their files is no model of this family, or our model is none of theirs."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Their tensor, our canonical name, and whether the two are each other's transpose. `{i}` stands for a layer's number."""

    theirs: str
    ours: str
    transposed: bool = False


def linear(theirs: str, ours: str) -> tuple[Tensor, Tensor]:
    """torch keeps the weight of a Linear as [out, in]; our kernels are [in, out]."""
    return Tensor(f"{theirs}.weight", f"{ours}/kernel", True), Tensor(f"{theirs}.bias", f"{ours}/bias")


def norm(theirs: str, ours: str) -> tuple[Tensor, Tensor]:
    return Tensor(f"{theirs}.weight", f"{ours}/scale"), Tensor(f"{theirs}.bias", f"{ours}/bias")


@dataclasses.dataclass(frozen=True)
class Form:
    """One of their classes: its tensors beside the encoder's, and whether the pooler must be there. `model` is our class; None where it is
    an encoder with at most one head, whose parameters the table calls `head/...`.
    """

    tensors: tuple[Tensor, ...] = ()
    model: type | None = None
    pooler: bool = False


@dataclasses.dataclass(frozen=True)
class Family:
    """Everything that is particular to a family.

    `config` and `encoder` are our classes. `fields` maps fields of their config.json to ours (those of `optional` may be left out there
    and then have our default, which is theirs), `activation` names the field of theirs that chooses from `activations` (of several names
    of one function the first is written). `fixed` holds fields that must have one value, which is also what their absence means. `forms` is
    by the name of their class; the first is the encoder alone, whose tensors lack `prefix`. `aliases` are regular expressions for other
    spellings, `tied` maps a copy to its original, `ignored` matches what is no parameter.
    """

    model_type: str
    config: type
    encoder: type
    prefix: str
    fields: Mapping[str, str]
    optional: frozenset[str]
    activation: str
    activations: Mapping[str, Callable]
    fixed: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    pooler: tuple[Tensor, ...]
    forms: Mapping[str, Form]
    aliases: tuple[tuple[str, str], ...]
    tied: Mapping[str, str]
    ignored: str

    @property
    def every_tensor(self) -> Iterator[Tensor]:
        yield from self.tensors
        yield from self.pooler
        yield from dict.fromkeys(tensor for form in self.forms.values() for tensor in form.tensors)


def families() -> dict[str, Family]:
    """Every family that has a table, by `model_type`."""
    here = Path(__file__).parent
    modules = (module.name for module in pkgutil.iter_modules([str(here)]) if module.name.endswith("_hf"))
    found = (importlib.import_module(f"rootstock.models.{name}").FAMILY for name in modules)
    return {family.model_type: family for family in found}


# Configurations


def config(family: Family, theirs: Mapping[str, Any]) -> Any:
    """Our configuration from the content of their config.json."""
    for name, value in family.fixed.items():
        if (seen := theirs.get(name, value)) != value:
            raise Mismatch(f"{name} is {seen!r}; of {family.model_type} only {value!r} is known here")
    activation = theirs.get(family.activation)
    if not isinstance(activation, str) or activation not in family.activations:
        raise Mismatch(f"{family.activation} is {activation!r}; known are {', '.join(family.activations)}")
    values = {}
    for name, ours in family.fields.items():
        if name in theirs:
            values[ours] = _number(name, theirs[name], _default(family, ours))
        elif name not in family.optional:
            raise Mismatch(f"the field {name} is missing")
    return family.config(activation=family.activations[activation], **values)


def _default(family: Family, ours: str) -> int | float:
    return next(field.default for field in dataclasses.fields(family.config) if field.name == ours)


def _number(name: str, value: Any, like: int | float) -> int | float:
    """A size is a whole number of at least 1; a rate, deviation or epsilon is in [0, 1)."""
    if isinstance(like, int) and type(value) is int and value >= 1:
        return value
    if isinstance(like, float) and type(value) in (int, float) and math.isfinite(value) and 0 <= value < 1:
        return float(value)
    wanted = "a whole number of at least 1" if isinstance(like, int) else "a number of at least 0 and below 1"
    raise Mismatch(f"{name} is {value!r}; expected {wanted}")


def config_back(family: Family, ours: Any) -> dict[str, Any]:
    """Their config.json, without `architectures`. Raises Mismatch for what they cannot express."""
    mapped = {"activation", "pooler", *family.fields.values(), *OWN}
    for field in dataclasses.fields(ours):
        value = getattr(ours, field.name)
        if field.name not in mapped and value != field.default:
            raise Mismatch(f"Config.{field.name} is {_told(value)}; transformers' {family.model_type} knows only {_told(field.default)}")
    names = [name for name, function in family.activations.items() if function is ours.activation]
    if not names:
        known = ", ".join(_told(function) for function in dict.fromkeys(family.activations.values()))
        raise Mismatch(f"Config.activation is {_told(ours.activation)}; transformers' {family.model_type} knows {known}")
    fields = {name: getattr(ours, field) for name, field in family.fields.items()}
    return {"model_type": family.model_type, **fields, family.activation: names[0], **family.fixed}


def _told(value: Any) -> str:
    return getattr(value, "__qualname__", repr(value))


# Tensors


def spelt(family: Family, names: Iterable[str]) -> dict[str, str]:
    """Names as they are spelt in a file -> as the table spells them; without what is no parameter."""
    known = [_pattern(tensor.theirs) for tensor in family.every_tensor]
    found: dict[str, str] = {}
    for name in names:
        now = name
        for pattern, replacement in family.aliases:
            now = re.sub(pattern, replacement, now)
        if re.search(family.ignored, now):
            continue
        if not any(p.fullmatch(now) for p in known) and any(p.fullmatch(family.prefix + now) for p in known):
            now = family.prefix + now
        if now in found.values():
            raise Mismatch(f"{now} stands twice in the files, once as {name}")
        found[name] = now
    return found


def choose(family: Family, declared: str | None, names: set[str], layers: int) -> tuple[str, bool]:
    """Which of their classes (`declared`, where config.json says it) holds exactly tensors of these names, and whether a pooler is there.

    Where a file has more than its declared class, as the released BERTs do, the class that all of it belongs to is taken.
    """
    held = 1 + max((int(i) for name in names for i in _layer(family, name)), default=-1)
    if held != layers:
        raise Mismatch(f"config.json speaks of {layers} layers, the tensors are of {held}")
    if declared is not None and declared not in family.forms:
        raise Mismatch(f"the architecture {declared} is not known; known are {', '.join(family.forms)}")
    fitting = [name for name in family.forms if not any(_compare(family, name, names, layers))]
    if declared in fitting:
        return declared, _has_pooler(family, names)
    larger = [name for name in fitting if declared is None or set(family.forms[name].tensors) > set(family.forms[declared].tensors)]
    if len(larger) == 1:
        return larger[0], _has_pooler(family, names)
    if larger:
        raise Mismatch(f'the tensors may be those of {", ".join(larger)}; say which with "architectures" in config.json')
    nearest = declared or min(family.forms, key=lambda name: sum(map(len, _compare(family, name, names, layers))))
    missing, unexpected = _compare(family, nearest, names, layers)
    raise Mismatch(f"the tensors are not those of {nearest}:{_listed('missing', missing)}{_listed('unexpected', unexpected)}")


def _compare(family: Family, form: str, names: set[str], layers: int) -> tuple[set[str], set[str]]:
    """What is missing and what is unexpected if these are the tensors of `form`. A pooler may always be there."""
    needed = {tensor.theirs for tensor in (*family.tensors, *family.forms[form].tensors)}
    pooler = {tensor.theirs for tensor in family.pooler}
    if family.forms[form].pooler or names & pooler:
        needed |= pooler
    whole = {name.replace("{i}", str(i)) for name in needed for i in range(layers)}
    return whole - names, names - whole


def _has_pooler(family: Family, names: set[str]) -> bool:
    return any(tensor.theirs in names for tensor in family.pooler)


def _listed(what: str, names: set[str]) -> str:
    some = sorted(names)[:8]
    return f" {what} {', '.join(some)}{f' and {len(names) - 8} more' if len(names) > 8 else ''};" if names else ""


def original(family: Family, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors without the copies of tied ones; a copy stands in for a missing original, and one that differs is refused."""
    found = dict(tensors)
    for copy, source in family.tied.items():
        if copy in found:
            value = found.pop(copy)
            if found.setdefault(source, value).shape != value.shape or not np.array_equal(found[source], value):
                raise Mismatch(f"{copy} differs from {source}; here the two are one parameter (tied), so such a model cannot be converted")
    return found


def canonical(family: Family, form: str, name: str) -> tuple[str, bool]:
    """Our name for a tensor of one of their classes (spelt as in the table), and whether to transpose it."""
    for tensor in _table(family, form):
        if found := _pattern(tensor.theirs).fullmatch(name):
            return tensor.ours.format(i=found[1] if found.groups() else ""), tensor.transposed
    raise Mismatch(f"{name} is no tensor of {form}")


def convert(family: Family, form: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of one of their classes, spelt as in the table, under our canonical names."""
    named = {canonical(family, form, name): value for name, value in tensors.items()}
    return {ours: value.T if transposed else value for (ours, transposed), value in named.items()}


def convert_back(family: Family, form: str, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our parameters, by canonical name, as the tensors of one of their classes."""
    bare = next(iter(family.forms))
    found = {}
    for name, value in params.items():
        theirs, transposed = _theirs(family, form, name)
        found[theirs.removeprefix(family.prefix) if form == bare else theirs] = value.T if transposed else value
    return found


def _theirs(family: Family, form: str, name: str) -> tuple[str, bool]:
    for tensor in _table(family, form):
        if found := _pattern(tensor.ours).fullmatch(name):
            return tensor.theirs.format(i=found[1] if found.groups() else ""), tensor.transposed
    raise Mismatch(f"{form} has no tensor for our parameter {name}")


def _table(family: Family, form: str) -> tuple[Tensor, ...]:
    return (*family.tensors, *family.pooler, *family.forms[form].tensors)


def _layer(family: Family, name: str) -> tuple[str, ...]:
    return next((found.groups() for tensor in family.tensors if (found := _pattern(tensor.theirs).fullmatch(name))), ())


@functools.cache
def _pattern(name: str) -> re.Pattern:
    return re.compile(re.escape(name).replace(r"\{i\}", r"(0|[1-9]\d*)"))
