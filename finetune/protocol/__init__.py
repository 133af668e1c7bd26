"""The fine-tuning protocol: several tasks, seeds and maybe a grid, each run an ordinary fine-tuning run of the same recipe.

    MODEL_DIR/report.html, results.json, results.txt
    MODEL_DIR/best/TASK/               the model with the best dev score of all runs, with its predictions; a MODEL_DIR for every tool
    MODEL_DIR/predictions/             what that model says of the splits named in `predict`
    MODEL_DIR/runs/TASK/[POINT/]SEED/  metrics, configuration, report and result.json of each run

The protocol binds the macros MODEL_DIR, SEED, TASKS, EVALUATED, TRAIN_STEPS and those of the grid anew for each run, so whatever a recipe
can say of a fine-tuning run (optimizer, schedule, heads, grafts) holds here too. A run is finished when its result.json is there; a
killed protocol goes on with the run that it was in.
"""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rootstock.engine.errors import UserError
from rootstock.finetune.tasks import find

TOGETHER = "mixture"


@dataclasses.dataclass(frozen=True)
class Unit:
    """What one run trains: a task, or all of them together. `evaluated` are its tasks and those that their heads answer too."""

    name: str
    tasks: tuple[str, ...]
    evaluated: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Planned:
    """One run: of a unit, at a point of the grid, with a seed."""

    unit: Unit
    point: Mapping[str, Any]
    seed: int

    @property
    def place(self) -> pathlib.Path:
        return pathlib.Path(self.unit.name, *([told(self.point)] if self.point else []), f"seed{self.seed}")


@dataclasses.dataclass
class Protocol:
    """What a recipe fills in.

    `together` trains all tasks in each run, with a head each; else every task has runs of its own. `also` are tasks without training
    rows, answered by the head of another. `grid` has values for macros: each combination is run with the first seed, the one with the
    best dev score gets the other seeds. `evaluations` are those on dev in an epoch; 0 is one at the end. `predict` names splits that the
    best model predicts at the end. `overlaps` says of a task in which pretraining texts its test texts are known to be: parts of file
    names.
    """

    model_dir: str
    tasks: Sequence[str]
    seeds: Sequence[int] = (0, 1, 2)
    together: bool = False
    also: Sequence[str] = ()
    grid: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    evaluations: int | float = 1
    predict: Sequence[str] = ()
    overlaps: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        self.tasks, self.also = ([find(name).name for name in names] for names in (self.tasks, self.also))
        for name in ("tasks", "seeds"):
            values = list(getattr(self, name))
            if not values or len(set(values)) < len(values):
                raise UserError(f"protocol.Protocol.{name} is {values}; expected at least one, each once")
        if empty := [name for name, values in self.grid.items() if not values]:
            raise UserError(f"the grid has no value for {empty[0]}")
        folders = [told(point) for point in self.points]
        if twice := [folder for folder in folders if folders.count(folder) > 1]:
            raise UserError(f"two points of the grid would share the folder {twice[0]}: they are equal but for spaces, / and _, or types")
        if not self.evaluations >= 0:
            raise UserError(f"protocol.Protocol.evaluations is {self.evaluations}; expected how many an epoch, 0 for one at the end")
        for name in self.tasks:
            if other := find(name).answered_by:
                raise UserError(
                    f"{name} is not trained on: its rows are answered by the head of {other}; name it in protocol.Protocol.also"
                )
        for name in self.also:
            if find(name).answered_by is None:
                raise UserError(f"{name} has training rows of its own; name it in TASKS")
            if tuple(find(name).labels) != tuple(find(find(name).answered_by).labels):
                raise UserError(f"{name} has other classes than {find(name).answered_by}, by whose head it is answered: give it the same")

    @property
    def units(self) -> list[Unit]:
        parts = {TOGETHER: tuple(self.tasks)} if self.together else {name: (name,) for name in self.tasks}
        return [
            Unit(name, tasks, (*tasks, *(also for also in self.also if find(also).answered_by in tasks))) for name, tasks in parts.items()
        ]

    @property
    def points(self) -> list[dict[str, Any]]:
        """The combinations of the grid; one empty one without a grid."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]

    def plan(self, unit: Unit, headlines: Mapping[pathlib.Path, float]) -> Iterator[Planned]:
        """The runs of a unit; those after the grid are known once the runs before them have their `headlines`, by place."""
        first = [Planned(unit, point, self.seeds[0]) for point in self.points]
        yield from first
        chosen = max(first, key=lambda planned: headlines.get(planned.place, -math.inf)).point
        yield from (Planned(unit, chosen, seed) for seed in self.seeds[1:])

    def count(self) -> int:
        """How many runs there are in all."""
        return len(self.units) * (len(self.points) + len(self.seeds) - 1)


def told(point: Mapping[str, Any]) -> str:
    """A point of the grid in a line that can name a folder."""
    return ",".join(f"{name}={value}" for name, value in point.items()).replace("/", "_").replace(" ", "")
