"""report.html: what a person looks at after a run, or beside another run. One file, with the pictures inside."""

import itertools
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from rootstock.engine import page, plots, record
from rootstock.engine.model_dir import write_atomically
from rootstock.engine.page import Cell
from rootstock.engine.plots import COLOURS, Line, Panel, Reference, number
from rootstock.engine.record import Curve, Record

Sections = Iterable[tuple[str, str]]

# Metrics of training besides the loss: title and how it is drawn. Those not named here are drawn under their own name.
TRAINING = {
    "mlm_accuracy": dict(title="Masked-token accuracy", scale=100, unit="%", from_zero=True),
    "learning_rate": dict(title="Learning rate", from_zero=True),
    "grad_norm": dict(title="Gradient norm", from_zero=True),
    "tokens_per_second": dict(title="Tokens per second", from_zero=True),
    "mfu": dict(title="Model FLOP utilisation", scale=100, unit="%", from_zero=True),
    "memory_gb": dict(title="Peak device memory, GB", from_zero=True),
    "process_memory_gb": dict(title="Peak resident memory, GB", from_zero=True),
    "waiting": dict(title="Time waiting for data", scale=100, unit="%", from_zero=True),
    "step_seconds": dict(title="Seconds a step", from_zero=True),
}
MEMORY = {"memory_gb": "device, peak", "process_memory_gb": "process, peak resident"}
EXACT = {"learning_rate", *MEMORY}  # nothing to smooth
UNTRAINED = " Untrained: the same model before its first step, all weights random, or its heads where it goes on from a pretrained encoder."
CATEGORIES = {"train": "#2463a8", "compile": "#7b6bb0", "init": "#98a2b0", "data": "#d2691e", "evaluate": "#2f8f6b", "save": "#b59a2d"}


def write(model_dir: str | pathlib.Path, title: str | None = None, sections: Sections = ()) -> pathlib.Path:
    """Writes MODEL_DIR/report.html from the other files there. `sections` are more headings with their HTML, set after the results."""
    run = record.read(model_dir)
    return _write(pathlib.Path(model_dir) / "report.html", title or run.name, [run], sections)


def compare_runs(
    named: Mapping[str, str | pathlib.Path], out: str | pathlib.Path, title: str | None = None, sections: Sections = ()
) -> pathlib.Path:
    """Writes `out`: the MODEL_DIRs of `named` side by side, their curves in the same pictures and a column for each in the tables."""
    runs = [record.read(folder, name) for name, folder in named.items()]
    *names, last = named
    return _write(pathlib.Path(out), title or f"{', '.join(names)} and {last}", runs, sections)


def excerpt(model_dir: str | pathlib.Path) -> str:
    """The head and the pictures of one run as HTML, for a section of another report."""
    run = record.read(model_dir)
    drawn = "\n".join(_picture(panel) for panel in panels([run])[:2])
    return "\n".join([*_head([run]), f'<div class="plots">\n{drawn}\n</div>'])


def _write(path: pathlib.Path, title: str, runs: Sequence[Record], sections: Sections) -> pathlib.Path:
    drawn = "\n".join(_picture(panel) for panel in panels(runs))
    parts = [
        f"<header>\n<h1>{page.escape(title)}</h1>",
        *_head(runs),
        "</header>",
        page.section("Results", evaluation_table(runs)),
        *(page.section(heading, html) for heading, html in sections),
        page.section("Curves", f'<div class="plots">\n{drawn}\n</div>' if drawn else ""),
        page.section("Where the time went", _goodput([run for run in runs if run.goodput])),
        page.section("What differs", _differences(runs)),
        page.section("Configuration", "\n".join(_configuration(run, len(runs) > 1) for run in runs)),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.page(title, parts))
    return path


# The head: the first thing one wants to know.


def _head(runs: Sequence[Record]) -> list[str]:
    if len(runs) == 1:
        (run,) = runs
        numbers = page.figures(list(figures(run).items()))
        return [page.paragraph(headline(run), "lede"), numbers, page.command(run.command), page.paragraph(run.versions, "soft")]
    columns = [figures(run) for run in runs]
    labels = dict.fromkeys(label for column in columns for label in column)
    rows = [[label, *(column.get(label, "") for column in columns)] for label in labels]
    silent = [page.paragraph(f"{run.name}: {headline(run)}", "lede") for run in runs if not run.curves]
    return [*silent, page.table(["", *(run.name for run in runs)], rows) if rows else ""]


