"""What each array of an upcycled (or averaged) checkpoint is made of, and its making, a slice at a time.

The unit is a parameter of one layer, and of one expert where it has experts; a moment of the optimizer goes the way of its parameter.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import optax

from rootstock.engine.errors import UserError
from rootstock.engine.state import Blueprint, TrainState
from rootstock.methods import upcycling
from rootstock.models.layers import stack
from rootstock.models.layers.moe.mixture import Mixture
from rootstock.tools.lazy_arrays import Saved, Writing, blocks, path_name


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a canonical parameter lies in a checkpoint: an item, the name of an array, and the layer's number in it, if it has layers."""

    item: str
    name: str
    row: int | None

    def read(self, saved: Saved, index: tuple = ()) -> np.ndarray:
        return saved.read(self.item, self.name, index if self.row is None else (self.row, *index))

    def shape(self, saved: Saved) -> tuple[int, ...]:
        return tuple(saved.array(self.item, self.name).shape)[0 if self.row is None else 1 :]


def places(item: str, names: Mapping[str, str]) -> dict[str, Place]:
    """Of all canonical parameters, from the storage name behind each array's name."""
    return {
        canonical: Place(item, array, row if stack.stacked(stored) else None)
        for array, stored in names.items()
        for canonical, row in stack.address(stored)
    }


class Maker:
    """Writes arrays; `mixture` is the sparse side's, `reverse` averages."""

    def __init__(self, saved: Saved, writing: Writing, mixture: Mixture, surgery: upcycling.Surgery, reverse: bool):
        self.saved, self.writing, self.mixture, self.surgery, self.reverse = saved, writing, mixture, surgery, reverse

    def array(
        self, item: str, name: str, stored: str, like: jax.ShapeDtypeStruct, sources: Mapping[str, Place], axes: tuple, values: bool
    ) -> None:
        """One array, all its layers and experts. `axes` are those of the parameter `stored`; `values`: it is that parameter, not a moment
        of it. What has no source stays zero.
        """
        layers = stack.stacked(stored)
        leading = layers + stack.expert(stored)
        array = self.writing.create(item, name, like.shape, like.dtype, leading)
        inner = axes[leading:]
        for canonical, row in stack.address(stored):
            at = (row,) if layers else ()
            shape, made = like.shape[len(at) :], False
            for index, value in self._slices(canonical, shape, sources, inner, values):
                self.writing.write(array, (*at, *index), value)
                made = True
            for index in () if made else blocks(shape, 4, single=stack.expert(stored)):
                self.writing.write(array, (*at, *index), np.zeros([part.stop - part.start for part in index] + list(shape[1:]), like.dtype))

    def _slices(self, name, shape, sources, axes, values) -> Iterator[tuple[tuple, np.ndarray]]:
        of = upcycling.origin(name)
        if of.kind == "router" and values:
            yield (), np.asarray(upcycling.router(of.layer, shape, self.mixture, self.surgery))
        elif of.kind == "experts":
            yield from self._experts(of, shape, sources, axes, values)
        elif self.reverse and (parts := self._experts_of(name, sources)):
            yield from self._averaged(parts, shape, axes)
        elif of.dense in sources:
            source = sources[of.dense]
            if source.shape(self.saved) == shape:
                for index in blocks(shape, 4):
                    yield index, source.read(self.saved, index)
            elif values:
                there = source.shape(self.saved)
                raise UserError(f"{name} is to have shape {shape}, and the checkpoint's {of.dense} has {there}")

    def _experts(self, of, shape, sources, axes, values) -> Iterator[tuple[tuple, np.ndarray]]:
        if of.dense not in sources:
            return
        source = sources[of.dense]
        whole = values or (self.mixture.granularity == 1 and source.shape(self.saved) == shape[1:])
        if not whole:
            return  # a moment that shards cannot share, or one that is factored in another way
        dense = source.read(self.saved)
        for number in range(shape[0]):
            made = upcycling.expert(of, number, dense, axes, self.mixture, self.surgery) if values else dense
            yield (number,), np.asarray(made)

    def _experts_of(self, name: str, sources: Mapping[str, Place]) -> Place | None:
        """The experts' parameter that the MLP's `name` is the average of."""
        layer, _, part = name.rpartition("/mlp/")
        return sources.get(f"{layer}/mlp/experts/{part}")

    def _averaged(self, source: Place, shape, axes) -> Iterator[tuple[tuple, np.ndarray]]:
        if len(source.shape(self.saved)) != len(shape) + 1:
            return
        parts = [source.read(self.saved, (number,)) for number in range(source.shape(self.saved)[0])]
        value = upcycling.average(parts, axes, self.mixture)
        if value.shape == shape:
            yield (), value


