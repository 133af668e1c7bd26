"""One run of the protocol: its macros bound, trained in this process, its result written, its training state thrown away."""

import dataclasses
import json
import math
import pathlib
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rootstock.data.errors import DataError
from rootstock.data.shards import sha256
from rootstock.engine import launch, resume, train
from rootstock.engine.checkpoints import folder as checkpoints_of
from rootstock.engine.checkpoints import steps as steps_of
from rootstock.engine.errors import UserError
from rootstock.engine.model_dir import write_atomically
from rootstock.finetune.outcome import PREDICTIONS
from rootstock.finetune.protocol import Planned, Protocol, dev
from rootstock.finetune.tasks import find

RESULT, RUN = "result.json", "run.json"
_HELD = "what DATA_DIR holds"
# What finished runs may differ in, beside what may differ between two starts of one run: how many there are, how they were watched.
_FREE = re.compile(r"^(protocol\.Protocol\.\w+|dev\.Dev\.(every|batch_size))$")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the command line named."""

    files: Sequence[str]
    bindings: Sequence[str]
    search_paths: Sequence[str]
    command: str

    def bind(self, *more: str) -> None:
        launch.bind(self.files, [*self.bindings, *more], self.search_paths)


@dataclasses.dataclass
class Trained:
    """A finished run: where it is, and its result.json."""

    planned: Planned
    folder: pathlib.Path
    found: Mapping[str, Any]

    @property
    def headline(self) -> float:
        return self.found["headline"]


def is_bound(parameter: str) -> bool:
    """Whether the recipe gives it a value."""
    import gin

    try:
        gin.query_parameter(parameter)
    except ValueError:
        return False
    return True


def task_texts() -> list[str]:
    """The items of the macro TASKS as a recipe writes them; an item may stand for a task that the recipe defines."""
    import gin

    tasks = gin.query_parameter("TASKS/macro.value")
    return [repr(item) for item in tasks]


def bind(recipe: Recipe, protocol: Protocol, planned: Planned, texts: Mapping[str, str], *more: str) -> pathlib.Path:
    """Binds the macros of a run; its folder. `texts` are the tasks as the recipe writes them."""
    folder = pathlib.Path(protocol.model_dir, "runs", planned.place)
    macros = [f"{name} = {value!r}" for name, value in planned.point.items()]
    macros += [f"MODEL_DIR = {str(folder)!r}", f"SEED = {planned.seed}", f"TASKS = ({_listed(texts[name] for name in planned.unit.tasks)})"]
    macros += [f"EVALUATED = ({_listed(texts.get(name, repr(name)) for name in planned.unit.evaluated)})"]
    recipe.bind(*macros, *more)
    return folder


def run(recipe: Recipe, protocol: Protocol, planned: Planned, texts: Mapping[str, str]) -> Trained:
    """Trains, or goes on training, or only reads what is there."""
    folder = bind(recipe, protocol, planned, texts)
    settings = _settings() | _inputs(planned.unit.tasks)
    if (found := _read(folder)) is not None:
        _check_same(folder, found["settings"], settings)
        return Trained(planned, folder, found)
    started = time.monotonic()
    training = _training_rows()
    epoch, steps = _lengths(training, _macro("EPOCHS"), _macro("BATCH_SIZE"))
    _check_steps(folder, steps)
    every = max(1, round(epoch / protocol.evaluations)) if protocol.evaluations else steps
    bind(recipe, protocol, planned, texts, f"TRAIN_STEPS = {steps}", f"dev.Dev.every = {every}")
    running = _train(recipe.command)
    found = dev.found(folder)
    if found is None:
        raise UserError(f"the recipe {', '.join(recipe.files)} has no hook protocol.dev.Dev: include finetune/superglue_protocol.gin")
    told = {"seed": planned.seed, "point": dict(planned.point), "steps": running.step, "epochs": running.step / epoch}
    told |= {
        "training": training,
        "seconds": sum(running.goodput.breakdown().values()),
        "last_seconds": time.monotonic() - started,
        "settings": settings,
    }
    write_atomically(folder / RESULT, json.dumps(found | told) + "\n")
    return Trained(planned, folder, found | told)


def best(trained: Sequence[Trained]) -> Trained:
    """Of the runs of a unit the one whose model is kept."""
    return max(trained, key=lambda one: one.headline)


def settle(model_dir: str, trained: Sequence[Trained]) -> pathlib.Path:
    """MODEL_DIR/best/UNIT: the best of the runs of a unit, those of earlier plans among them; the weights of the others and all training
    state are thrown away, their predictions stay.
    """
    for one in trained:
        if (said := one.folder / dev.BEST / PREDICTIONS).is_dir():
            shutil.copytree(said, one.folder / PREDICTIONS, dirs_exist_ok=True)
    winner = best(trained)
    target = pathlib.Path(model_dir, dev.BEST, winner.planned.unit.name)
    if (kept := winner.folder / dev.BEST).is_dir() and not _beaten(winner, target):
        told = {"place": str(winner.planned.place), "point": dict(winner.planned.point), "settings": winner.found["settings"]}
        (kept / RUN).write_text(json.dumps(told) + "\n")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        kept.rename(target)
    for one in trained:
        shutil.rmtree(checkpoints_of(one.folder), ignore_errors=True)
        shutil.rmtree(one.folder / dev.BEST, ignore_errors=True)
    return target


def _beaten(winner: Trained, target: pathlib.Path) -> bool:
    """Whether the model in `target` has a better score and is of the same recipe and rows, but for its seed and point of the grid."""
    earlier = dev.told(target)
    if earlier is None or not earlier["headline"] > winner.headline:
        return False
    run = json.loads((target / RUN).read_text())
    varied = {"SEED", *run["point"], *winner.planned.point}
    plain = lambda settings: {name: value for name, value in settings.items() if name not in varied}
    return plain(run["settings"]) == plain(winner.found["settings"])


def kept(target: pathlib.Path, trained: Sequence[Trained]) -> Planned:
    """The run whose model `settle` left in `target`. Raises UserError where an earlier plan had it and this one has not."""
    place = json.loads((target / RUN).read_text())["place"]
    for one in trained:
        if str(one.planned.place) == place:
            return one.planned
    raise UserError(
        f"{target} is the model of {place}, which this plan leaves out, so it cannot be predicted with: name its seed and point of the "
        "grid again, or choose another MODEL_DIR"
    )


def _train(command: str) -> train.Running:
    import gin

    return train.train(launch.fetch(), gin.operative_config_str, command)


def _training_rows() -> dict[str, dict[str, int]]:
    """Of each task what its training split held, what was dropped of it, and the rows that are trained on; they are read for the run."""
    sources = {name: stream.source for name, stream in launch.fetch().data.streams.items()}
    counts = {name: {what: source.counts[what] for what in ("documents", "dropped")} for name, source in sources.items()}
    return {name: {**counts[name], "used": len(source), "full": source.full} for name, source in sources.items()}


def _lengths(training: Mapping[str, Mapping[str, int]], epochs: int | float, batch_size: int) -> tuple[float, int]:
    """Steps of an epoch, and of the run."""
    rows = sum(counts["used"] for counts in training.values())
    return rows / batch_size, max(1, math.ceil(epochs * rows / batch_size))


def _macro(name: str) -> Any:
    """The value of a macro that is a number."""
    found = launch.macro(name) if name in launch.macros() else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not found > 0:
        raise UserError(f"the macro {name} is {found!r}; the protocol counts steps by it, so it must be a number above 0")
    return found


def _settings() -> dict[str, str]:
    """All that the recipe says of the run, apart from what may change."""
    import gin

    bound = resume.bindings(gin.config_str(max_line_length=10_000))
    return {name: value for name, value in bound.items() if not (resume.FREE.match(name) or _FREE.match(name))}


def _inputs(tasks: Sequence[str]) -> dict[str, str]:
    """The files of the training and validation rows, as a setting; none where they are no longer at hand, which a finished run does not
    need.
    """
    try:
        found = [path for name in tasks for path in find(name).rows(launch.macro("DATA_DIR"), "", launch.macro("LENGTH")).inputs()]
        return {_HELD: ", ".join(f"{path.name} (SHA-256 {sha256(path)[:12]}...)" for path in found if "test" not in path.name)}
    except (DataError, OSError):
        return {}


def _read(folder: pathlib.Path) -> dict[str, Any] | None:
    path = folder / RESULT
    return json.loads(path.read_text()) if path.is_file() else None


def _check_steps(folder: pathlib.Path, steps: int) -> None:
    """A run that was killed goes on to as many steps as it began with: others would be another schedule."""
    config = folder / "config.gin"
    before = resume.bindings(config.read_text()).get("TRAIN_STEPS") if config.is_file() and steps_of(folder) else None
    if before not in (None, str(steps)):
        raise UserError(
            f"{folder} was begun with {before} steps, and EPOCHS, LIMITS or the rows now make {steps}: choose another MODEL_DIR, or delete "
            "that folder"
        )


def _check_same(folder: pathlib.Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    changed = [
        f"{name} was {before.get(name, '(unset)')}, is now {now.get(name, '(unset)')}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name) and (name != _HELD or _HELD in now)
    ]
    if changed:
        raise UserError(f"{folder} was run with another recipe: {'; '.join(changed[:8])}. Choose another MODEL_DIR, or delete that folder")


def _listed(items) -> str:
    return "".join(f"{item}, " for item in items).strip()
