"""What T5X's Adafactor remembers, as the state of ours (`engine.optimizers.adafactor`, with a schedule).

Both factor a matrix by the same rule and average its squared gradients alike, so the moments go over one by one. Not taken: momentum
(`beta1`), which ours does not keep, and scanned layers, whose moments T5X factors by logical axes.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax

from rootstock.engine import optimizers
from rootstock.engine.errors import UserError
from rootstock.engine.state import Blueprint
from rootstock.models import hf
from rootstock.models.layers import stack

STATES, COUNT = "state/param_states/", "state/step"
_KINDS = ("v_row", "v_col", "v")


def adafactor(arrays: Mapping[str, np.ndarray], table: hf.Table, blueprint: Blueprint, folder: str) -> tuple[Any, int]:
    """The optimizer's state for `TrainState.opt_state`, and the step. `arrays` is all below `state/`."""
    if COUNT not in arrays or not any(name.startswith(STATES) for name in arrays):
        raise UserError(f"{folder} holds no optimizer state of T5X's Adafactor ({COUNT}, {STATES}...); convert it without --slots")
    step, moments = int(arrays[COUNT]), _by_our_names(arrays, table, folder)
    params = {name: jax.ShapeDtypeStruct(spec.shape, spec.dtype) for name, spec in blueprint.specs.items()}
    planned = jax.eval_shape(optimizers.adafactor(optax.constant_schedule(0.0)).tx.init, params)

    def filled(part: Any) -> Any:
        if not isinstance(part, optax.FactoredState):
            return np.full(part.shape, step, part.dtype)  # the other numbers of an Adafactor are counts of steps
        kinds = {kind: {name: _moment(moments, name, kind, x.shape, folder) for name, x in getattr(part, kind).items()} for kind in _KINDS}
        return optax.FactoredState(np.full(part.count.shape, step, part.count.dtype), **kinds)

    return jax.tree.map(filled, planned, is_leaf=lambda part: isinstance(part, optax.FactoredState)), step


def _by_our_names(arrays: Mapping[str, np.ndarray], table: hf.Table, folder: str) -> dict[tuple[str, str], np.ndarray]:
    """Moments by our canonical name and their kind."""
    found = {}
    for path, value in arrays.items():
        if not path.startswith(STATES):
            continue
        name, _, kind = path.removeprefix(STATES).rpartition("/")
        if name.split("/")[:2] in (["encoder", "encoder"], ["decoder", "decoder"]):
            raise UserError(
                f"{folder} has scanned layers, whose moments T5X factors in another way than ours; convert it without --slots, and a run "
                "that begins with its parameters makes new moments within a few hundred steps"
            )
        if kind == "m" and value.shape != (1,):
            raise UserError(f"{folder}: {path} is a momentum, which our Adafactor does not keep; convert it without --slots")
        ours, transposed = table.canonical(f"target/{name}")
        found[ours, kind] = value.T if transposed and kind == "v" else value
    return found


def _moment(moments: Mapping[tuple[str, str], np.ndarray], name: str, kind: str, shape: tuple[int, ...], folder: str) -> np.ndarray:
    parts = []
    for canonical, _ in stack.address(name):
        if (canonical, kind) not in moments:
            raise UserError(f"{folder} holds no moment {kind} of what is here {canonical}; convert it without --slots")
        parts.append(moments[canonical, kind])
    value = np.stack(parts) if stack.stacked(name) and len({part.shape for part in parts}) == 1 else parts[0]
    if value.shape != shape:
        raise UserError(
            f"{folder}: the moment {kind} of what is here {name} has shape {list(value.shape)}, ours {list(shape)}: its Adafactor factors "
            "other matrices than ours; convert it without --slots"
        )
    return value
