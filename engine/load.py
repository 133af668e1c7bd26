"""Opens a checkpoint without gin: the model from config.json, its parameters laid out by the rules."""

import pathlib
from typing import Any

import jax

from rootstock.engine import checkpoints, mesh
from rootstock.engine.describe import rebuild
from rootstock.engine.errors import UserError
from rootstock.engine.model_dir import read_config
from rootstock.engine.partitioning import Partitioner
from rootstock.engine.state import Blueprint
from rootstock.models.layers.parameters import Params


def load(directory: str | pathlib.Path, shape: mesh.Shape | None = None, step: int | None = None) -> tuple[Blueprint, Params]:
    """Blueprint and parameters of a checkpoint (the newest by default), on one device or over the mesh of `shape`."""
    devices = jax.devices() if shape else jax.devices()[:1]
    blueprint = draw(directory, Partitioner(mesh.make(shape or mesh.Shape(), devices)))
    saved = checkpoints.shapes(directory, step)
    wanted = {name: spec.shape for name, spec in blueprint.specs.items()}
    wrong = sorted(wanted.keys() ^ saved.keys()) or sorted(name for name in wanted if wanted[name] != saved[name])
    if wrong:
        raise UserError(
            f"the checkpoint in {directory} does not fit its config.json: {', '.join(wrong[:4])}{' ...' if len(wrong) > 4 else ''} "
            "missing, unexpected or of another shape"
        )
    return blueprint, checkpoints.read_params(directory, blueprint.shardings, step)


def draw(directory: str | pathlib.Path, partitioner: Partitioner) -> Blueprint:
    """The blueprint that config.json describes."""
    config = read_config(directory)
    family, described = _rebuilt(directory, config.family), _rebuilt(directory, config.model)
    return Blueprint.draw(lambda key: family(described, key), partitioner)


def _rebuilt(directory: str | pathlib.Path, description: Any) -> Any:
    try:
        return rebuild(description)
    except (TypeError, KeyError) as error:
        raise UserError(f"{directory}/config.json describes no model of this version: {error}") from error
