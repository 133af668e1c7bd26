"""The files that the SuperGLUE and GLUE leaderboards take, from predictions on the test rows.

SuperGLUE   NAME.jsonl, {"idx", "label"} a line: BoolQ and WiC "true" or "false", WSC "True" or "False", COPA 0 or 1, CB, RTE and AX the
            name of the class, ReCoRD the text of an entity and the number of the query, MultiRC the answers nested in questions in
            paragraphs
GLUE        NAME.tsv, "index" and "prediction" with a tab between: MNLI, QNLI, RTE and AX the name of the class, STS-B a number from
            0 to 5, the others the number of the class
"""

import dataclasses
import json
import pathlib
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rootstock.data.suites.official import COUNTS
from rootstock.engine.errors import UserError
from rootstock.finetune import tasks
from rootstock.finetune.outcome import Result
from rootstock.finetune.predictions import NONE, Predictions

Told = Callable[[Predictions, int], Any]  # the prediction of a row as the leaderboard wants it


@dataclasses.dataclass(frozen=True)
class File:
    """A file of the archive, and what is written into it."""

    name: str
    write: Callable[[Predictions], str]


def write(path: str | pathlib.Path, predictions: Mapping[str, Predictions]) -> list[str]:
    """Writes the archive; the files that its leaderboard wants and that are not in it."""
    suite = _suite(predictions)
    texts = {FILES[name].name: _text(FILES[name], found) for name, found in predictions.items()}
    unfinished = pathlib.Path(f"{path}.tmp")
    try:
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in texts.items():  # no clock in it: the same predictions make the same bytes
                archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
        unfinished.replace(path)
    except OSError as error:
        raise UserError(f"--submission={path} cannot be written: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return [FILES[name].name for name in tasks.names(suite) if name not in predictions]


def partial(results: Mapping[str, Result]) -> list[str]:
    """Which files have other numbers of rows than the official test sets, and how many."""
    told = []
    for name, result in results.items():
        official, found = COUNTS[result.split.rows.set.tfds][result.split.split][0], len(result.predictions)
        if found != official:
            told.append(f"{FILES[name].name} has {found:,} of the official {official:,} rows")
    return told


def _text(file: File, p: Predictions) -> str:
    answers = p.answers if p.answers.dtype == object else np.where(p.answers == NONE, 0, p.answers)
    try:
        return file.write(dataclasses.replace(p, answers=answers))
    except UserError as error:
        raise UserError(f"{file.name}: {error}") from error


def check(names: list[str]) -> None:
    """Refuses tasks that no leaderboard takes together."""
    unknown = [name for name in names if name not in FILES]
    if unknown:
        raise UserError(f"no leaderboard takes {', '.join(unknown)}; --submission is for the tasks {', '.join(FILES)}")
    _suite(dict.fromkeys(names))


def _suite(names: Mapping[str, Any]) -> str:
    for suite in ("superglue", "glue"):
        if set(names) <= set(tasks.names(suite)):
            return suite
    raise UserError(f"--submission is for the tasks of one leaderboard, SuperGLUE's or GLUE's, not of both: {', '.join(names)}")


def _jsonl(told: Told) -> Callable[[Predictions], str]:
    def text(p: Predictions) -> str:
        return _lines({"idx": idx, "label": told(p, row)} for row, idx in enumerate(p.idx.tolist()))

    return text


def _tsv(told: Told) -> Callable[[Predictions], str]:
    def text(p: Predictions) -> str:
        rows = sorted((idx, told(p, row)) for row, idx in enumerate(p.idx.tolist()))
        for number, (idx, _) in enumerate(rows):
            if idx != number:
                raise UserError(
                    f"the rows of a GLUE test set are numbered from 0 to {len(rows) - 1} without a gap; row {number} has number {idx}: "
                    "rows were left out, or this is not the official file"
                )
        return "index\tprediction\n" + "".join(f"{idx}\t{value}\n" for idx, value in rows)

    return text


def _record(p: Predictions) -> str:
    return _lines({"idx": query, "label": answer} for (_, query), answer in zip(p.idx.tolist(), p.answers, strict=True))


def _multirc(p: Predictions) -> str:
    paragraphs: dict[int, dict[int, list[dict[str, int]]]] = {}
    for (paragraph, question, answer), label in zip(p.idx.tolist(), p.answers.tolist(), strict=True):
        paragraphs.setdefault(paragraph, {}).setdefault(question, []).append({"idx": answer, "label": label})
    return _lines(
        {"idx": paragraph, "passage": {"questions": [{"idx": question, "answers": answers} for question, answers in asked.items()]}}
        for paragraph, asked in paragraphs.items()
    )


def _lines(values: Any) -> str:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def _name(p: Predictions, row: int) -> str:
    return p.labels[p.answers[row]]


def _number(p: Predictions, row: int) -> int:
    return int(p.answers[row])


def _lower(p: Predictions, row: int) -> str:
    return ("false", "true")[p.answers[row]]


def _capital(p: Predictions, row: int) -> str:
    return ("False", "True")[p.answers[row]]


def _score(p: Predictions, row: int) -> str:
    return f"{np.clip(p.answers[row], 0, 5):.3f}"


FILES = {
    "boolq": File("BoolQ.jsonl", _jsonl(_lower)),
    "cb": File("CB.jsonl", _jsonl(_name)),
    "copa": File("COPA.jsonl", _jsonl(_number)),
    "multirc": File("MultiRC.jsonl", _multirc),
    "record": File("ReCoRD.jsonl", _record),
    "rte": File("RTE.jsonl", _jsonl(_name)),
    "wic": File("WiC.jsonl", _jsonl(_lower)),
    "wsc": File("WSC.jsonl", _jsonl(_capital)),
    "axb": File("AX-b.jsonl", _jsonl(_name)),
    "axg": File("AX-g.jsonl", _jsonl(_name)),
    "cola": File("CoLA.tsv", _tsv(_number)),
    "sst2": File("SST-2.tsv", _tsv(_number)),
    "mrpc": File("MRPC.tsv", _tsv(_number)),
    "stsb": File("STS-B.tsv", _tsv(_score)),
    "qqp": File("QQP.tsv", _tsv(_number)),
    "mnli": File("MNLI-m.tsv", _tsv(_name)),
    "mnli_mismatched": File("MNLI-mm.tsv", _tsv(_name)),
    "qnli": File("QNLI.tsv", _tsv(_name)),
    "glue_rte": File("RTE.tsv", _tsv(_name)),
    "wnli": File("WNLI.tsv", _tsv(_number)),
    "ax": File("AX.tsv", _tsv(_name)),
}
