"""SuperGLUE's sets (Wang et al. 2019, arXiv 1905.00537), and their official jsonl files as examples: DIR/BoolQ/train.jsonl and so on.

Known oddities of the files, and what becomes of them:

    BoolQ     the answer stands under `label` or, in its authors' own files, under `answer`; the passage with its title before " -- ",
              or with the title under `title` (then it is put there), or without
    MultiRC   empty answers, which stay
    AX-b      an idx that is a number written as a string
    ReCoRD    entities and answers are characters [start, end]; the example has the sorted set of their texts

A label "-" means that the annotators did not agree: the row is skipped and counted. Any other unknown label is a mistake, and so is an
idx that occurs twice.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rootstock.data import jsonl
from rootstock.data.jsonl import Record
from rootstock.data.suites.examples import UNLABELLED, Examples, key_of, may_lack_labels, no_agreement, words_of
from rootstock.data.suites.sets import Set

_BOOLEAN = ("False", "True")
_TRUTH = {False: 0, True: 1}  # equal to 0 and 1, which MultiRC has
_CHOICE = {0: 0, 1: 1}
_QUESTIONS = ("cause", "effect")
_INDICES = 2**31  # as int32 has them

Parsed = Iterator[tuple[Record, dict[str, Any]]]  # what holds the label, and the example without it


@dataclasses.dataclass(frozen=True)
class Rows:
    """How the objects of a file become examples."""

    parse: Callable[[Record], Parsed]
    labels: Mapping[Any, int] | None  # what the file says -> class; None: there is no label


def _read(of: Set, split: str, paths: list[Path]) -> Examples:
    seen: dict[int | str, str] = {}
    for row in jsonl.records(paths[0]):
        for labelled, values in of.rows.parse(row):
            example = Record(values, labelled.where)
            if (key := key_of(example)) in seen:
                raise example.wrong(f"idx {values['idx']} stands already in {seen[key]}")
            seen[key] = example.where
            if of.rows.labels is None:
                if not values["answers"] and not may_lack_labels(split):
                    raise example.wrong("there are no 'answers'")
                yield example
            elif labelled.values.get("label") == "-":
                yield no_agreement(example.where)
            else:
                yield Record(values | {"label": _label(labelled, of.rows.labels, may_lack_labels(split))}, example.where)


def _label(record: Record, values: Mapping[Any, int], optional: bool) -> int:
    if "label" not in record and optional:
        return UNLABELLED
    value = record.get("label", object)
    if not isinstance(value, str | int) or value not in values:
        raise record.wrong(f"'label' is {value!r}, expected one of {', '.join(map(repr, values))}")
    return values[value]


def _index(record: Record) -> int:
    """`idx`, also where it is written as a string."""
    value = record.values.get("idx")
    index = int(value) if isinstance(value, str) and value.isdecimal() else record.integer("idx")
    if not 0 <= index < _INDICES:
        raise record.wrong(f"'idx' is {index}, expected a number from 0 to {_INDICES - 1}")
    return index


def _some(record: Record, key: str) -> list[Record]:
    """The objects of a list that holds at least one: a row without any would be counted nowhere."""
    if not (found := record.each(key)):
        raise record.wrong(f"'{key}' is empty")
    return found


def _plain(names: tuple[str, ...], record: Record) -> Parsed:
    """A row whose texts and idx are an example as they stand."""
    yield record, {name: record.text(name) for name in names} | {"idx": _index(record)}


def _boolq(record: Record) -> Parsed:
    title = f"{record.text('title')} -- " if "title" in record else ""
    answer = {"label": record.values["answer"]} if "answer" in record and "label" not in record else {}
    values = {"question": record.text("question"), "passage": title + record.text("passage"), "idx": _index(record)}
    yield Record({**record.values, **answer}, record.where), values


def _copa(record: Record) -> Parsed:
    for labelled, values in _plain(("premise", "choice1", "choice2", "question"), record):
        if values["question"] not in _QUESTIONS:
            raise record.wrong(f"'question' is {values['question']!r}, expected {' or '.join(map(repr, _QUESTIONS))}")
        yield labelled, values


def _multirc(record: Record) -> Parsed:
    passage = record.inside("passage")
    for question in _some(passage, "questions"):
        for answer in _some(question, "answers"):
            values = {"paragraph": passage.text("text"), "question": question.text("question"), "answer": answer.text("text")}
            yield answer, values | {"idx": {"paragraph": _index(record), "question": _index(question), "answer": _index(answer)}}


def _record(record: Record) -> Parsed:
    passage = record.inside("passage")
    text = passage.text("text")
    entities = sorted({_entity(text, entity) for entity in passage.each("entities")})
    for asked in _some(record, "qas"):
        query = asked.text("query")
        if "@placeholder" not in query:
            raise asked.wrong(f"'query' is {query!r}, which has no @placeholder")
        given = asked.each("answers") if "answers" in asked else []
        for answer in given:
            _entity(text, answer)
        answers = sorted({answer.text("text") for answer in given})
        values = {"passage": text, "query": query, "entities": entities, "answers": answers}
        yield asked, values | {"idx": {"passage": _index(record), "query": _index(asked)}}


def _entity(text: str, entity: Record) -> str:
    """The characters of an entity or an answer."""
    start, end = entity.integer("start"), entity.integer("end")  # the last character is at `end`
    if not 0 <= start <= end < len(text):
        raise entity.wrong(f"start {start} and end {end} are no span of the {len(text)} characters of the passage")
    return text[start : end + 1]


def _wic(record: Record) -> Parsed:
    values: dict[str, Any] = {name: record.text(name) for name in ("word", "sentence1", "sentence2")}
    for side in ("1", "2"):
        sentence, start, end = values[f"sentence{side}"], record.integer(f"start{side}"), record.integer(f"end{side}")
        if not 0 <= start < end <= len(sentence):
            raise record.wrong(f"start{side} {start} and end{side} {end} are no span of the {len(sentence)} characters of sentence{side}")
        values |= {f"start{side}": start, f"end{side}": end}
    yield record, values | {"idx": _index(record)}


def _wsc(record: Record) -> Parsed:
    target = record.inside("target")
    values: dict[str, Any] = {"text": record.text("text")}
    for side in ("span1", "span2"):
        values |= {f"{side}_text": target.text(f"{side}_text"), f"{side}_index": target.integer(f"{side}_index")}
        words_of(Record(values, record.where), side)
    yield record, values | {"idx": _index(record)}


_SPLITS = {"train": [("train.jsonl",)], "validation": [("val.jsonl",)], "test": [("test.jsonl",)]}


def _set(name: str, folder: str, labels: tuple[str, ...], texts: tuple[str, ...], parse=None, values=None, files=_SPLITS) -> Set:
    named = {label: index for index, label in enumerate(labels)}
    rows = Rows(parse or functools.partial(_plain, texts), (values or named) if labels else None)
    return Set(name, f"super_glue/{name}", folder, files, labels, texts, _read, rows)


def _diagnostic(name: str, folder: str, texts: tuple[str, ...]) -> Set:
    return _set(name, folder, ("entailment", "not_entailment"), texts, files={"test": [(f"{folder}.jsonl",)]})


_PAIR = ("premise", "hypothesis")

SETS = {
    each.name: each
    for each in (
        _set("boolq", "BoolQ", _BOOLEAN, ("question", "passage"), _boolq, _TRUTH),
        _set("cb", "CB", ("entailment", "contradiction", "neutral"), _PAIR),
        _set("copa", "COPA", ("choice1", "choice2"), ("premise", "choice1", "choice2", "question"), _copa, _CHOICE),
        _set("multirc", "MultiRC", _BOOLEAN, ("paragraph", "question", "answer"), _multirc, _TRUTH),
        _set("record", "ReCoRD", (), ("passage", "query"), _record),
        _set("rte", "RTE", ("entailment", "not_entailment"), _PAIR),
        _set("wic", "WiC", _BOOLEAN, ("word", "sentence1", "sentence2"), _wic, _TRUTH),
        _set("wsc", "WSC", _BOOLEAN, ("text", "span1_text", "span2_text"), _wsc, _TRUTH),
        _diagnostic("axb", "AX-b", ("sentence1", "sentence2")),
        _diagnostic("axg", "AX-g", _PAIR),
    )
}
