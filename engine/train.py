"""The one training loop. `Run` is what a recipe fills in; `train` runs it to the end, from wherever MODEL_DIR stands."""

import contextlib
import dataclasses
import math
import pathlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from flax import nnx
from jax.experimental import multihost_utils
from jaxtyping import Array, Key

from rootstock.engine import (
    additions,
    checkpoints,
    describe,
    feed,
    flops,
    metrics,
    model_dir,
    partitioning,
    progress,
    report,
    resume,
    signals,
    state,
    step,
    telemetry,
)
from rootstock.engine import mesh as meshes
from rootstock.engine.errors import NonFinite, Stopped, UserError
from rootstock.engine.schedules import BatchRamp
from rootstock.engine.sockets import Context, Data, Gradient, Graft, Hook, Objective, Params, Update, View

_LOSS_OF_A_PHASE = re.compile(r"^\d+/loss$")
_MUST_BE_FINITE = re.compile(r"^(\d+/)?(loss|grad_norm)")


@dataclasses.dataclass(frozen=True)
class Phase:
    """What a step does after its first phase: another objective, with an update of its own for the parameters whose names match."""

    objective: Objective
    update: Update
    trainable: str


@dataclasses.dataclass
class Run:
    """Everything that a run is made of. Recipes bind these; see gin_configs/run.gin.

    `model` builds the model from a key. `batch_size` is a number of examples or a `BatchRamp`; `micro_batch_size` cuts batches into
    slices of that size, whose gradients are added up. `trainable` is a regular expression over canonical names. `then` are further phases
    of every step, in order; `objective`, `update` and `trainable` are the first one's. `init_from` is a
    MODEL_DIR whose parameters are taken over where names agree (`skip` names, by regular expression, the parameters that begin at
    random), `continue_from` one whose whole state is: parameters, moments and step. `save_every` counts steps, `save_minutes`
    wall-clock time.
    """

    model_dir: str
    model: Callable[[Key[Array, ""]], nnx.Module]
    objective: Objective
    data: Data
    update: Update
    train_steps: int
    batch_size: int | BatchRamp
    seed: int = 0
    micro_batch_size: int | None = None
    clip_norm: float | None = None
    mesh: meshes.Shape = dataclasses.field(default_factory=meshes.Shape)
    rules: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    trainable: str = ".*"
    then: Sequence[Phase] = ()
    init_from: str | None = None
    skip: str = "$^"
    continue_from: str | None = None
    graft: Graft | None = None
    gradient: Gradient = step.identity
    micro_gradient: Gradient = step.identity
    view: View | None = None
    hooks: Sequence[Hook] = ()
    baselines: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    log_every: int = 10
    save_every: int = 1000
    save_minutes: float = 30.0
    keep: int = 2
    keep_hours: float | None = None

    def __post_init__(self):
        counts = {"TRAIN_STEPS": self.train_steps, "BATCH_SIZE": 1 if isinstance(self.batch_size, BatchRamp) else self.batch_size}
        counts |= {f"train.Run.{name}": getattr(self, name) for name in ("log_every", "save_every", "keep")}
        for name, value in counts.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"{name} is {value!r}; it must be a whole number and at least 1")
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise UserError(f"train.Run.micro_batch_size is {self.micro_batch_size}; expected at least 1, or None for whole batches")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise UserError(f"train.Run.clip_norm is {self.clip_norm}; expected a number above 0, or None for no clipping")
        if self.init_from and self.continue_from:
            raise UserError(f"a run begins with init_from ({self.init_from}) or with continue_from ({self.continue_from}), not with both")

    @property
    def ramp(self) -> BatchRamp:
        return self.batch_size if isinstance(self.batch_size, BatchRamp) else BatchRamp([(0, self.batch_size)])

    @property
    def phases(self) -> list[Phase]:
        return [Phase(self.objective, self.update, self.trainable), *self.then]

    def build(self, key: Key[Array, ""]) -> nnx.Module:
        """The model with its graft."""
        key_model, key_graft = jax.random.split(key)
        model = self.model(key=key_model)
        return model if self.graft is None else self.graft(model, key_graft)

    def micro_batches(self, size: int) -> int:
        micro = self.micro_batch_size or size
        if size % micro:
            raise UserError(f"micro_batch_size {micro} does not divide the batch size {size}")
        return size // micro


