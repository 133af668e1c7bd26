"""Checkpoints: Orbax composites of parameters, training state and data position, saved while training goes on.

    checkpoints/STEP/params      every parameter by storage name: all that inspect, forward and evaluate read
    checkpoints/STEP/training    optimizer state, carried values, step, elapsed seconds
    checkpoints/STEP/position    JSON: the data position and what made the checkpoint

A save becomes visible by an atomic rename, so a killed run leaves none half-written. The newest one that can be read wins; one that
cannot is named, set aside and the one before it is used.
"""

import contextlib
import datetime
import logging as std_logging
import pathlib
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jaxtyping import Array

from rootstock.engine import checksums, signals
from rootstock.engine.errors import Unwritten, UserError
from rootstock.engine.state import TrainState
from rootstock.models.layers import stack
from rootstock.models.layers.parameters import Params

FORMAT = 1


def folder(model_dir: str | pathlib.Path) -> pathlib.Path:
    return pathlib.Path(model_dir).absolute() / "checkpoints"


class Checkpoints:
    """The checkpoints of one MODEL_DIR. `keep` newest ones stay, and beside them one for every `keep_hours`."""

    def __init__(self, model_dir: str | pathlib.Path, keep: int = 2, keep_hours: float | None = None):
        interval = None if keep_hours is None else datetime.timedelta(hours=keep_hours)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, keep_time_interval=interval, create=True, enable_async_checkpointing=True)
        self.folder = folder(model_dir)
        logging.get_absl_logger().addFilter(_told_by_us)
        self.manager = ocp.CheckpointManager(self.folder, options=options)
        self._saving: threading.Thread | None = None
        self._failed: Exception | None = None

    def save(self, step: int, state: TrainState, position: dict) -> None:
        """Starts a save; it goes on in the background. Does nothing if that step is saved already."""
        self.wait()
        if step in self.manager.all_steps():
            return
        with self._explained():
            self.manager.save(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(state.all_params),
                    training=ocp.args.StandardSave(_training(state)),
                    position=ocp.args.JsonSave({"format": FORMAT, **position}),
                ),
            )
        self._saving = threading.Thread(target=self._finish, args=(step,), name="save")
        self._saving.start()

    def _finish(self, step: int) -> None:
        try:
            self.manager.wait_until_finished()
            if jax.process_index() == 0:
                checksums.seal(self.folder / str(step))
        except Exception as error:
            self._failed = error

    def wait(self) -> None:
        """Until the save under way is whole; raises here what went wrong with it."""
        if self._saving is not None:
            self._saving.join()
            self._saving = None
        failed, self._failed = self._failed, None
        if failed is not None:
            with self._explained():
                raise failed

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            raise Unwritten(f"a checkpoint could not be written to {self.folder}: {_reason(error)}; {self.last_good()}") from error

    def last_good(self) -> str:
        """For messages: the newest complete checkpoint."""
        steps = self.manager.all_steps()
        return f"the newest complete checkpoint is {self.folder / str(max(steps))}" if steps else "there is no checkpoint yet"

    def restore(self, state: TrainState) -> tuple[TrainState, dict] | None:
        """The newest readable checkpoint, in the layout of `state` (as `state.abstract` gives it); None if there is none."""
        steps = sorted(self.manager.all_steps(), reverse=True)
        params, training = state.all_params, _training(state)
        for step in steps:
            wrong = checksums.damage(self.folder / str(step)) if jax.process_index() == 0 else None
            if signals.agreed(wrong is not None):  # the first process reads all files, the others hear of it
                self._set_aside(step, wrong or "as the first process found")
                continue
            found = failed = None
            try:
                found = self.manager.restore(
                    step,
                    args=ocp.args.Composite(
                        params=ocp.args.StandardRestore(params),
                        training=ocp.args.StandardRestore(training),
                        position=ocp.args.JsonRestore(),
                    ),
                )
            except Exception as error:
                failed = error
            if signals.agreed(failed is not None):
                told = f"{type(failed).__name__}: {failed}".splitlines()[0] if failed else "as another process found"
                if checksums.sealed(self.folder / str(step)):
                    raise UserError(f"the checkpoint {self.folder / str(step)} is whole, but it does not fit this run: {told}") from failed
                self._set_aside(step, told)
                continue
            names = state.params.keys()
            restored = state.replace(
                params={n: found.params[n] for n in names}, frozen={n: found.params[n] for n in state.frozen}, **found.training
            )
            return restored, found.position
        if damaged := sorted(path.name for path in self.folder.glob("*.damaged")):
            raise UserError(
                f"none of the checkpoints in {self.folder} can be read; they are kept there as {', '.join(damaged)}. "
                "Choose another MODEL_DIR, or delete them to begin anew"
            )
        return None

    def _set_aside(self, step: int, wrong: str) -> None:
        path = self.folder / str(step)
        logging.error("checkpoint %s is damaged: %s. It is set aside as %s.damaged and the one before it is used.", path, wrong, step)
        if jax.process_index() == 0:
            aside = path.with_name(f"{step}.damaged")
            shutil.rmtree(aside, ignore_errors=True)  # of an earlier time
            path.rename(aside)
        signals.agreed(0)  # all wait for the new name
        self.manager.reload()

    def close(self) -> None:
        """Waits for the save under way; raises what went wrong with it."""
        try:
            self.wait()
        finally:
            with self._explained():
                self.manager.close()


def _reason(error: Exception) -> str:
    """The first line of a message; of tensorstore's long ones, what the system said."""
    first = str(error).splitlines()[0]
    found = re.search(r"to write \d+ bytes to file \d+: ([^\[]+)", first)
    return found[1].strip() if found else first


