"""The pieces of a report's page: one HTML file that needs nothing else.

All text that comes in is escaped here, except where a parameter is called `html`.
"""

import dataclasses
import html as _html
import math
import shlex
from collections.abc import Iterable, Sequence

STYLE = """
:root { --ink: #1d232b; --soft: #5b6472; --line: #e4e7eb; --wash: #f6f7f9; --mark: #e8f2ea;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial, sans-serif;
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
* { box-sizing: border-box; }
html { background: #fff; -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 1120px; padding: 44px 40px 64px; color: var(--ink); font: 15px/1.5 var(--sans);
  -webkit-print-color-adjust: exact; print-color-adjust: exact; }
h1 { margin: 0; font-size: 30px; line-height: 1.2; font-weight: 650; letter-spacing: -.015em; overflow-wrap: anywhere; }
h2 { margin: 44px 0 14px; padding-top: 14px; border-top: 1px solid var(--line); font-size: 19px; font-weight: 650; }
h3 { margin: 20px 0 6px; font-size: 14px; font-weight: 600; }
p { margin: 8px 0; }
.lede { margin: 10px 0 4px; font-size: 17px; }
.soft { color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
pre { margin: 0; padding: 12px 14px; background: var(--wash); border: 1px solid var(--line); border-radius: 6px; overflow: auto;
  font: 12.5px/1.55 var(--mono); }
pre.command { white-space: pre-wrap; overflow-wrap: anywhere; user-select: all; -webkit-user-select: all; cursor: text; }
.figures { display: grid; grid-template-columns: repeat(var(--columns), 1fr); gap: 1px; margin: 22px 0 26px;
  border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
.figures div { padding: 12px 16px 11px; box-shadow: 0 0 0 1px var(--line); }
.figures dt { color: var(--soft); font-size: 12.5px; }
.figures dd { margin: 1px 0 0; font-size: 22px; line-height: 1.3; font-weight: 600; font-variant-numeric: tabular-nums; }
small { display: block; color: var(--soft); font-size: 12.5px; font-weight: 400; letter-spacing: 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th { padding: 6px 18px 6px 10px; color: var(--soft); font-size: 12.5px; font-weight: 500;
  text-align: right; vertical-align: bottom; border-bottom: 1px solid #c3c9d1; }
td { padding: 6px 18px 6px 10px; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); }
th.name, td.name { min-width: 8em; text-align: left; overflow-wrap: anywhere; }
td.best { background: var(--mark); font-weight: 650; }
table.code { width: 100%; table-layout: fixed; }
table.code td { font: 12.5px/1.5 var(--mono); text-align: left; overflow-wrap: anywhere; }
table.code th { text-align: left; }
.scroll { overflow-x: auto; }
header .scroll { margin-top: 20px; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 310px), 1fr)); gap: 24px 32px; }
figure { display: flex; flex-direction: column; justify-content: space-between; margin: 0; min-width: 0; break-inside: avoid; }
figure.wide { grid-column: 1 / -1; overflow-x: auto; }
figcaption { display: flex; flex-wrap: wrap; gap: 0 16px; align-items: baseline; margin-bottom: 4px; font-size: 13px; }
figcaption > b { flex: 1; font-size: 14px; font-weight: 600; }
.legend > b { flex-basis: 100%; }
.wide > figcaption > b { flex: 1; font-size: 15px; }
.key { color: var(--soft); font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.key i { display: inline-block; width: 16px; margin-right: 6px; border-top: 3px solid; vertical-align: 4px; }
.key i.dashed { border-top: 2px dashed; }
.key b { color: var(--ink); font-weight: 600; }
.wide svg { min-width: 560px; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: var(--sans) !important; font-variant-numeric: tabular-nums; }
.bar { display: flex; height: 34px; margin: 6px 0 14px; border-radius: 6px; overflow: hidden; gap: 1px; }
.bar span { min-width: 0; padding: 0 9px; overflow: hidden; color: #fff; font-size: 12.5px; font-weight: 600;
  line-height: 34px; white-space: nowrap; }
.bar span.narrow { padding: 0; color: transparent; font-size: 0; }
.swatch { display: inline-block; width: 10px; height: 10px; margin-right: 9px; border-radius: 2px; }
details { margin: 8px 0; }
summary { cursor: pointer; padding: 4px 0; font-weight: 500; }
details pre { max-height: 560px; margin: 6px 0 12px; }
footer { margin-top: 48px; color: var(--soft); font-size: 12.5px; }
@media (max-width: 760px) { body { padding: 24px 16px 40px; } .figures { grid-template-columns: 1fr 1fr; } }
@media print { @page { margin: 14mm; } body { max-width: none; padding: 0; font-size: 12px; }
  .plots { grid-template-columns: 1fr 1fr; } h2 { break-after: avoid; }
  details pre { max-height: none; white-space: pre-wrap; } tr, .figures, .bar { break-inside: avoid; } }
"""


