"""A MODEL_DIR of parameters that came from elsewhere: what the converters share."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from rootstock.engine import checkpoints, mesh, model_dir
from rootstock.engine.errors import UserError
from rootstock.engine.partitioning import Partitioner
from rootstock.engine.state import Blueprint, TrainState
from rootstock.models import hf
from rootstock.models.layers import stack


@contextlib.contextmanager
def told(where: str | pathlib.Path) -> Iterator[None]:
    """A mismatch with the tables, as a user's mistake about `where`."""
    try:
        yield
    except hf.Mismatch as error:
        raise UserError(f"{where} cannot be converted: {error}") from error


def drawn(model: Callable, config: Any) -> Blueprint:
    """The blueprint of one of our models on one device."""
    try:
        return Blueprint.draw(lambda key: model(config, key), one_device())
    except (ValueError, TypeError, OverflowError) as error:
        raise hf.Mismatch(f"no model can be built of this configuration: {str(error).splitlines()[0]}") from error


def one_device() -> Partitioner:
    return Partitioner(mesh.make(mesh.Shape(), jax.devices()[:1]))


def check_shapes(
    table: hf.Table, tensors: Mapping[str, np.ndarray], blueprint: Blueprint, ours: Callable[[str], str] = lambda name: name
) -> None:
    """Raises Mismatch unless their tensors have the shapes of our parameters. `ours` changes the table's name of one."""
    shapes = {
        canonical: spec.shape if index is None else spec.shape[1:]
        for name, spec in blueprint.specs.items()
        for canonical, index in stack.address(name)
    }
    wrong = []
    for name, value in tensors.items():
        wanted = table.shape(name, lambda canonical: shapes[ours(canonical)])
        if value.shape != wanted:
            wrong.append(f"{name} has shape {list(value.shape)} instead of {list(wanted)}")
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise hf.Mismatch(f"tensors are not of the sizes that the configuration gives: {', '.join(wrong[:4])}{more}")


def write_model_dir(
    folder: pathlib.Path,
    blueprint: Blueprint,
    params: Mapping[str, np.ndarray],
    vocabulary: dict[str, str] | None,
    opt_state: tuple = (),
    step: int = 0,
) -> None:
    """An ordinary MODEL_DIR with one checkpoint."""
    state = TrainState(dict(params), {}, opt_state, (), np.asarray(step, np.int32), np.zeros((), np.float32))
    saving = checkpoints.Checkpoints(folder, keep=1)
    try:
        saving.save(step, state, {"examples": 0, "seed": 0})
    finally:
        saving.close()
    model_dir.write_config(folder, blueprint.model, vocabulary)
    model_dir.write_atomically(folder / "model-info.txt", model_dir.parameter_table(blueprint))
