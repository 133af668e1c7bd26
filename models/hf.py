"""Hugging Face's names beside ours: what a table of a family is, and how it is read from either side.

A family's table is a `Family` in a file `models/*_hf.py` beside its model; a new family adds that and nothing else.
Nothing here touches a disk: configurations are the content of a config.json, tensors are arrays by name.
"""

import dataclasses
import functools
import importlib
import pkgutil
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rootstock.models.hf_rows import Row, Shape, Tensor

OWN = ("dtype", "scan", "remat", "position_init")  # fields of our configurations that change no value of a trained model


class Mismatch(ValueError):
    """What stands in their files is no model of this family, or our model is none of theirs."""


@dataclasses.dataclass(frozen=True)
class Form:
    """One of their classes: its tensors beside the family's, and those of the pooler where it must be there. `model` is our class; None
    where it is an encoder with at most one head, whose parameters the table calls `head/...`. `unused` matches what files of this class
    hold too and nothing here reads. `dropout`: see `Family`; of this class, where it is another.
    """

    tensors: tuple[Row, ...] = ()
    model: type | None = None
    pooler: tuple[Row, ...] = ()
    unused: str = r"(?!)"
    dropout: tuple[str, ...] | None = None


def _one_stack(config: Any) -> int:
    return config.layers


def _as_it_stands(fields: dict[str, Any]) -> dict[str, Any]:
    return fields


@dataclasses.dataclass(frozen=True)
class Family:
    """Everything that is particular to a family.

    Configurations: `config` is our class. `fields` maps fields of their config.json to ours; `choices` maps the values that a field of
    theirs may have to values of ours (of several with one meaning the first is written). `defaults` holds what their fields have when they
    are left out, `fixed` fields that must have one value, which is also what their absence means; `ours` what our configurations of this
    family have and config.json does not say; `zeros` fields of ours that may be 0 though it is not their default. `ids` are the special
    pieces that config.json repeats: our name, and the id in a model without a vocabulary. What no table can say is done by `read`, before
    all else, on the fields of config.json, and undone by `write`. `pieces` is the name of a SentencePiece file. `dropout` names the fields
    that hold the dropout before a head's last projection; the first that is not null counts, and the first is written.

    Tensors: `forms` is by the name of their class. The first is the encoder alone where the family has an `encoder`; its tensors lack
    `prefix`. `pooler` may be there beside any class that has none of its own. `layers` gives the number of layers (groups of them, if
    `counted` says so) under each prefix of our names. `aliases` are regular expressions for other spellings, `tied` maps a copy to its
    original, `ignored` matches what is no parameter.
    """

    model_type: str
    config: type
    fields: Mapping[str, str]
    choices: Mapping[str, Mapping[Any, Mapping[str, Any]]]
    defaults: Mapping[str, Any]
    fixed: Mapping[str, Any]
    tensors: tuple[Row, ...]
    forms: Mapping[str, Form]
    ours: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    zeros: tuple[str, ...] = ()
    pieces: str = "spiece.model"
    ids: Mapping[str, tuple[str, int]] = dataclasses.field(default_factory=lambda: {"pad_token_id": ("pad", 0)})
    read: Callable[[dict[str, Any]], dict[str, Any]] = _as_it_stands
    write: Callable[[dict[str, Any]], dict[str, Any]] = _as_it_stands
    dropout: tuple[str, ...] = ("classifier_dropout", "hidden_dropout_prob")
    encoder: type | None = None
    prefix: str = ""
    pooler: tuple[Row, ...] = ()
    layers: Mapping[str, Callable[[Any], int]] = dataclasses.field(default_factory=lambda: {"encoder/": _one_stack})
    counted: str = "layers"
    aliases: tuple[tuple[str, str], ...] = ()
    tied: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ignored: str = r"(?!)"

    @property
    def every_tensor(self) -> Iterator[Row]:
        yield from self.tensors
        yield from self.pooler
        yield from dict.fromkeys(tensor for form in self.forms.values() for tensor in (*form.pooler, *form.tensors))

    @property
    def pools(self) -> bool:
        """Whether its models may have a pooler."""
        return any(field.name == "pooler" for field in dataclasses.fields(self.config))

    def pooler_of(self, form: str) -> tuple[Row, ...]:
        """What may hold the pooler in files of this class."""
        return self.forms[form].pooler or self.pooler


def families() -> dict[str, Family]:
    """Every family that has a table, by `model_type`."""
    here = Path(__file__).parent
    names = (module.name for module in pkgutil.iter_modules([str(here)]) if module.name.endswith("_hf"))
    modules = [importlib.import_module(f"rootstock.models.{name}") for name in names]
    return {found.model_type: found for module in modules for found in vars(module).values() if isinstance(found, Family)}


def family_of(config: Any) -> Family:
    """The family of one of our configurations; of several that have its class, the first that can express it."""
    known = families()
    found = [family for family in known.values() if family.config is type(config)]
    if not found:
        raise Mismatch(f"{type(config).__module__} has no table of Hugging Face's names; {', '.join(known)} have one")
    return next((family for family in found if _speaks(family, config)), found[0])


