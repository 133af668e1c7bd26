"""GLUE's sets (Wang et al. 2018, arXiv 1804.07461), and their official tsv files as examples: DIR/CoLA/train.tsv and so on.

A file is read as TFDS reads it: no quoting, `idx` is the number of the row from 0. Known oddities, and what becomes of them:

    CoLA      train and dev have no header
    MRPC      a byte-order mark; read from Microsoft's own files with dev_ids.tsv where they are, as TFDS does (`idx` is then the row of
              msr_paraphrase_train.txt), else from train.tsv and dev.tsv; its test labels are not used
    QQP       copies without a header; rows with too few or too many fields, or no label, are skipped and counted, as TFDS does

A label "-" means that the annotators did not agree: the row is skipped and counted. Any other unknown label, and outside QQP a row
with another number of fields than the header, is a mistake.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from rootstock.data import files
from rootstock.data.errors import DataError
from rootstock.data.jsonl import Record
from rootstock.data.suites.examples import UNLABELLED, Examples, Skipped, may_lack_labels, no_agreement
from rootstock.data.suites.sets import Set

_SCORES = (0.0, 5.0)
_MICROSOFT = "msr_paraphrase_"


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of a file make an example."""

    texts: Mapping[str, str]  # feature -> column
    label: str
    headerless: tuple[str, ...] = ()  # the columns of a file without a header, where such files are known
    skips: bool = False  # whether malformed rows are known, and skipped


def _read(of: Set, split: str, paths: list[Path]) -> Examples:
    for number, row in enumerate(_rows(of.rows, paths[0])):
        if isinstance(row, Skipped):
            yield row
            continue
        yield _example(of, row, number, may_lack_labels(split))


def _read_mrpc(of: Set, split: str, paths: list[Path]) -> Examples:
    """Microsoft's train file holds GLUE's train and validation splits; dev_ids.tsv tells them apart."""
    held_out = {tuple(line.split("\t")) for path in paths[1:] for line in files.open_text(path).read().split("\n") if line}
    for number, row in enumerate(_rows(of.rows, paths[0])):
        if held_out and ((row.text("#1 ID"), row.text("#2 ID")) in held_out) != (split == "validation"):
            continue
        hidden = split == "test"  # Microsoft's test file has the labels that GLUE keeps to itself
        shown = Record({key: value for key, value in row.values.items() if not (hidden and key == of.rows.label)}, row.where)
        yield _example(of, shown, number, may_lack_labels(split))


def _rows(columns: Columns, path: Path) -> Iterator[Record | Skipped]:
    """The rows of a tsv file by column; blank lines do not count."""
    names: list[str] | None = None
    with files.open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip("\n"):
                continue
            fields, where = line.rstrip("\n").split("\t"), f"'{path}' line {number}"
            if names is None:
                names = _header(columns, fields, where)
                if names == fields:
                    continue
            if len(fields) == len(names):
                yield Record(dict(zip(names, fields, strict=True)), where)
                continue
            found = f"{len(fields)} field{'s' * (len(fields) != 1)}, expected {len(names)} ({', '.join(names)})"
            if not columns.skips:
                raise DataError(f"{where} has {found}.")
            yield Skipped(where, f"it has {found}")


def _header(columns: Columns, fields: list[str], where: str) -> list[str]:
    needed = columns.texts.values()
    if all(column in fields for column in needed):
        return fields
    if columns.headerless:
        return list(columns.headerless)
    raise DataError(f"{where} should be a header with {', '.join(map(repr, needed))}. Seen: {', '.join(map(repr, fields))[:200]}")


def _example(of: Set, row: Record, number: int, optional: bool) -> Record | Skipped:
    columns: Columns = of.rows
    said = row.values.get(columns.label)
    if said == "-":
        return no_agreement(row.where)
    if said == "" and columns.skips:
        return Skipped(row.where, f"its '{columns.label}' is empty")
    if said is None and optional:
        label = UNLABELLED if of.labels else float(UNLABELLED)
    else:
        label = _class(row, columns.label, of.labels) if of.labels else _score(row, columns.label)
    texts = {feature: row.text(column) for feature, column in columns.texts.items()}
    return Record(texts | {"label": label, "idx": number}, row.where)


