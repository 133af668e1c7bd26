"""The table of an evaluation, as text and as a page: metrics, majority baseline, averages, published peers, what is missing."""

from collections.abc import Iterator

from rootstock.engine import page as pages
from rootstock.finetune import leaderboard
from rootstock.finetune.outcome import Outcome, Result

Row = list[str]

COUNTS = ("documents", "dropped", "rows", "full", "answers", "scored", "unlabelled")
FULL = "Full rows hold as many tokens as they may: what they were made of was cut, but for the few that just fit."
IN_WORDS = ("unread", "cut_inputs", "cut_targets")  # of answers in words


def table(outcome: Outcome) -> str:
    """Percentages, one line a task and metric, below what they are of."""
    header, rows = _rows(outcome)
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [
        "  ".join(_aligned(cell, width, column) for column, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in [header, *rows]
    ]
    return "\n".join([f"{outcome.split} rows, step {outcome.step}", *(line.rstrip() for line in lines), *_remarks(outcome)])


def page(outcome: Outcome, name: str) -> str:
    """evaluation.html."""
    header, rows = _rows(outcome)
    remarks = [pages.paragraph(remark) for remark in _remarks(outcome) if remark]
    columns = COUNTS + (IN_WORDS if any(result.predictions.said for result in outcome.results.values()) else ())
    counts = [[task, *(f"{result.counts.get(what, 0):,}" for what in columns)] for task, result in outcome.results.items()]
    return pages.page(
        f"Evaluation of {name}",
        [
            f"<header>\n<h1>{pages.escape(name)}</h1>",
            pages.paragraph(f"The {outcome.split} rows, by the checkpoint of step {outcome.step:,}.", "lede"),
            "</header>",
            pages.section("Scores", pages.table(header, rows, names=2) + "".join(remarks)),
            pages.section("Rows", pages.table(["task", *columns], counts) + pages.paragraph(FULL, "soft")),
        ],
    )


def _rows(outcome: Outcome) -> tuple[Row, list[Row]]:
    peers = _peers(outcome)
    header = ["task", "metric", "rows", "score", "majority", *(peer.name for peer in peers)]
    rows = []
    for name, result in outcome.results.items():
        majority = result.majority
        for metric, score in result.scores.items():
            published = [_one(peer.scores.get((name, metric))) for peer in peers]
            rows.append([name, metric, f"{result.predictions.scored:,}", _percent(score), _percent(majority.get(metric)), *published])
    return header, rows


def _remarks(outcome: Outcome) -> list[str]:
    told = []
    for average in outcome.averages():
        peers = [f"{peer.name} {peer.averages[average.name]:.1f}" for peer in _peers(outcome) if average.name in peer.averages]
        told.append(average.told() + (f"  ({', '.join(peers)})" if peers else ""))
    told += in_words(outcome)
    missing = [f"missing {name}: {why}" for name, why in outcome.missing.items()]
    return ["", *told, *(suite.where for suite in outcome.suites()), *missing] if told or missing else []


def in_words(outcome: Outcome) -> list[str]:
    """Of answers in words: the texts that are no answer, and the rows that were cut."""
    return [remark for name, result in outcome.results.items() for remark in _in_words(name, result)]


def _in_words(name: str, result: Result) -> Iterator[str]:
    unread = result.predictions.unread
    if unread:
        often, times = unread.most_common(1)[0]
        stand = "count as wrong" if result.predictions.scored else "say nothing (a submission has the first class, 0 or the text)"
        yield f"{name}: {unread.total():,} of {len(result.predictions):,} texts are no answer and {stand}; {times:,} are {often!r}"
    for side, length in (("inputs", "--length"), ("targets", "--target_length")):
        if count := result.counts.get(f"cut_{side}"):
            yield f"{name}: {count:,} of {len(result.split):,} {side} were longer than {length} and were cut"


def _peers(outcome: Outcome) -> list[leaderboard.Peer]:
    return [peer for suite in outcome.suites() for peer in suite.peers]


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column < 2 else cell.rjust(width)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _one(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