def _speaks(family: Family, config: Any) -> bool:
    try:
        config_back(family, config)
    except Mismatch:
        return False
    return True


# Configurations


def config(family: Family, theirs: Mapping[str, Any]) -> Any:
    """Our configuration from the content of their config.json."""
    for name, value in family.fixed.items():
        if (seen := theirs.get(name, value)) != value:
            raise Mismatch(f"{name} is {seen!r}; of {family.model_type} only {value!r} is known here")
    theirs, values = family.read({**family.defaults, **theirs}), dict(family.ours)
    for name, known in family.choices.items():
        chosen = theirs.get(name)
        if not isinstance(chosen, str | bool | None) or chosen not in known:
            raise Mismatch(f"{name} is {chosen!r}; known are {', '.join(map(str, known))}")
        values |= known[chosen]
    for name, ours in family.fields.items():
        if name not in theirs:
            raise Mismatch(f"the field {name} is missing")
        field = next(field for field in dataclasses.fields(family.config) if field.name == ours)
        like = 0 if ours in family.zeros else field.default
        values[ours] = None if theirs[name] is None and _optional(field) else _number(name, theirs[name], like)
    return family.config(**values)


def _optional(field: dataclasses.Field) -> bool:
    return type(None) in typing.get_args(field.type)


def _number(name: str, value: Any, like: int | float | None) -> int | float:
    """A size is a whole number of at least 1, an id may be 0; a rate, deviation or epsilon is in [0, 1), a factor any number from 0."""
    if isinstance(like, float):
        if type(value) in (int, float) and 0 <= value <= sys.float_info.max and (value < 1 or like >= 1):
            return float(value)
        raise Mismatch(f"{name} is {value!r}; expected a number of at least 0{'' if like >= 1 else ' and below 1'}")
    least = 1 if like is None else min(like, 1)
    if type(value) is int and value >= least:
        return value
    raise Mismatch(f"{name} is {value!r}; expected a whole number of at least {least}")


def config_back(family: Family, ours: Any) -> dict[str, Any]:
    """Their config.json, without `architectures`. Raises Mismatch for what they cannot express."""
    chosen = {field for known in family.choices.values() for values in known.values() for field in values}
    mapped = {"pooler", *chosen, *family.fields.values(), *OWN}
    for field in dataclasses.fields(ours):
        value, known = getattr(ours, field.name), family.ours.get(field.name, field.default)
        if field.name not in mapped and value != known:
            raise Mismatch(f"Config.{field.name} is {_told(value)}; transformers' {family.model_type} knows only {_told(known)}")
    fields = {name: getattr(ours, field) for name, field in family.fields.items()}
    choices = {name: _chosen(family, known, ours) for name, known in family.choices.items()}
    return {"model_type": family.model_type, **family.write({**fields, **choices, **family.fixed})}


def _chosen(family: Family, known: Mapping[Any, Mapping[str, Any]], ours: Any) -> Any:
    """The first value of theirs that means what stands in our configuration."""
    for name, values in known.items():
        if all(getattr(ours, field) == value for field, value in values.items()):
            return name
    fields = next(iter(known.values())).keys()
    seen = " and ".join(f"Config.{field} is {_told(getattr(ours, field))}" for field in fields)
    possible = dict.fromkeys(" with ".join(_told(value) for value in values.values()) for values in known.values())
    raise Mismatch(f"{seen}; transformers' {family.model_type} knows {', '.join(possible)}")


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


def choose(family: Family, declared: str | None, names: set[str], config: Any) -> tuple[str, bool]:
    """Which of their classes (`declared`, where config.json says it) holds exactly tensors of these names, and whether a pooler is there.

    Where a file has more than its declared class, as the released BERTs do, the class that all of it belongs to is taken. `names` may
    hold what files of a class hold unused.
    """
    for prefix, count in family.layers.items():
        _check_layers(family, prefix, count(config), names)
    if declared is not None and declared not in family.forms:
        raise Mismatch(f"the architecture {declared} is not known; known are {', '.join(family.forms)}")
    compare = functools.partial(_compare, family, names, config)
    fitting = [name for name in family.forms if not any(compare(name))]
    if declared in fitting:
        return declared, _has_pooler(family, names, declared)
    larger = [name for name in fitting if declared is None or set(family.forms[name].tensors) > set(family.forms[declared].tensors)]
    if len(larger) == 1:
        return larger[0], _has_pooler(family, names, larger[0])
    if larger:
        raise Mismatch(f'the tensors may be those of {", ".join(larger)}; say which with "architectures" in config.json')
    nearest = declared or min(family.forms, key=lambda name: sum(map(len, compare(name))))
    missing, unexpected = compare(nearest)
    raise Mismatch(f"the tensors are not those of {nearest}:{_listed('missing', missing)}{_listed('unexpected', unexpected)}")


def _check_layers(family: Family, prefix: str, wanted: int, names: set[str]) -> None:
    rows = [_pattern(tensor.theirs) for tensor in family.tensors if tensor.ours.startswith(prefix) and "{i}" in tensor.ours]
    held = 1 + max((int(found[1]) for name in names for row in rows if (found := row.fullmatch(name))), default=-1)
    if held != wanted:
        kind = prefix.replace("/", " ") if len(family.layers) > 1 else ""
        raise Mismatch(f"config.json speaks of {wanted} {kind}{family.counted}, the tensors are of {held}")


