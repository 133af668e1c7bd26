"""report.html of a protocol: medians and spread beside the majority, the grid, curves, confusion matrices and the worst errors to read."""

import dataclasses
import json
import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rootstock.engine import page, plots, record
from rootstock.engine.model_dir import write_atomically
from rootstock.engine.page import Cell
from rootstock.engine.plots import COLOURS, Line, Panel, Reference
from rootstock.engine.report import duration
from rootstock.finetune import leaderboard
from rootstock.finetune.evaluation_report import FULL
from rootstock.finetune.protocol import Protocol, Unit, told
from rootstock.finetune.protocol.runs import Trained


@dataclasses.dataclass(frozen=True)
class Spread:
    """One metric of a task over seeds."""

    values: Sequence[float]
    majority: float | None
    scored: int

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def standard_error(self) -> float:
        """Of the mean; NaN of one seed."""
        return statistics.stdev(self.values) / math.sqrt(len(self.values)) if len(self.values) > 1 else math.nan

    def plain(self) -> dict[str, Any]:
        found = {"median": self.median, "min": min(self.values), "max": max(self.values), "values": list(self.values)}
        error = self.standard_error
        return found | {"standard_error": None if math.isnan(error) else error, "majority": self.majority, "scored": self.scored}


SEVERAL = (
    "A query of ReCoRD makes several rows: for an encoder one an entity, for T5 in training one an answer. "
    "LIMITS leaves rows of training out."
)
Scores = Mapping[str, Mapping[str, Spread]]  # by task and metric


def write(protocol: Protocol, trained: Sequence[Trained], warnings: Sequence[str], command: str) -> pathlib.Path:
    """MODEL_DIR/report.html, results.json and results.txt of the runs that are finished."""
    folder, name = pathlib.Path(protocol.model_dir), pathlib.Path(protocol.model_dir).resolve().name
    found = scores(protocol, trained)
    plain = {task: {metric: spread.plain() for metric, spread in metrics.items()} for task, metrics in found.items()}
    write_atomically(folder / "results.json", json.dumps({"tasks": plain, "averages": _averages(found)}, indent=2) + "\n")
    write_atomically(folder / "results.txt", table(protocol, trained) + "\n")
    parts = [
        f"<header>\n<h1>{page.escape(name)}</h1>",
        page.paragraph(_headline(protocol, trained), "lede"),
        page.command(command),
        *(page.paragraph(f"Warning: {warning}.") for warning in warnings),
        "</header>",
        page.section("Results", _results(found) + "".join(map(page.paragraph, [*_averages(found), *_remarks(protocol, trained)]))),
        page.section("Rows", _rows(protocol, trained)),
        page.section("Grid", _grid(protocol, trained)),
        *(page.section(unit.name, _unit(unit, chosen)) for unit in protocol.units if (chosen := counted(protocol, unit, trained))),
        page.section("Runs", _runs(trained)),
    ]
    write_atomically(folder / "report.html", page.page(name, parts))
    return folder / "report.html"


def counted(protocol: Protocol, unit: Unit, trained: Sequence[Trained]) -> list[Trained]:
    """The runs of a unit that its scores are of: those at the chosen point of the grid."""
    of_unit = [one for one in trained if one.planned.unit == unit]
    first = [one for one in of_unit if one.planned.seed == protocol.seeds[0]]
    point = max(first, key=lambda one: one.headline).planned.point if first else None
    return [one for one in of_unit if one.planned.point == point]


def scores(protocol: Protocol, trained: Sequence[Trained]) -> dict[str, dict[str, Spread]]:
    """Over the seeds of each task."""
    found: dict[str, dict[str, Spread]] = {}
    for unit in protocol.units:
        for task in unit.evaluated:
            seen = [one.found["tasks"][task] for one in counted(protocol, unit, trained)]
            metrics = seen[0]["scores"] if seen else {}
            found |= {task: {metric: _spread(seen, metric) for metric in metrics}} if metrics else {}
    return found


def _spread(seen: Sequence[Mapping[str, Any]], metric: str) -> Spread:
    return Spread([one["scores"][metric] for one in seen], seen[0]["majority"].get(metric), seen[0]["rows"]["scored"])


