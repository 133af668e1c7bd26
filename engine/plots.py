"""Small pictures of curves over steps, as SVG to be set into a page. They hold numbers only; titles and legends are the page's own text."""

import dataclasses
import io
import re
from collections.abc import Sequence

import numpy as np

from rootstock.engine.record import Curve

POINTS = 1000  # more do not show in a picture of this size
COLOURS = ("#2463a8", "#d2691e", "#2f8f6b", "#8456a8", "#b23a48", "#7a7a28", "#4a9bb5", "#6b7280")
ROUND = [1, 2, 2.5, 5, 10]  # of which the distances along an axis are multiples
INK, FAINT = "#5b6472", "#e4e7eb"
LOOK = {
    "svg.fonttype": "none", "font.size": 8.5, "axes.axisbelow": True, "axes.edgecolor": "#c3c9d1", "axes.linewidth": 0.8,
    "xtick.color": INK, "ytick.color": INK, "xtick.major.size": 3, "ytick.major.size": 0, "xtick.major.width": 0.8,
}  # fmt: skip


@dataclasses.dataclass
class Line:
    """A curve of a panel. `noisy` ones are drawn light, with a smoothed line over them; others as they are, with their points."""

    label: str
    curve: Curve
    colour: str = COLOURS[0]
    noisy: bool = True


@dataclasses.dataclass
class Reference:
    """A value to compare with: a dashed horizontal line."""

    label: str
    value: float
    colour: str = INK


@dataclasses.dataclass
class Panel:
    """One picture. Values are drawn times `scale`; `from_zero` begins the axis there, where size counts and not only change."""

    title: str
    lines: Sequence[Line]
    references: Sequence[Reference] = ()
    scale: float = 1.0
    unit: str = ""
    from_zero: bool = False
    wide: bool = False


def number(value: float) -> str:
    """Four digits, shortly: 8.226, 4,655, 0.0312, 2e-5."""
    if not np.isfinite(value):
        return "NaN"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if value and abs(value) < 0.01:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.4g}"


def thinned(curve: Curve, points: int = POINTS) -> Curve:
    """At most that many points: the least and the greatest value of each stretch, so that no spike is lost."""
    if len(curve.steps) <= points:
        return curve
    kept = []
    for stretch in np.array_split(np.arange(len(curve.steps)), points // 2):
        finite = stretch[np.isfinite(curve.values[stretch])]
        among = finite if len(finite) else stretch[:1]
        kept += sorted({among[np.argmin(curve.values[among])], among[np.argmax(curve.values[among])]})
    return Curve(curve.steps[kept], curve.values[kept])


def smoothed(curve: Curve, points: int = POINTS // 2) -> Curve:
    """A weighted mean over neighbours: a Gaussian, 1/60 of the curve wide, less at its steep beginning. NaN weighs nothing."""
    pieces = np.array_split(np.arange(len(curve.steps)), min(points, len(curve.steps)))
    known = np.array([np.isfinite(curve.values[piece]).sum() for piece in pieces], float)
    total = np.array([np.nansum(curve.values[piece]) for piece in pieces])
    place = np.arange(len(pieces))
    width = np.clip(place / 3, 0.1, max(len(pieces) / 60, 0.1))
    kernel = np.exp(-0.5 * ((place - place[:, None]) / width[:, None]) ** 2)
    weight = kernel @ known
    mean = np.divide(kernel @ total, weight, out=np.full(len(pieces), np.nan), where=weight > 1e-9)
    return Curve(np.array([curve.steps[piece].mean() for piece in pieces]), mean)


def svg(panel: Panel) -> str:
    """The picture; it takes the width that the page gives it."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever style the user has set
        matplotlib.rcParams.update(LOOK | {"svg.hashsalt": ascii(panel.title)})  # no two panels share an id
        figure = Figure(figsize=(10.4, 3.1) if panel.wide else (3.4, 1.75))
        axes = figure.add_axes((0.04, 0.09, 0.955, 0.88) if panel.wide else (0.13, 0.145, 0.85, 0.80))
        drawn = [_draw(axes, line, panel) for line in panel.lines]
        for reference in panel.references:
            axes.axhline(reference.value * panel.scale, color=reference.colour, linewidth=1.1, dashes=(5, 3))
        _frame(axes, panel, drawn)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _bare(text.getvalue())


def _draw(axes, line: Line, panel: Panel) -> np.ndarray:
    """Draws and returns the values that must be in view."""
    curve = Curve(line.curve.steps, line.curve.values * panel.scale)
    weight = 1.15 if panel.wide else 1.0
    if not line.noisy or len(curve.steps) < 20:
        shown = thinned(curve)
        marker = "o" if len(shown.steps) <= 40 else None
        axes.plot(shown.steps, shown.values, color=line.colour, linewidth=1.5 * weight, marker=marker, markersize=3.2 * weight)
        return shown.values
    raw, smooth = thinned(curve), smoothed(curve)
    axes.plot(raw.steps, raw.values, color=line.colour, alpha=0.28, linewidth=0.7)
    axes.plot(smooth.steps, smooth.values, color=line.colour, linewidth=1.5 * weight)
    return np.concatenate([smooth.values, _without_outliers(curve.values)])


def _without_outliers(values: np.ndarray) -> np.ndarray:
    """The finite values, less the few that would press all others flat."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return finite
    low, high = np.quantile(finite, (0.01, 0.99))
    room = high - low
    return finite[(finite >= low - room) & (finite <= high + room)]


def _frame(axes, panel: Panel, drawn: list[np.ndarray]) -> None:
    """Limits, grid and the numbers along the axes."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    values = np.concatenate([*drawn, [r.value * panel.scale for r in panel.references], [0.0] if panel.from_zero else []])
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    axes.set_ylim(low if panel.from_zero and low == 0 else low - room, high + room)
    first = min(line.curve.steps[0] for line in panel.lines)
    last = max(line.curve.steps[-1] for line in panel.lines)
    room = 0.015 * last or 1
    axes.set_xlim(min(0, first) - room * (first <= 0), last + room)  # no point lies on the edge
    axes.xaxis.set_major_locator(MaxNLocator(8 if panel.wide else 4, integer=True, steps=ROUND))
    axes.yaxis.set_major_locator(MaxNLocator(6 if panel.wide else 4, steps=ROUND))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: _steps(step)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value) + panel.unit))
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _steps(step: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(step) >= 10 * size or (abs(step) >= size and step % (size / 10) == 0):
            return f"{step / size:g}{letter}"
    return f"{step:g}"


def _bare(text: str) -> str:
    """An svg element for HTML: no prologue, no metadata, no addresses of schemas, no size of its own, only ids that something refers to."""
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", text)
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)[0]
    body = body.replace("xlink:href", "href").replace("\n", " ")
    return f'<svg {box} role="img">' + re.sub(r" {2,}", " ", body).strip()