def _told_by_us(record: std_logging.LogRecord) -> bool:
    """Orbax logs with its traceback, once for each thread, what it then raises and we tell."""
    return not (record.exc_info and "orbax" in record.pathname)


def _training(state: TrainState) -> dict[str, Any]:
    return {"opt_state": state.opt_state, "carried": state.carried, "step": state.step, "elapsed": state.elapsed}


def steps(model_dir: str | pathlib.Path) -> list[int]:
    """The steps of the complete checkpoints, in order."""
    return sorted(int(entry.name) for entry in folder(model_dir).glob("*") if entry.name.isdigit())


def newest(model_dir: str | pathlib.Path) -> int:
    """The step of the newest complete checkpoint; a mistake if there is none."""
    found = steps(model_dir)
    if not found:
        raise UserError(f"{model_dir} holds no checkpoint (looked in {folder(model_dir)}); give the MODEL_DIR of a run that has saved one")
    return found[-1]


def shapes(model_dir: str | pathlib.Path, step: int | None = None) -> dict[str, tuple[int, ...]]:
    """The shape of every saved parameter, by storage name; reads no array."""
    with _opened(model_dir, step, "params") as (checkpointer, path):
        return {name: tuple(found.shape) for name, found in checkpointer.metadata(path).item_metadata.items()}


def check(model_dir: str | pathlib.Path, step: int | None = None) -> None:
    """Raises UserError for a damaged checkpoint. To be called before Orbax reads anything: over damaged files it raises whatever it
    stumbles on, and its threads print tracebacks of their own.
    """
    path = folder(model_dir) / str(newest(model_dir) if step is None else step)
    if (wrong := checksums.damage(path)) is not None:
        raise UserError(f"the checkpoint {path} is damaged: {wrong}; use an older one of {model_dir} or copy it again")


def read_params(
    model_dir: str | pathlib.Path, shardings: Mapping[str, jax.sharding.Sharding] | None = None, step: int | None = None
) -> Params:
    """Only the parameters of a checkpoint, by storage name, each in its sharding (default: whole, in the host's memory)."""
    check(model_dir, step)
    return checked_params(model_dir, shardings, step)


def checked_params(
    model_dir: str | pathlib.Path, shardings: Mapping[str, jax.sharding.Sharding] | None = None, step: int | None = None
) -> Params:
    """The same, where `check` has been called: it reads every byte."""
    with _opened(model_dir, step, "params") as (checkpointer, path):
        alone = jax.sharding.SingleDeviceSharding(_host())
        return checkpointer.restore(
            path,
            {
                name: jax.ShapeDtypeStruct(found.shape, found.dtype, sharding=(shardings or {}).get(name, alone))
                for name, found in checkpointer.metadata(path).item_metadata.items()
            },
        )


def _host() -> jax.Device:
    """A device of this process, the CPU where JAX has it beside accelerators."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def read_state(model_dir: str | pathlib.Path, state: TrainState) -> TrainState:
    """The newest checkpoint as a whole, moments and step with it, in the layout of `state` (as `state.abstract` gives it)."""
    check(model_dir)
    found = {}
    for item, wanted in (("params", state.all_params), ("training", _training(state))):
        with _opened(model_dir, None, item) as (checkpointer, path):
            found[item] = checkpointer.restore(path, wanted)
    params = found["params"]
    return state.replace(
        params={name: params[name] for name in state.params}, frozen={name: params[name] for name in state.frozen}, **found["training"]
    )


@contextlib.contextmanager
def _opened(model_dir: str | pathlib.Path, step: int | None, item: str) -> Iterator[tuple[ocp.StandardCheckpointer, pathlib.Path]]:
    """A reader and the folder of one item (of the newest step by default); what cannot be read becomes a user's mistake."""
    path = folder(model_dir) / str(newest(model_dir) if step is None else step) / item
    if not path.is_dir():
        raise UserError(f"{model_dir} has no checkpoint of step {step}; it has {steps(model_dir)}")
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # Orbax warns of every composite item that is read alone
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            yield checkpointer, path
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"the checkpoint {path} cannot be read: {str(error).splitlines()[0]}") from error
    finally:
        logging.set_verbosity(level)


def to_host(params: Params) -> dict[str, np.ndarray]:
    """Parameters as numpy arrays."""
    return {name: np.asarray(value) for name, value in params.items()}


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names for a message, cut to the first `most`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def restack(source: Params, names: dict[str, tuple[int, ...]]) -> dict[str, Array]:
    """`source`'s values under other storage names (stacked, unrolled or in other periods) with the same canonical names.

    `names` maps each wanted storage name to its shape. Raises UserError naming what is missing or of another shape.
    """
    whole = stack.unstack(to_host(source))
    if missing := sorted(canonical for name in names for canonical, _ in stack.address(name) if canonical not in whole):
        raise UserError(
            f"the checkpoint has no parameter {listed(missing)}; it has for example {listed(sorted(whole), 3)}. "
            "What may begin at random is named by train.Run.skip"
        )
    result = {}
    for name, shape in names.items():
        parts = stack.address(name)
        value = whole[parts[0][0]] if parts[0][1] is None else np.stack([whole[canonical] for canonical, _ in parts])
        if value.shape != shape:
            raise UserError(
                f"the checkpoint's parameter {name} has shape {value.shape}, the model wants {shape}: another size of model or vocabulary"
            )
        result[name] = value
    return result