def _class(row: Record, column: str, labels: tuple[str, ...]) -> int:
    """Files name classes, or number them."""
    numbered = [str(index) for index in range(len(labels))]
    value = row.text(column)
    for names in (labels, numbered):
        if value in names:
            return names.index(value)
    raise row.wrong(f"'{column}' is {value!r}, expected one of {', '.join(labels)}, or their numbers {', '.join(numbered)}")


def _score(row: Record, column: str) -> float:
    value = row.text(column)
    try:
        score = float(value)
    except ValueError:
        score = float("nan")
    if not _SCORES[0] <= score <= _SCORES[1]:
        raise row.wrong(f"'{column}' is {value!r}, expected a number from {_SCORES[0]:g} to {_SCORES[1]:g}")
    return float(np.float32(score))  # as precise as TFDS keeps it


_SPLITS = {"train": [("train.tsv",)], "validation": [("dev.tsv",)], "test": [("test.tsv",)]}
_MNLI_SPLITS = {"train": [("train.tsv",)]} | {
    f"{split}_{kind}": [(f"{stem}_{kind}.tsv",)]
    for split, stem in (("validation", "dev"), ("test", "test"))
    for kind in ("matched", "mismatched")
}
_MRPC_SPLITS = {
    "train": [(f"{_MICROSOFT}train.txt", "dev_ids.tsv"), ("train.tsv",)],
    "validation": [(f"{_MICROSOFT}train.txt", "dev_ids.tsv"), ("dev.tsv",)],
    "test": [(f"{_MICROSOFT}test.txt",), ("test.tsv",)],
}


def _set(config: str, folder: str, labels: tuple[str, ...], columns: Columns, files=_SPLITS, read=_read) -> Set:
    name = "glue_rte" if config == "rte" else config  # SuperGLUE has an rte too
    return Set(name, f"glue/{config}", folder, files, labels, tuple(columns.texts), read, columns)


_SENTENCE = {"sentence": "sentence"}
_SENTENCES = {"sentence1": "sentence1", "sentence2": "sentence2"}
_QUESTIONS = {"question1": "question1", "question2": "question2"}
_PREMISE = {"premise": "sentence1", "hypothesis": "sentence2"}
_ENTAILMENT = ("entailment", "not_entailment")
_NLI = ("entailment", "neutral", "contradiction")
_COLA = Columns(_SENTENCE, "is_acceptable", ("source", "is_acceptable", "original", "sentence"))
_QQP = Columns(_QUESTIONS, "is_duplicate", ("id", "qid1", "qid2", "question1", "question2", "is_duplicate"), skips=True)
_MRPC = Columns({"sentence1": "#1 String", "sentence2": "#2 String"}, "Quality")

SETS = {
    each.name: each
    for each in (
        _set("cola", "CoLA", ("unacceptable", "acceptable"), _COLA),
        _set("sst2", "SST-2", ("negative", "positive"), Columns(_SENTENCE, "label")),
        _set("mrpc", "MRPC", ("not_equivalent", "equivalent"), _MRPC, _MRPC_SPLITS, _read_mrpc),
        _set("stsb", "STS-B", (), Columns(_SENTENCES, "score")),
        _set("qqp", "QQP", ("not_duplicate", "duplicate"), _QQP),
        _set("mnli", "MNLI", _NLI, Columns(_PREMISE, "gold_label"), _MNLI_SPLITS),
        _set("qnli", "QNLI", _ENTAILMENT, Columns({"question": "question", "sentence": "sentence"}, "label")),
        _set("rte", "RTE", _ENTAILMENT, Columns(_SENTENCES, "label")),
        _set("wnli", "WNLI", ("not_entailment", "entailment"), Columns(_SENTENCES, "label")),
        _set("ax", "AX", _NLI, Columns(_PREMISE, "label"), {"test": [("AX.tsv",), ("diagnostic.tsv",)]}),
    )
}
