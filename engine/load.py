"""Opens a checkpoint without gin: the model from config.json, its parameters laid out by the rules."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from rootstock.engine import checkpoints, mesh
from rootstock.engine.describe import rebuild
from rootstock.engine.errors import UserError
from rootstock.engine.model_dir import read_config
from rootstock.engine.partitioning import Partitioner
from rootstock.engine.state import Blueprint
from rootstock.models.layers import stack
from rootstock.models.layers.parameters import Params


def load(directory: str | pathlib.Path, shape: mesh.Shape | None = None, step: int | None = None) -> tuple[Blueprint, Params]:
    """Blueprint and parameters of a checkpoint (the newest by default), on one device or over the mesh of `shape`."""
    devices = jax.devices() if shape else jax.devices()[:1]
    blueprint = draw(directory, Partitioner(mesh.make(shape or mesh.Shape(), devices)))
    checkpoints.check(directory, step)
    saved = checkpoints.shapes(directory, step)
    wanted = {name: spec.shape for name, spec in blueprint.specs.items()}
    if wanted != saved:
        raise UserError(f"the checkpoint in {directory} does not fit its config.json: {_difference(_canonical(wanted), _canonical(saved))}")
    return blueprint, checkpoints.checked_params(directory, blueprint.shardings, step)


def _canonical(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {name: shape[0 if index is None else 1 :] for stored, shape in shapes.items() for name, index in stack.address(stored)}


def _difference(wanted: dict[str, tuple[int, ...]], saved: dict[str, tuple[int, ...]]) -> str:
    """What is missing, unexpected and of another shape, in words."""
    both = sorted(wanted.keys() & saved.keys())
    parts = {
        "missing": sorted(wanted.keys() - saved.keys()),
        "unexpected": sorted(saved.keys() - wanted.keys()),
        "of another shape": [f"{name} {saved[name]} instead of {wanted[name]}" for name in both if saved[name] != wanted[name]],
    }
    told = [f"{what}: {checkpoints.listed(names)}" for what, names in parts.items() if names]
    return "; ".join(told) or "its layers are stacked in another way (Config.scan)"


def draw(directory: str | pathlib.Path, partitioner: Partitioner) -> Blueprint:
    """The blueprint that config.json describes."""
    config = read_config(directory)
    family, described = _rebuilt(directory, config.family), _rebuilt(directory, config.model)
    try:
        return Blueprint.draw(lambda key: family(described, key), partitioner)
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise UserError(f"{directory}/config.json describes a model that cannot be built: {str(error).splitlines()[0]}") from error


def _rebuilt(directory: str | pathlib.Path, description: Any) -> Any:
    try:
        return rebuild(description)
    except (TypeError, KeyError, UserError) as error:
        raise UserError(f"{directory}/config.json describes no model of this version: {error}") from error