def table(protocol: Protocol, trained: Sequence[Trained]) -> str:
    """Percentages, one line a task and metric."""
    header = ["task", "metric", "rows", "majority", "median", "min", "max", "s.e.", "seeds"]
    found = scores(protocol, trained)
    rows = [header, *([task, metric, *_cells(spread)] for task, metrics in found.items() for metric, spread in metrics.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    aligned = lambda row: "  ".join(f"{cell:{'<' if i < 2 else '>'}{widths[i]}}" for i, cell in enumerate(row)).rstrip()
    return "\n".join([*map(aligned, rows), *_averages(found), *_remarks(protocol, trained)])


def _cells(spread: Spread) -> list[str]:
    values = [spread.majority, spread.median, min(spread.values), max(spread.values), spread.standard_error]
    return [f"{spread.scored:,}", *map(_percent, values), str(len(spread.values))]


def _percent(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def _averages(found: Scores) -> list[str]:
    """Of the medians."""
    medians = {task: {metric: spread.median for metric, spread in metrics.items()} for task, metrics in found.items()}
    return [average.of(medians).told() for suite in leaderboard.suites_of(list(found)) for average in suite.averages]


def _remarks(protocol: Protocol, trained: Sequence[Trained]) -> list[str]:
    blind = sorted({name for one in trained for name, found in one.found["tasks"].items() if not found["scores"]})
    told = [f"{name} has no labels: it is predicted, in runs, and not scored." for name in blind]
    if protocol.grid:
        names = ", ".join(protocol.grid)
        told.append(f"The values of {names} were chosen on the validation rows that are scored here, with seed {protocol.seeds[0]}.")
    return told


def _headline(protocol: Protocol, trained: Sequence[Trained]) -> str:
    runs, tasks, seeds = (
        f"{number} {what}{'s' * (number != 1)}"
        for number, what in ((protocol.count(), "run"), (len(protocol.tasks), "task"), (len(protocol.seeds), "seed"))
    )
    together = " in one run" if protocol.together else ""
    seconds = sum(one.found["seconds"] for one in trained)
    return f"{len(trained)} of {runs}, {tasks}{together}, {seeds}, {duration(seconds)} in all."


def _results(found: Scores) -> str:
    header = ["Task", "Metric", "Rows", "Majority", "Median", "Min", "Max", "Standard error", "Seeds"]
    rows = []
    for task, metrics in found.items():
        for metric, spread in metrics.items():
            count, majority, median, *rest = _cells(spread)
            beats = spread.majority is not None and spread.median > spread.majority
            rows.append([task, metric, count, majority, Cell(median, best=beats), *rest])
    return page.table(header, rows, names=2) + page.paragraph("Percentages. Marked: a median above the majority.", "soft") if rows else ""


def _rows(protocol: Protocol, trained: Sequence[Trained]) -> str:
    """What became of the rows of the files: of training, in `training` of a result; of the rows that are scored, in those of each task."""
    header = ["Task", "Split", "In the files", "Dropped", "Used", "Of them full", "Scored", "Unlabelled", "Unread"]
    cells = lambda *counts: ["" if count is None else f"{count:,}" for count in counts]
    rows = []
    for unit in protocol.units:
        for chosen in counted(protocol, unit, trained)[:1]:
            for task in unit.evaluated:
                if read := chosen.found["training"].get(task):
                    rows.append([task, "train", *cells(*(read[what] for what in ("documents", "dropped", "used", "full"))), "", "", ""])
                held = chosen.found["tasks"][task]["rows"]
                told = cells(held["documents"], held.get("dropped", 0), held["rows"], held.get("full", 0))
                rows.append([task, "validation", *told, *cells(held["scored"], held["unlabelled"], held.get("unread"))])
    return page.table(header, rows, names=2) + page.paragraph(f"{FULL} {SEVERAL}", "soft") if rows else ""


def _grid(protocol: Protocol, trained: Sequence[Trained]) -> str:
    """The first seed at every point."""
    if len(protocol.points) < 2:
        return ""
    rows = []
    for unit in protocol.units:
        first = [one for one in trained if one.planned.unit == unit and one.planned.seed == protocol.seeds[0]]
        best = max((one.headline for one in first), default=math.nan)
        rows += [[unit.name, told(one.planned.point), Cell(_percent(one.headline), best=one.headline == best)] for one in first]
    return page.table(["Task", "Values", "Score"], rows, names=2)


def _unit(unit: Unit, chosen: Sequence[Trained]) -> str:
    """Curves of all seeds; of the best one what it got wrong."""
    best = max(chosen, key=lambda one: one.headline)
    curves = [plots_of(panel) for panel in _panels(unit, chosen)]
    parts = [f'<div class="plots">\n{"".join(curves)}\n</div>' if curves else ""]
    for task in unit.evaluated:
        found, named = best.found["tasks"][task], f"{task}, seed {best.planned.seed}"
        parts += [_confusion(named, found), _errors(named, found["worst"])]
    return "\n".join(parts)


def _panels(unit: Unit, chosen: Sequence[Trained]) -> list[Panel]:
    runs = [(one, record.read(one.folder), COLOURS[place % len(COLOURS)]) for place, one in enumerate(chosen)]
    losses = [(one, run.train("loss"), colour) for one, run, colour in runs]
    panels = [Panel("Training loss", _lines(losses, noisy=True))] if any(curve is not None for _, curve, _ in losses) else []
    for task in unit.evaluated:
        for metric in chosen[0].found["tasks"][task]["scores"]:
            curves = [(one, run.evaluated().get((task, metric)), colour) for one, run, colour in runs]
            majority = chosen[0].found["tasks"][task]["majority"].get(metric)
            references = [] if majority is None else [Reference("majority", majority)]
            if any(curve is not None and len(curve.steps) > 1 for _, curve, _ in curves):
                panels.append(Panel(f"{task}: {metric}", _lines(curves, noisy=False), references, scale=100, unit="%"))
    return panels


def _lines(curves: Sequence[tuple[Trained, record.Curve | None, str]], noisy: bool) -> list[Line]:
    return [Line(f"seed {one.planned.seed}", curve, colour, noisy) for one, curve, colour in curves if curve is not None]


def plots_of(panel: Panel) -> str:
    shown = lambda value: plots.number(value * panel.scale) + panel.unit
    keys = [page.key(line.colour, line.label, shown(line.curve.last)) for line in panel.lines]
    keys += [page.key(reference.colour, reference.label, shown(reference.value), dashed=True) for reference in panel.references]
    return page.picture(panel.title, plots.svg(panel), keys, panel.wide)


def _confusion(named: str, found: Mapping[str, Any]) -> str:
    if not found["confusion"]:
        return ""
    labels = [*found["labels"], *["no class"] * (len(found["confusion"]) - len(found["labels"]))]
    rows = [
        [label, *(Cell(f"{count:,}", best=row == column) for column, count in enumerate(counts)), f"{sum(counts):,}"]
        for row, (label, counts) in enumerate(zip(labels, found["confusion"], strict=True))
        if sum(counts)
    ]
    return f"<h3>{page.escape(named)}: labels down, predictions across</h3>\n" + page.table(["", *labels, "all"], rows)


def _errors(named: str, worst: Sequence[Mapping[str, Any]]) -> str:
    if not worst:
        return ""
    rows = [[_reading(error["text"]), _said(error["label"]), _answered(error), f"{error['loss']:.2f}"] for error in worst]
    found = page.table(["Text", "Label", "Prediction", "Loss"], rows)
    return f"<details><summary>{page.escape(named)}: the {len(rows)} worst errors</summary>\n{found}</details>"


def _reading(texts: Mapping[str, str]) -> Cell:
    """The first text, the others under it, each by its name."""
    told = [f"{name}: {text}" for name, text in texts.items()]
    return Cell(told[0] if told else "", " \N{MIDDLE DOT} ".join(told[1:]))


def _answered(error: Mapping[str, Any]) -> str:
    """The prediction, or what was said instead of one."""
    return _said(error["prediction"]) if error["prediction"] is not None else f"no answer: {error.get('said', '')!r}"


def _said(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


def _runs(trained: Sequence[Trained]) -> str:
    header = ["Run", "Steps", "Epochs", "Kept step", "Score", "Time"]
    rows = [
        [str(one.planned.place), f"{one.found['steps']:,}", f"{one.found['epochs']:.2f}", f"{one.found['step']:,}", _percent(one.headline),
         duration(one.found["seconds"])]
        for one in trained
    ]  # fmt: skip
    return page.table(header, rows)