# The optimizer's state


@dataclasses.dataclass(frozen=True)
class Leaf:
    """An array of an optimizer's state: the parameter that it is of (None: a count), and its kind, its path without it and layers."""

    name: str
    like: jax.ShapeDtypeStruct
    stored: str | None
    kind: str
    schedule: bool


def leaves(planned: TrainState, blueprint: Blueprint) -> Iterator[Leaf]:
    """The leaves of `opt_state`, as they are saved."""
    is_schedule = lambda part: isinstance(part, optax.ScaleByScheduleState)
    parts = jax.tree_util.tree_leaves_with_path(planned.opt_state, is_leaf=is_schedule)
    counting = {path_name(path) for path, part in parts if is_schedule(part)}
    for path, like in jax.tree_util.tree_leaves_with_path(planned.opt_state):
        keys = [part for part in path_name(path).split(".") if part]
        stored = next((part for part in reversed(_keys(path)) if part in blueprint.specs), None)
        mapped = [i + 1 for i, key in enumerate(keys) if key == "mapped"]
        kind = ".".join(key for i, key in enumerate(keys) if key not in ("alone", "mapped", stored) and i not in mapped)
        yield Leaf(f"opt_state.{path_name(path)}", like, stored, kind, path_name(path[:-1]) in counting)


def _keys(path: tuple) -> list[Any]:
    return [getattr(part, "key", None) for part in path]


def write_moments(
    maker: Maker, planned: TrainState, blueprint: Blueprint, before: list[Leaf], taken: Callable[[str], bool], step: int
) -> None:
    """The optimizer's state: moments by the policy `taken`, of schedules the count `step`, of moments the count that goes with them."""
    have = set(maker.saved.names("training"))
    missing = [leaf.name for leaf in before if leaf.name not in have]
    anything = any(taken(kind) for kind in ("same", "experts", "shared"))
    if anything and missing:
        raise UserError(
            f"{maker.saved.folder} holds no moments of this recipe's optimizer ({missing[0]} is missing): the recipe binds another one, or "
            "the checkpoint was converted; upcycling.Surgery.moments = @upcycling.reset begins with new ones"
        )
    counts = {leaf.kind: leaf.name for leaf in before if leaf.stored is None}
    kinds: dict[str, dict[str, str]] = {}
    for leaf in before:
        if leaf.stored is not None:
            kinds.setdefault(leaf.kind, {})[leaf.name] = leaf.stored
    sources = {kind: places("training", names) for kind, names in kinds.items()}
    for leaf in leaves(planned, blueprint):
        if leaf.stored is not None:
            found = {name: place for name, place in sources.get(leaf.kind, {}).items() if anything}
            chosen = _chosen(leaf.stored, found, taken, maker.reverse)
            maker.array("training", leaf.name, leaf.stored, leaf.like, chosen, blueprint.specs[leaf.stored].axes, values=False)
            continue
        value = step if leaf.schedule else int(maker.saved.read("training", counts[leaf.kind]).ravel()[0]) if anything else 0
        array = maker.writing.create("training", leaf.name, leaf.like.shape, leaf.like.dtype, 0)
        maker.writing.write(array, (), np.full(leaf.like.shape, value, leaf.like.dtype))


def _chosen(stored: str, found: dict[str, Place], taken: Callable[[str], bool], reverse: bool) -> dict[str, Place]:
    """The sources that the policy lets this parameter's moments have."""
    kind = upcycling.origin(stored).kind
    return found if reverse or taken(kind) else {}