def _compare(family: Family, names: set[str], config: Any, form: str) -> tuple[set[str], set[str]]:
    """What is missing and what is unexpected if these are the tensors of `form`. A pooler may always be there."""
    rows = [*family.tensors, *family.forms[form].tensors]
    if family.forms[form].pooler or _has_pooler(family, names, form):
        rows += family.pooler_of(form)
    whole = {name for tensor in rows if tensor.where(config) for name in _numbered(family, tensor, config)}
    return whole - names, {name for name in names - whole if not re.search(family.forms[form].unused, name)}


def _numbered(family: Family, tensor: Row, config: Any) -> Iterator[str]:
    """The names of theirs that a row stands for."""
    if "{i}" not in tensor.theirs:
        return iter((tensor.theirs,))
    layers = next(count(config) for prefix, count in family.layers.items() if tensor.ours.startswith(prefix))
    return (tensor.theirs.replace("{i}", str(i)) for i in range(tensor.first, layers))


def _has_pooler(family: Family, names: set[str], form: str) -> bool:
    return any(tensor.theirs in names for tensor in family.pooler_of(form))


def _listed(what: str, names: set[str]) -> str:
    some = sorted(names)[:8]
    return f" {what} {', '.join(some)}{f' and {len(names) - 8} more' if len(names) > 8 else ''};" if names else ""


def original(family: Family, config: Any, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors without the copies of tied ones; a copy stands in for a missing original, and one that differs is refused.

    Where our model has a parameter of its own for a copy that the file lacks, the original stands in: transformers 5 ties whatever
    it finds only once.
    """
    found = dict(tensors)
    untied = {tensor.theirs for tensor in family.every_tensor if tensor.where(config)}
    for copy, source in family.tied.items():
        if copy in untied and source in found:
            found.setdefault(copy, found[source])
        elif copy in found:
            value = found.pop(copy)
            if found.setdefault(source, value).shape != value.shape or not np.array_equal(found[source], value):
                raise Mismatch(f"{copy} differs from {source}; here the two are one parameter (tied), so such a model cannot be converted")
    return found


class Table:
    """The rows for one of their classes at one of our configurations."""

    def __init__(self, family: Family, form: str, config: Any):
        self.form, self.config = form, config
        self.rows = [row for row in (*family.tensors, *family.pooler_of(form), *family.forms[form].tensors) if row.where(config)]
        self.unused = family.forms[form].unused
        self.prefix = family.prefix if form == next(iter(family.forms)) else ""  # which their encoder alone does not write

    def canonical(self, name: str) -> tuple[str, bool]:
        """Our name for one of their tensors (spelt as in the table), and whether to transpose it; of a packed one the first name."""
        row, ours = self._ours(name)
        return ours[0], isinstance(row, Tensor) and row.transposed

    def shape(self, name: str, ours: Callable[[str], Shape]) -> Shape:
        """Which shape their tensor must have, given the shapes of ours by name."""
        row, parts = self._ours(name)
        return row.shape([ours(part) for part in parts], self.config)

    def reads(self, name: str) -> bool:
        """Whether anything here reads this tensor of theirs."""
        return not re.search(self.unused, name) or any(_pattern(row.theirs).fullmatch(name) for row in self.rows)

    def convert(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Their tensors, spelt as in the table, under our canonical names."""
        found: dict[str, np.ndarray] = {}
        for name, value in tensors.items():
            row, parts = self._ours(name)
            found |= dict(zip(parts, row.split(value, self.config), strict=True))
        return found

    def convert_back(self, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Our parameters, by canonical name, as their tensors."""
        rows = dict(self._theirs(name) for name in params)
        found = {}
        for theirs, (row, parts) in rows.items():
            if missing := [part for part in parts if part not in params]:
                raise Mismatch(f"{theirs} of {self.form} holds {', '.join(missing)}, which our model does not have")
            found[theirs.removeprefix(self.prefix)] = row.join([params[part] for part in parts], self.config)
        return found

    def _ours(self, name: str) -> tuple[Row, tuple[str, ...]]:
        for row in self.rows:
            if found := _pattern(row.theirs).fullmatch(name):
                return row, tuple(part.format(i=_layer(found)) for part in row.parts)
        raise Mismatch(f"{name} is no tensor of {self.form}")

    def _theirs(self, name: str) -> tuple[str, tuple[Row, tuple[str, ...]]]:
        for row in self.rows:
            for part in row.parts:
                if found := _pattern(part).fullmatch(name):
                    return row.theirs.format(i=_layer(found)), (row, tuple(other.format(i=_layer(found)) for other in row.parts))
        raise Mismatch(f"{self.form} has no tensor for our parameter {name}")


def _layer(found: re.Match) -> str:
    return found[1] if found.re.groups else ""


@functools.cache
def _pattern(name: str) -> re.Pattern:
    return re.compile(re.escape(name).replace(r"\{i\}", r"(0|[1-9]\d*)"))