def headline(run: Record) -> str:
    """The run in one line."""
    loss, validation = run.train("loss"), run.validation_loss()
    if loss is None and not run.curves:
        return "The run has not written a metric yet."
    parts = [f"{loss.steps[-1]:,} steps in {duration(run.seconds)}: training loss {_nat(loss.last)}"] if loss is not None else []
    if validation:
        task, curve = validation
        parts.append(f"validation loss {_nat(curve.last)}{_against_entropy(run, task, curve)}")
    if (speed := _typical(run, "tokens_per_second")) is not None:
        parts.append(f"{number(speed)} tokens/s")
    if (share := _typical(run, "mfu")) is not None:
        parts.append(f"MFU {share:.0%}")
    text = ", ".join(parts) if parts else f"{len(run.evaluated())} evaluation results"
    return text[0].upper() + text[1:] + "."


def _against_entropy(run: Record, task: str, curve: Curve) -> str:
    entropy = run.baselines.get((task, record.ENTROPY))
    if entropy is None or math.isnan(curve.last):
        return ""
    difference = entropy - curve.last
    return f" ({abs(difference):.3f} nat {'below' if difference >= 0 else 'above'} the unigram entropy {_nat(entropy)})"


def _nat(loss: float) -> str:
    return f"{loss:.3f}" if math.isfinite(loss) else "NaN"


def figures(run: Record) -> dict[str, Cell]:
    """The few numbers that one looks for first, by label."""
    found: dict[str, Cell] = {}
    if (loss := run.train("loss")) is not None:
        found["Training loss"] = Cell(_nat(loss.last), f"at step {loss.steps[-1]:,}")
    if validation := run.validation_loss():
        task, curve = validation
        found["Validation loss"] = Cell(_nat(curve.last), task)
        if (entropy := run.baselines.get((task, record.ENTROPY))) is not None:
            found["Loss less unigram entropy"] = Cell(_signed(curve.last - entropy), f"of {_nat(entropy)} nat")
    if (speed := _typical(run, "tokens_per_second")) is not None:
        found["Tokens per second"] = Cell(number(speed), "median")
    if (share := _typical(run, "mfu")) is not None:
        found["MFU"] = Cell(f"{share:.1%}", "median")
    for name, kind in MEMORY.items():
        if (used := run.train(name)) is not None:
            found["Memory"] = Cell(f"{number(used.values.max())} GB", kind)
    if run.seconds:
        training = run.goodput.get("train", 0.0) / run.seconds
        found["Time"] = Cell(duration(run.seconds), f"{training:.0%} of it training" if training else "")
    if run.parameters:
        found["Parameters"] = Cell(run.parameters)
    return found


def _signed(difference: float) -> str:
    return f"{difference:+.3f}".replace("-", "\N{MINUS SIGN}") if math.isfinite(difference) else "NaN"


def _typical(run: Record, name: str) -> float | None:
    """The median of a metric of training."""
    curve = run.train(name)
    values = curve.values[np.isfinite(curve.values)] if curve is not None else np.zeros(0)
    return float(np.median(values)) if len(values) else None


def duration(seconds: float) -> str:
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


# Results: what was evaluated, last.


def evaluation_table(runs: Sequence[Record]) -> str:
    """A row for each task with a column for each metric, or, of several runs, a row for each metric with a column for each run."""
    keys = dict.fromkeys(key for run in runs for key in run.evaluated())
    if not keys:
        return ""
    rows = {key: _scores(runs, key) for key in keys}
    untrained = any(curve.untrained is not None for run in runs for curve in run.evaluated().values())
    table = _metrics_down(runs, rows) if len(runs) > 1 else _metrics_across(runs[0], rows)
    return table + page.paragraph("Marked: the best of a row and metric." + UNTRAINED * untrained, "soft")


def _metrics_down(runs: Sequence[Record], rows: Mapping[tuple[str, str], Sequence[Cell]]) -> str:
    """A column for each run; what a run scored untrained stands under its last value."""
    shown = [0] if any(cells[0].text for cells in rows.values()) else []
    header = ["Task", "Metric", *("Baseline" for _ in shown), *(run.name for run in runs)]
    return page.table(header, [[*key, *(cells[i] for i in shown), *cells[2:]] for key, cells in rows.items()], names=2)