class Running:
    """A run under way: what hooks see. `state` is the state after `step` steps."""

    def __init__(self, run: Run):
        self.goodput = telemetry.Goodput()
        self.run = run
        self.model_dir = pathlib.Path(run.model_dir).absolute()
        self.partitioner = partitioning.Partitioner(meshes.make(run.mesh), run.rules)
        self.blueprint = state.Blueprint.draw(run.build, self.partitioner, _any_of([phase.trainable for phase in run.phases]))
        self.batches = {size: feed.abstract(run.data, size, self.partitioner) for size in run.ramp.sizes(run.train_steps)}
        for size in self.batches:
            self._check_slices(size)
        resume.check_objectives([phase.objective for phase in run.phases], run.data.vocabulary_checksum)
        describe.describe(self.blueprint.model.config)  # which config.json will hold
        # Tracing the forward pass brings out what does not fit together before anything is written.
        # It also calls the methods of a step, so that config.gin has their parameters: gin tells those of what has been called.
        for method in (run.gradient, run.micro_gradient):
            method(lambda params, batch, ctx: None)
        self.costs = {size: (self.tokens(size), self.flops(size)) for size in self.batches}
        self.step = 0
        self.resumed: bool  # whether it goes on from a checkpoint of its own
        self.state: state.TrainState
        self.writer: metrics.Writer
        self.checkpoints: checkpoints.Checkpoints
        self.say: Callable[[str], None] = progress.say

    def _check_slices(self, size: int) -> None:
        parts = self.run.micro_batches(size)
        for leaf in jax.tree.leaves(self.batches[size]):
            if leaf.shape[0] % (parts * self.partitioner.batch_shards):
                raise UserError(
                    f"a batch of {leaf.shape[0]} examples cannot be cut into {parts} micro-batches on {self.partitioner.batch_shards} "
                    "data shards; change micro_batch_size, BATCH_SIZE or the mesh"
                )

    @property
    def phases(self) -> list[step.Phase]:
        including = lambda phase: additions.including(phase.objective, self.blueprint.model)
        return [step.Phase(including(phase), phase.update.tx, names) for phase, names in zip(self.run.phases, self._moved, strict=True)]

    @property
    def _moved(self) -> list[frozenset[str]]:
        """The names of the parameters that each phase moves."""
        whole = self.blueprint.trainable
        moved = [frozenset(name for name in whole if state.is_trainable(name, phase.trainable)) for phase in self.run.phases]
        if not all(moved):
            idle = self.run.phases[moved.index(frozenset())]
            raise UserError(f"no parameter's name matches trainable={idle.trainable!r}; one of them is {next(iter(whole))!r}")
        return moved

    @property
    def optimizers(self) -> state.Optimizers:
        return [(phase.tx, phase.names) for phase in self.phases]

    @property
    def carried(self) -> Any:
        """What the objective carries from step to step, at the start."""
        return getattr(self.run.objective, "carried", ())

    def initial_state(self) -> state.TrainState:
        """Random parameters, or those of `init_from`, and fresh moments; or all that `continue_from` holds."""
        if self.run.continue_from:
            resume.check_vocabulary(self.run.continue_from, self.run.data.vocabulary_checksum)
            return resume.take_up(state.abstract(self.blueprint, self.optimizers, self.carried), self.run.continue_from)
        key = jax.random.key(self.run.seed)
        params = self.blueprint.init_params(key)
        if self.run.init_from:
            params = resume.take_over(self.blueprint, params, self.run.init_from, self.run.skip)
            resume.check_vocabulary(self.run.init_from, self.run.data.vocabulary_checksum)
        return state.init(self.blueprint, params, self.optimizers, self.carried)

    def compile(self, size: int) -> step.Compiled:
        """The step for one batch size, compiled."""
        run = self.run
        methods = step.Methods(run.gradient, run.micro_gradient, run.view, run.clip_norm)
        key = jax.random.fold_in(jax.random.key(run.seed), 1)
        update = step.make(self.blueprint, self.phases, methods, run.micro_batches(size))
        return step.compile_step(update, self.blueprint, self.state, self.batches[size], key)

    def flops(self, size: int) -> float | None:
        """Of one training step over a batch of `size`, by the formula of flops.py; None where a Gradient method skips padding
        (`skips_padding`), how much is known only as it runs.
        """

        def forward(params, batch):
            ctx = Context(step=jax.numpy.zeros((), jax.numpy.int32), key=jax.random.key(0), carried=self.carried)
            model = self.blueprint.merge(params if self.run.view is None else self.run.view(params, ctx))
            objectives = [phase.objective for phase in self.run.phases]
            return [objective(model, objective.prepare(batch, ctx), ctx).terms for objective in objectives]

        shapes = {name: jax.ShapeDtypeStruct(spec.shape, spec.dtype) for name, spec in self.blueprint.specs.items()}
        found = flops.TRAINING * flops.forward(forward, shapes, self.run.data.spec(size))
        return None if getattr(self.run.gradient, "skips_padding", False) else found

    def tokens(self, size: int) -> int:
        """Slots of `input_ids` in a batch, padding included."""
        leaves = jax.tree_util.tree_leaves_with_path(self.run.data.spec(size))
        return sum(math.prod(leaf.shape) for path, leaf in leaves if getattr(path[-1], "key", "") == "input_ids")

    def eval_params(self) -> Params:
        """What is evaluated: every parameter, the trainable ones as the update hands them on."""
        found = self.state.all_params
        for phase, names, opt_state in zip(self.run.phases, self._moved, self.state.opt_state, strict=True):
            found |= phase.update.eval_params(opt_state, {name: self.state.params[name] for name in names})
        return found

    def save(self, elapsed: float) -> None:
        """Starts a checkpoint of the present state, after `elapsed` seconds of training."""
        with self.goodput.measure("save"):
            if not _all_finite(self.state.all_params):
                raise _no_number(self, "a parameter is no finite number any more")
            seconds = multihost_utils.broadcast_one_to_all(np.float32(elapsed))
            self.state = self.state.replace(elapsed=jax.device_put(seconds, self.state.elapsed.sharding))
            self.checkpoints.save(self.step, self.state, {"examples": self.run.ramp.position(self.step), "seed": self.run.seed})


