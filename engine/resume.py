"""What a run takes from before: the configuration it must agree with, and the parameters or the whole state of another run."""

import datetime
import importlib.metadata
import pathlib
import re
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from rootstock.engine import checkpoints
from rootstock.engine.errors import UserError
from rootstock.engine.model_dir import read_config
from rootstock.engine.sockets import Objective
from rootstock.engine.state import Blueprint, TrainState
from rootstock.models.layers import stack
from rootstock.models.layers.parameters import Params

# Bindings that may differ between two starts of one run: how long, on what machine, how it is watched.
FREE = re.compile(
    r"^(MODEL_DIR|TRAIN_STEPS|mesh\.Shape\.\w+|train\.Run\.(train_steps|model_dir|mesh|rules|log_every|save_every|save_minutes|keep|keep_hours|hooks|"
    r"baselines)|hooks\.\w+\.\w+)$"
)


def header(command: str) -> str:
    """The comment at the top of config.gin: what made the run, when, with which versions."""
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax", "optax", "orbax-checkpoint"))
    python = ".".join(map(str, sys.version_info[:3]))
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    device = jax.devices()[0]
    return f"# {command}\n# {now}, Python {python}, {packages}, {jax.device_count()} x {device.device_kind}\n\n"


def bindings(config: str) -> dict[str, str]:
    """The statements of a resolved configuration, `name = value`, by name; a statement goes on over indented lines."""
    found: dict[str, str] = {}
    name = None
    for line in config.splitlines():
        if (name and line[:1].isspace()) or line in (")", "]", "}"):
            found[name] += " " + line.strip()
        elif match := re.match(r"([\w./@]+) = ?(.*)$", line):
            name = match[1]
            found[name] = match[2].rstrip("\\").strip()
        else:
            name = None
    return found


def check_same_run(model_dir: pathlib.Path, config: str) -> list[str]:
    """Differences that are allowed between this configuration and the one MODEL_DIR was begun with; any other is a mistake."""
    path = model_dir / "config.gin"
    if not path.exists():
        if checkpoints.folder(model_dir).exists() and any(checkpoints.folder(model_dir).iterdir()):
            raise UserError(
                f"{model_dir} holds checkpoints but no config.gin: it was not made by a run of rootstock; choose another MODEL_DIR. "
                "A run that goes on from a converted checkpoint names it by train.Run.continue_from"
            )
        return []
    before, now = bindings(path.read_text()), bindings(config)
    changes = [
        (name, before.get(name, "(unset)"), now.get(name, "(unset)"))
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    refused = [change for change in changes if not FREE.match(change[0])]
    if refused:
        lines = "; ".join(f"{name} was {old}, is now {new}" for name, old, new in refused[:8])
        more = f" (and {len(refused) - 8} more)" if len(refused) > 8 else ""
        raise UserError(
            f"{model_dir} belongs to another run: {lines}{more}. Choose another MODEL_DIR, or start with the configuration in {path}"
        )
    return [f"{name}: {old} -> {new}" for name, old, new in changes]


def take_over(blueprint: Blueprint, params: Params, source: str, skip: str) -> Params:
    """`params` with the values that the newest checkpoint of `source` has under the same canonical names, however they are stacked there.

    A parameter that `skip` matches keeps its random value; any other that the source lacks is a mistake.
    """
    wanted = {name: spec.shape for name, spec in blueprint.specs.items() if not any(re.search(skip, c) for c, _ in stack.address(name))}
    found = checkpoints.restack(checkpoints.read_params(source), wanted)
    return {name: jax.device_put(found[name], blueprint.shardings[name]) if name in found else value for name, value in params.items()}


def take_up(planned: TrainState, source: str) -> TrainState:
    """The state that the newest checkpoint of `source` holds: parameters, the optimizer's moments and the step, in the layout of `planned`.

    `source` is a run's MODEL_DIR, or what a converter made of another program's checkpoint. Model and optimizer must be the same.
    """
    try:
        found = checkpoints.read_state(source, planned)
    except UserError as error:
        raise UserError(
            f"train.Run.continue_from: {error}. It takes a checkpoint of the same model, stacked in the same way, and of the same "
            "optimizer with its moments; train.Run.init_from takes parameters alone"
        ) from error
    return found.replace(elapsed=jax.device_put(jnp.zeros_like(found.elapsed), planned.elapsed.sharding))


def check_vocabulary(source: str, checksum: str | None) -> None:
    """Refuses data whose ids mean other words than those that `source` was trained on."""
    known = read_config(source).vocabulary.get("checksum")
    if checksum is not None and known is not None and checksum != known:
        raise UserError(
            f"the data was made with another vocabulary (SHA-256 {checksum[:12]}...) than the checkpoint {source} ({known[:12]}...), "
            f"so its word embeddings would stand for other words; use {source}/vocabulary"
        )


def check_objectives(objectives: Sequence[Objective], checksum: str | None) -> None:
    """Masks and special pieces go by an objective's vocabulary, where it has one; refuses data whose ids are another's."""
    for objective in objectives:
        known = getattr(getattr(objective, "vocabulary", None), "checksum", None)
        if checksum and known and checksum != known:
            raise UserError(
                f"the data was made with another vocabulary (SHA-256 {checksum[:12]}...) than {type(objective).__name__}.vocabulary "
                f"({known[:12]}...); name the one that the data has"
            )