def _metrics_across(run: Record, rows: Mapping[tuple[str, str], Sequence[Cell]]) -> str:
    """For each metric what was measured of baseline, untrained model and run, in columns side by side."""
    tasks, metrics = dict.fromkeys(task for task, _ in rows), dict.fromkeys(metric for _, metric in rows)
    steps = {task: max(curve.steps[-1] for (t, _), curve in run.evaluated().items() if t == task) for task in tasks}
    header, body = ["Task"], [[Cell(task, f"step {steps[task]:,}")] for task in tasks]
    for metric in metrics:
        found = [rows.get((task, metric), [Cell("")] * 3) for task in tasks]
        shown = [i for i in range(3) if any(cells[i].text for cells in found)]
        header += [("baseline", "untrained", metric)[i] for i in shown]
        for row, cells in zip(body, found, strict=True):
            row += [cells[i] for i in shown]
    return page.table(header, body)


def _scores(runs: Sequence[Record], key: tuple[str, str]) -> list[Cell]:
    """The baseline, the untrained model where there is one run, and the last value of every run; the best of them marked."""
    known = next((found for run in runs if (found := run.baseline(*key))), None)
    curves = [run.evaluated().get(key) for run in runs]
    untrained = [None if curve is None else curve.untrained for curve in curves]
    values = [known and known[1], untrained[0] if len(runs) == 1 else None, *(curve and curve.last for curve in curves)]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    best = (min if lower_is_better(key[1]) else max)(finite) if len(finite) > 1 else None
    cells = [Cell("" if value is None else fixed(value), best=value is not None and value == best) for value in values]
    cells[0].note = known[0] if known else ""
    if len(runs) > 1:
        for cell, first in zip(cells[2:], untrained, strict=True):
            cell.note = "" if first is None else f"untrained {fixed(first)}"
    return cells


def lower_is_better(metric: str) -> bool:
    return any(word in metric for word in ("loss", "perplexity", "error", "entropy", "unread"))


def fixed(value: float) -> str:
    """For columns: four decimals, so that the points stand under each other."""
    return f"{value:,.4f}" if math.isfinite(value) else "NaN"


# Curves.


def panels(runs: Sequence[Record]) -> list[Panel]:
    """The pictures: losses and scores first, then the optimizer, then the machine."""
    shown = [*_losses(runs), *_evaluations(runs)]
    others = dict.fromkeys(name for run in runs for split, task, name in run.curves if split == "train" and not task and name != "loss")
    taken = {f"{metric}/{task}" for run in runs for task, metric in run.evaluated()}
    named = [name for name in TRAINING if name in others] + [name for name in others if name not in TRAINING and name not in taken]
    return shown + [Panel(lines=_training(runs, name), **TRAINING.get(name, dict(title=f"{name}, training"))) for name in named]


def _training(runs: Sequence[Record], name: str) -> list[Line]:
    found = [(run, colour, run.train(name)) for run, colour in zip(runs, _colours(runs), strict=True)]
    return [Line(run.name if len(runs) > 1 else "", curve, colour, name not in EXACT) for run, colour, curve in found if curve is not None]


def _losses(runs: Sequence[Record]) -> list[Panel]:
    """Training loss over the whole width; with it the validation loss, where there is one run and one such loss."""
    lines, references = _training(runs, "loss"), []
    if len(runs) == 1 and (validation := runs[0].validation_loss()):
        task, curve = validation
        for line in lines:
            line.label = "training"
        lines.append(Line(f"validation, {task}", curve, COLOURS[1], noisy=False))
        references = _references(runs, task, "loss")
    title = "Loss" if len(lines) > 1 and len(runs) == 1 else "Training loss"
    return [Panel(title, lines, references, wide=True)] if lines else []