def train(run: Run, config: Callable[[], str] = str, command: str = "") -> Running:
    """Trains to `run.train_steps` and returns the finished run.

    `config` gives the operative configuration for config.gin (launch passes gin's); it is compared with what MODEL_DIR holds. Raises
    UserError for a user's mistake, NonFinite when the loss is no number, Stopped after a save on a signal.
    """
    with signals.Signals() as stop:
        running = Running(run)
        with model_dir.claimed(run.model_dir):
            with running.goodput.measure("init"):
                _open(running, config(), command)
            try:
                _loop(running, stop)
            finally:
                _close(running)
        return running


def _close(running: Running) -> None:
    """Waits for the last save and writes the report; what cannot be written here must not hide why the run ended."""
    try:
        running.checkpoints.close()
    finally:
        try:
            running.writer.write(running.step, "goodput", running.goodput.breakdown())
            running.writer.close()
            if jax.process_index() == 0:
                report.write(running.model_dir)
        except OSError as error:
            logging.error("metrics.jsonl and report.html of %s are not complete: %s", running.model_dir, error)


def _open(running: Running, config: str, command: str) -> None:
    """Compares configurations, restores or begins, writes what describes the run."""
    run, folder = running.run, running.model_dir
    changed = resume.check_same_run(folder, config)
    running.checkpoints = checkpoints.Checkpoints(folder, run.keep, run.keep_hours)
    restored = running.checkpoints.restore(state.abstract(running.blueprint, running.optimizers, running.carried))
    running.resumed = restored is not None
    if restored:
        resume.check_vocabulary(folder, run.data.vocabulary_checksum)
    running.state, position = restored or (running.initial_state(), None)
    running.step = int(running.state.step)
    if running.step >= run.train_steps and not restored:
        raise UserError(
            f"train.Run.continue_from: {run.continue_from} is at step {running.step}, and TRAIN_STEPS, which counts from its beginning, is "
            f"{run.train_steps}: nothing is left to train"
        )
    if position and position["examples"] != run.ramp.position(running.step):
        raise UserError(
            f"the checkpoint of step {running.step} has consumed {position['examples']} examples, this batch schedule "
            f"{run.ramp.position(running.step)}"
        )
    if jax.process_index() == 0:
        vocabulary = model_dir.adopt_vocabulary(folder, run.data.vocabulary, run.data.vocabulary_checksum)
        model_dir.write_config(folder, running.blueprint.model, vocabulary)
        model_dir.write_atomically(folder / "config.gin", resume.header(command) + config)
        model_dir.write_atomically(folder / "model-info.txt", model_dir.parameter_table(running.blueprint))
    running.goodput.continue_from(
        {line["name"]: line["value"] for line in metrics.read(folder) if line["split"] == "goodput"}, float(running.state.elapsed)
    )
    running.writer = metrics.Writer(folder, running.step)
    for task, values in run.baselines.items():
        running.writer.write(running.step, "baseline", values, task)
    for line in changed:
        running.say(f"changed since the last start: {line}")
    if restored:
        running.say(f"resuming {folder} at step {running.step} of {run.train_steps}")