@dataclasses.dataclass
class Cell:
    """A value with a remark under it; the best of its kind is marked. `swatch` is a colour before the text."""

    text: str
    note: str = ""
    best: bool = False
    swatch: str = ""


def escape(text: str) -> str:
    return _html.escape(text).encode("utf-8", "replace").decode()


def page(title: str, html: Iterable[str]) -> str:
    """The whole file. The policy keeps a page that holds foreign text from running or loading anything."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    body = "\n".join(part for part in html if part)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
{body}
<footer>Written by Rootstock. This file needs no other.</footer>
</body>
</html>
"""


def section(heading: str, html: str) -> str:
    """Nothing where there is nothing to show."""
    return f"<section>\n<h2>{escape(heading)}</h2>\n{html}\n</section>" if html else ""


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if text else ""


def table(header: Sequence[str], rows: Sequence[Sequence[Cell | str]], kind: str = "", names: int = 1) -> str:
    """The first columns hold names, the others numbers."""

    def tag(name: str, column: int, html: str, best: bool = False) -> str:
        classes = " ".join(["name"] * (column < names) + ["best"] * best)
        return f'<{name} class="{classes}">{html}</{name}>' if classes else f"<{name}>{html}</{name}>"

    def cell(column: int, value: Cell | str) -> str:
        value = Cell(value) if isinstance(value, str) else value
        return tag("td", column, _content(value), value.best)

    head = "".join(tag("th", column, escape(name)) for column, name in enumerate(header))
    body = "\n".join("<tr>" + "".join(cell(column, value) for column, value in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="{kind}">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def figures(values: Sequence[tuple[str, Cell]]) -> str:
    """The few numbers of a run that one looks for first."""
    boxes = "\n".join(f"<div><dt>{escape(label)}</dt><dd>{_content(value)}</dd></div>" for label, value in values)
    columns = math.ceil(len(values) / math.ceil(len(values) / 5)) if values else 0
    return f'<dl class="figures" style="--columns:{columns}">\n{boxes}\n</dl>' if values else ""


def _content(value: Cell) -> str:
    swatch = f'<span class="swatch" style="background:{value.swatch}"></span>' if value.swatch else ""
    note = f"<small>{escape(value.note)}</small>" if value.note else ""
    return swatch + escape(value.text) + note


def command(text: str) -> str:
    """One click selects the whole of it, ready to be copied."""
    return f'<pre class="command" title="A click selects the whole command">{escape(shell(text))}</pre>' if text else ""


def shell(text: str, width: int = 110) -> str:
    """The same command for a reader: quotes where they hurt least, and if it is long a line for each flag."""
    try:
        words = shlex.split(text)
    except ValueError:
        return text
    quoted = [f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word) for word in words]
    lines = [" ".join(quoted)]
    if len(lines[0]) > width:
        lines = [""]
        for word, text in zip(words, quoted, strict=True):
            lines = [*lines, text] if word.startswith("--") else [*lines[:-1], f"{lines[-1]} {text}".strip()]
    return " \\\n    ".join(lines)


def folded(summary: str, text: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>\n<pre>{escape(text)}</pre></details>" if text else ""


def key(colour: str, label: str, value: str, dashed: bool = False) -> str:
    """An entry of a picture's legend."""
    mark = f'<i class="{"dashed" if dashed else ""}" style="border-color:{colour}"></i>{escape(label)} ' if label else ""
    return f'<span class="key">{mark}<b>{escape(value)}</b></span>'


def remark(text: str) -> str:
    return f'<span class="key">{escape(text)}</span>'


def picture(title: str, html: str, keys: Sequence[str], wide: bool) -> str:
    """`html` is the picture, `keys` its legend."""
    caption = f'<figcaption class="{"legend" if len(keys) > 1 else ""}"><b>{escape(title)}</b>{"".join(keys)}</figcaption>'
    return f'<figure class="{"wide" if wide else ""}">{caption}\n{html}</figure>'


def bar(parts: Sequence[tuple[str, float, str]]) -> str:
    """A stacked bar of (label, share, colour)."""

    def part(label: str, share: float, colour: str) -> str:
        narrow = "narrow" if share < 0.015 * len(label) + 0.01 else ""
        style = f"flex:{share:.5f} 0 0;background:{colour}"
        return f'<span class="{narrow}" style="{style}" title="{escape(label)} {share:.1%}">{escape(label)}</span>'

    return f'<div class="bar">{"".join(part(*each) for each in parts)}</div>'