def _evaluations(runs: Sequence[Record]) -> list[Panel]:
    """A picture for each task and metric that was evaluated more than once, with the same metric in training where it was measured."""
    shown = []
    alone = runs[0].validation_loss() if len(runs) == 1 else None
    for task, metric in sorted(dict.fromkeys(key for run in runs for key in run.evaluated()), key=lambda key: (key[1] != "loss", key)):
        if alone and metric == "loss":
            continue
        lines = []
        for run, colour in zip(runs, _colours(runs), strict=True):
            curve, training = run.evaluated().get((task, metric)), run.train(f"{metric}/{task}")
            if training is not None and len(runs) == 1:
                lines.append(Line("training", training, COLOURS[0]))
            if curve is not None:
                lines.append(Line(run.name if len(runs) > 1 else "validation", curve, colour if len(runs) > 1 else COLOURS[1], noisy=False))
        if any(len(line.curve.steps) > 1 for line in lines):
            shown.append(Panel(f"{task}: {metric}", lines, _references(runs, task, metric)))
    return shown


def _references(runs: Sequence[Record], task: str, metric: str) -> list[Reference]:
    found = dict.fromkeys(baseline for run in runs if (baseline := run.baseline(task, metric)))
    return [Reference(label, value) for label, value in found]


def _colours(runs: Sequence[Record]) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(len(runs))]


def _picture(panel: Panel) -> str:
    def value(x: float) -> str:
        return number(x * panel.scale) + panel.unit

    keys = [page.key(line.colour, line.label, value(line.curve.last)) for line in panel.lines]
    keys += [page.key(reference.colour, reference.label, value(reference.value), dashed=True) for reference in panel.references]
    lost = sum(int(np.isnan(line.curve.values).sum()) for line in panel.lines)
    keys += [page.remark(f"{lost} {'value is' if lost == 1 else 'values are'} no finite number")] if lost else []
    return page.picture(panel.title, plots.svg(panel), keys, panel.wide)


# Time and configuration.


def _goodput(runs: Sequence[Record]) -> str:
    """A bar for each run, and a table of seconds and shares by category."""
    spent = [(run, sum(run.goodput.values()) or 1.0) for run in runs]
    together = {name: sum(run.goodput.get(name, 0.0) for run in runs) for run in runs for name in run.goodput}
    order = sorted(together, key=lambda name: (name != "train", -together[name], name))
    if not order:
        return ""
    spare = itertools.cycle(COLOURS[4:])
    colours = {name: CATEGORIES.get(name) or next(spare) for name in order}
    bars = []
    for run, total in spent:
        parts = [(name, run.goodput.get(name, 0.0) / total, colours[name]) for name in order]
        bars.append(_heading(run, len(runs) > 1) + page.bar(parts))
    header = [f"{run.name}: {what}" if len(runs) > 1 else what for run in runs for what in ("seconds", "share")]
    rows = [[Cell(name, swatch=colours[name]), *_seconds_and_share(spent, name)] for name in order]
    whole = [text for _, total in spent for text in (f"{total:,.1f}", "100.0%")]
    return "\n".join(bars) + page.table(["", *header], [*rows, ["all", *whole]])


def _seconds_and_share(spent: Sequence[tuple[Record, float]], name: str) -> list[str]:
    return [text for run, total in spent for text in (f"{run.goodput.get(name, 0.0):,.1f}", f"{run.goodput.get(name, 0.0) / total:.1%}")]


def _differences(runs: Sequence[Record]) -> str:
    """Statements of config.gin that are not the same in all runs."""
    if len(runs) < 2:
        return ""
    from rootstock.engine.resume import bindings  # Imports the checkpoint library, which a single report does without.

    configs = [bindings(run.config) for run in runs]
    names = sorted(name for name in set().union(*configs) if len({config.get(name) for config in configs}) > 1)
    rows = [[name, *(config.get(name, "\N{EM DASH}") for config in configs)] for name in names]
    return page.table(["", *(run.name for run in runs)], rows, "code") if rows and all(configs) else ""


def _configuration(run: Record, several: bool) -> str:
    parts = [
        page.folded("config.gin: the operative configuration", run.config),
        page.folded("config.json: the model, to be rebuilt without a recipe", record.pretty(run.config_json)),
        page.folded(f"model-info.txt: {run.parameters} parameters", run.model_info),
    ]
    if several:
        parts = [page.command(run.command), page.paragraph(run.versions, "soft"), *parts]
    return _heading(run, several) + "\n".join(parts) if any(parts) else ""


def _heading(run: Record, several: bool) -> str:
    return f"<h3>{page.escape(run.name)}</h3>\n" if several else ""