def _loop(running: Running, stop: signals.Signals) -> None:
    run, goodput = running.run, running.goodput
    begin, elapsed = running.step, float(running.state.elapsed)
    if begin >= run.train_steps:
        running.say(f"{running.model_dir} is at step {begin} of {run.train_steps}: nothing to train")
        return
    with goodput.measure("compile"):
        compiled = {size: running.compile(size) for size in running.batches}
    for hook in () if running.resumed else run.hooks:
        if hook.due(begin, False):
            hook.call(running)
    stop.listen()
    meter = progress.Meter(running)
    window: list[Any] = []
    saved_at = started = time.perf_counter()
    feeding = feed.batches(run.data, run.ramp, begin, run.train_steps, running.partitioner)
    with progress.Bar(running, begin) as bar, contextlib.closing(feeding) as batches:
        code = stop.wish()
        while running.step < run.train_steps and not code:
            with goodput.measure("data"):
                batch = next(batches)
            running.state, measured = compiled[run.ramp.size(running.step)](running.state, batch)
            running.step += 1
            window.append(measured)
            last = running.step == run.train_steps
            now = time.perf_counter()
            meeting = jax.process_count() == 1 or running.step % run.log_every == 0  # of processes, whose clocks and signals differ
            late = meeting and signals.agreed(now - saved_at > 60 * run.save_minutes)
            saving = bool(last or late or running.step % run.save_every == 0)
            due = [hook for hook in run.hooks if hook.due(running.step, last)]
            if saving or due or running.step % run.log_every == 0:
                values = _finite(running, window) | meter.read(len(window))
                running.writer.write(running.step, "train", values)
                bar.update(values)
                window.clear()
            for hook in due:  # before the save: a run that is killed between the two does both again
                hook.call(running)
            if saving:
                saved_at = now
                running.save(elapsed + now - started)
            if saving or due:
                meter.reset()
            code = stop.wish() if meeting else 0
    if running.step < run.train_steps:
        if running.step > begin:
            running.writer.write(running.step, "train", _finite(running, window))
            running.save(elapsed + time.perf_counter() - started)
            running.checkpoints.wait()
        raise Stopped(
            f"stopped by a signal at step {running.step}; {running.checkpoints.last_good()}. The same command goes on from there", code
        )


def _finite(running: Running, window: list[Any]) -> dict[str, float]:
    """The means over the steps of `window`; a state that came from anything but finite numbers is never saved."""
    values = metrics.means(window)
    if phases := [value for name, value in values.items() if _LOSS_OF_A_PHASE.match(name)]:
        values["loss"] = sum(phases)
    bad = [name for name in values if _MUST_BE_FINITE.search(name) and not math.isfinite(values[name])]
    if bad:
        raise _no_number(running, f"{bad[0]} became {values[bad[0]]}")
    return values


def _any_of(patterns: Sequence[str]) -> str:
    return patterns[0] if len(patterns) == 1 else "|".join(f"(?:{pattern})" for pattern in patterns)


@jax.jit
def _all_finite(params: Params) -> Array:
    return jax.numpy.stack([jax.numpy.isfinite(x).all() for x in params.values()]).all()


def _no_number(running: Running, what: str) -> NonFinite:
    return NonFinite(
        f"{what} at or shortly before step {running.step}; {running.checkpoints.last_good()}. A smaller learning rate, gradient clipping "
        "(Run.clip_norm) or float32 usually helps"
    )
