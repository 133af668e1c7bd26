"""SuperGLUE for encoders, from the official files: DIR/BoolQ/train.jsonl, val.jsonl, test.jsonl (plain, .gz or .xz), and so on.

    boolq     question, passage (the passage is cut)                 label false, true
    cb, rte   premise, hypothesis
    copa      [2, L]: premise and question against each choice      label: the right choice
    multirc   paragraph and question, answer (the paragraph is cut); a row an answer, idx = paragraph, question, answer
    wic       sentence 1, sentence 2, spans of the word in both
    wsc       the text, spans of the noun phrase and of the pronoun

Pairs are [CLS] A [SEP] B [SEP], the longer cut first where nothing else is said; `spans` are tokens [start, end) of the row.
Test rows without labels have label -1. Known oddities of the files: BoolQ comes with the answer under `label` or, in its authors' own
files, under `answer`, and with the passage's title before " -- ", under `title`, or not at all; WSC's spans are a word off now and
then; MultiRC has empty answers, which stay.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rootstock.data import files, framing, jsonl, spans, vocabularies
from rootstock.data.errors import DataError
from rootstock.data.fields import Field, sequence_fields
from rootstock.data.jsonl import Record
from rootstock.data.tasks import PLACE, Map, Row, Task, batched
from rootstock.data.vocabularies import Vocabulary

LABELS = {
    "boolq": ("false", "true"),
    "cb": ("entailment", "contradiction", "neutral"),
    "copa": ("choice1", "choice2"),
    "multirc": ("false", "true"),
    "rte": ("entailment", "not_entailment"),
    "wic": ("false", "true"),
    "wsc": ("false", "true"),
}
UNLABELLED = -1
SHORTEST = 16  # a row shorter than this holds no pair worth the name

_FILES = {"train": "train", "validation": "val", "test": "test"}
_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.xz")
_BATCH = 64
_TRUTH = {False: 0, True: 1}  # equal to 0 and 1, which MultiRC has
_CHOICE = {0: 0, 1: 1}
_QUESTIONS = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}

Label = Callable[..., np.int32]  # of a record, and the key if it is not "label"


@dataclasses.dataclass(frozen=True)
class Cast:
    """How one task's records become rows."""

    name: str
    folder: str
    labels: Mapping[Any, int]  # what the file says -> index into LABELS[name]
    fields: Callable[[int], dict[str, Field]]
    rows: Callable[[Record, Vocabulary, int, Label], list[Row]]


@dataclasses.dataclass(frozen=True)
class SuperGlueTask(Task):
    """One task; made by the functions below."""

    cast: Cast = dataclasses.field(metadata=PLACE)
    data_dir: str = dataclasses.field(metadata=PLACE)
    vocabulary: str = dataclasses.field(metadata=PLACE)
    length: int

    def __post_init__(self):
        if self.length < SHORTEST:
            raise DataError(f"the length of {self.name}'s rows is {self.length}; expected {SHORTEST} or more.")

    @property
    def name(self) -> str:
        return self.cast.name

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their indices."""
        return LABELS[self.name]

    @property
    def splits(self) -> tuple[str, ...]:
        found = tuple(split for split in _FILES if self._file(split))
        if not found:
            names = ", ".join(f"{stem}.jsonl" for stem in _FILES.values())
            raise DataError(f"'{self._folder()}' holds none of the files of {self.name}: {names}, plain, .gz or .xz.")
        return found

    def fields(self) -> dict[str, Field]:
        return self.cast.fields(self.length)

    def inputs(self) -> list[Path]:
        return [self._file(split) for split in self.splits]

    def rows(self, split: str, counts: Counter | None = None, each: Map = map) -> Iterator[Row]:
        path = self._file(split)
        if path is None:
            raise DataError(f"{self.name} has no split '{split}' in '{self._folder()}'; it has {', '.join(self.splits)}.")
        vocabulary = self.load_vocabulary()
        convert = functools.partial(_rows_of, self.cast, vocabulary.path, vocabulary.lowercase, self.length, split != "test")
        for rows in each(convert, batched(jsonl.records(path), _BATCH)):
            if counts is not None:
                counts["documents"] += len(rows)
            yield from rows

    def _folder(self) -> Path:
        return files.resolve(self.data_dir) / self.cast.folder

    def _file(self, split: str) -> Path | None:
        candidates = (self._folder() / (_FILES.get(split, split) + suffix) for suffix in _SUFFIXES)
        return next((path for path in candidates if path.is_file()), None)


def _rows_of(cast: Cast, vocabulary: str, lowercase: bool, length: int, labelled: bool, records: list[Record]) -> list[Row]:
    opened = vocabularies.load(vocabulary, lowercase)
    label = functools.partial(_label, values=cast.labels, required=labelled)
    return [row for record in records for row in cast.rows(record, opened, length, label)]


def _label(record: Record, values: Mapping[Any, int], required: bool, key: str = "label") -> np.int32:
    if key not in record and not required:
        return np.int32(UNLABELLED)
    value = record.get(key, object)
    if not isinstance(value, str | int) or value not in values:
        raise record.wrong(f"'{key}' is {value!r}, expected one of {', '.join(map(repr, values))}")
    return np.int32(values[value])


def _named(name: str) -> dict[str, int]:
    return {label: index for index, label in enumerate(LABELS[name])}


def _plain(length: int) -> dict[str, Field]:
    return sequence_fields(length) | {"label": Field(()), "idx": Field(())}


def _with_spans(length: int) -> dict[str, Field]:
    return _plain(length) | {"spans": Field((2, 2))}


def _choices(length: int) -> dict[str, Field]:
    return {name: Field((2, *field.shape)) for name, field in sequence_fields(length).items()} | {"label": Field(()), "idx": Field(())}


def _answers(length: int) -> dict[str, Field]:
    return sequence_fields(length) | {"label": Field(()), "idx": Field((3,))}


def _index(record: Record) -> np.int32:
    return np.int32(record.integer("idx"))


def _entailment(record: Record, vocabulary: Vocabulary, length: int, label: Label) -> list[Row]:
    premise, hypothesis = (vocabulary.encode(record.text(key)) for key in ("premise", "hypothesis"))
    return [framing.frame_longest_first(premise, hypothesis, vocabulary, length) | {"label": label(record), "idx": _index(record)}]


def _boolq(record: Record, vocabulary: Vocabulary, length: int, label: Label) -> list[Row]:
    room = length - framing.PAIR
    title = f"{record.text('title')} -- " if "title" in record else ""
    question = vocabulary.encode(record.text("question"))[:room]
    passage = vocabulary.encode(title + record.text("passage"))[: room - len(question)]
    key = "answer" if "answer" in record and "label" not in record else "label"
    return [framing.frame(question, passage, vocabulary, length) | {"label": label(record, key=key), "idx": _index(record)}]


def _copa(record: Record, vocabulary: Vocabulary, length: int, label: Label) -> list[Row]:
    if (question := record.text("question")) not in _QUESTIONS:
        raise record.wrong(f"'question' is {question!r}, expected {' or '.join(map(repr, _QUESTIONS))}")
    asked = vocabulary.encode(f"{record.text('premise')} {_QUESTIONS[question]}")
    rows = [framing.frame_longest_first(asked, vocabulary.encode(record.text(key)), vocabulary, length) for key in ("choice1", "choice2")]
    return [{name: np.stack([row[name] for row in rows]) for name in rows[0]} | {"label": label(record), "idx": _index(record)}]


def _multirc(record: Record, vocabulary: Vocabulary, length: int, label: Label) -> list[Row]:
    passage = record.inside("passage")
    paragraph = vocabulary.encode(passage.text("text"))
    rows = []
    for asked in passage.each("questions"):
        question = vocabulary.encode(asked.text("question"))
        for answered in asked.each("answers"):
            answer = vocabulary.encode(answered.text("text"))
            room = max(length - framing.PAIR - len(question) - len(answer), 0)
            index = np.array([record.integer("idx"), asked.integer("idx"), answered.integer("idx")], np.int32)
            row = framing.frame_longest_first(paragraph[:room] + question, answer, vocabulary, length)
            rows.append(row | {"label": label(answered), "idx": index})
    return rows


def _wic(record: Record, vocabulary: Vocabulary, length: int, label: Label) -> list[Row]:
    encoded = []
    for side in ("1", "2"):
        sentence, start, end = record.text(f"sentence{side}"), record.integer(f"start{side}"), record.integer(f"end{side}")
        if not 0 <= start < end <= len(sentence):
            raise record.wrong(f"start{side} {start} and end{side} {end} are no span of the {len(sentence)} characters of sentence{side}")
        encoded.append(_encode_spans(record, vocabulary, sentence, [(start, end)]))
    rooms = framing.longest_first(*(len(ids) for ids, _ in encoded), length - framing.PAIR)
    (a, [first]), (b, [second]) = (_cut(record, ids, found, room) for (ids, found), room in zip(encoded, rooms, strict=True))
    places = _rebased([first], 1) + _rebased([second], len(a) + framing.SINGLE)
    return [_spanned(framing.frame(a, b, vocabulary, length), places, record, label)]


def _wsc(record: Record, vocabulary: Vocabulary, length: int, label: Label) -> list[Row]:
    text, target = record.text("text"), record.inside("target")
    found = []
    for side in ("1", "2"):
        words, index = target.text(f"span{side}_text"), target.integer(f"span{side}_index")
        if (characters := spans.words_at(text, index, words)) is None:
            raise record.wrong(f"span{side}_text {words!r} is not at or near word {index} of the text")
        found.append(characters)
    ids, places = _cut(record, *_encode_spans(record, vocabulary, text, found), length - framing.SINGLE)
    return [_spanned(framing.frame(ids, None, vocabulary, length), _rebased(places, 1), record, label)]


def _encode_spans(record: Record, vocabulary: Vocabulary, text: str, characters: list[spans.Span]) -> tuple[list[int], list[spans.Span]]:
    ids, offsets = vocabulary.encode_with_offsets(text)
    found = [spans.tokens_of(offsets, start, end) for start, end in characters]
    for (start, end), span in zip(characters, found, strict=True):
        if span is None:
            raise record.wrong(f"the vocabulary makes no token of the span {text[start:end]!r}")
    return ids, found


def _cut(record: Record, ids: list[int], found: list[spans.Span], room: int) -> tuple[list[int], list[spans.Span]]:
    kept = spans.keep_around(len(ids), found, room)
    if kept is None:
        raise record.wrong(f"the marked spans alone need more than the {room} tokens that there are for this text; use longer rows")
    return [ids[i] for i in kept], [spans.moved(span, kept) for span in found]


def _rebased(places: list[spans.Span], by: int) -> list[spans.Span]:
    return [(start + by, end + by) for start, end in places]


def _spanned(row: Row, places: list[spans.Span], record: Record, label: Label) -> Row:
    return row | {"label": label(record), "idx": _index(record), "spans": np.array(places, np.int32)}


BOOLQ = Cast("boolq", "BoolQ", _TRUTH, _plain, _boolq)
CB = Cast("cb", "CB", _named("cb"), _plain, _entailment)
COPA = Cast("copa", "COPA", _CHOICE, _choices, _copa)
MULTIRC = Cast("multirc", "MultiRC", _TRUTH, _answers, _multirc)
RTE = Cast("rte", "RTE", _named("rte"), _plain, _entailment)
WIC = Cast("wic", "WiC", _TRUTH, _with_spans, _wic)
WSC = Cast("wsc", "WSC", _TRUTH, _with_spans, _wsc)


def boolq(data_dir: str, vocabulary: str, length: int) -> SuperGlueTask:
    """Yes or no questions about a passage (Clark et al. 2019)."""
    return SuperGlueTask(BOOLQ, data_dir, vocabulary, length)


def cb(data_dir: str, vocabulary: str, length: int) -> SuperGlueTask:
    """CommitmentBank (de Marneffe et al. 2019)."""
    return SuperGlueTask(CB, data_dir, vocabulary, length)


def copa(data_dir: str, vocabulary: str, length: int) -> SuperGlueTask:
    """Choice of plausible alternatives (Roemmele et al. 2011)."""
    return SuperGlueTask(COPA, data_dir, vocabulary, length)


def multirc(data_dir: str, vocabulary: str, length: int) -> SuperGlueTask:
    """Multi-sentence reading comprehension (Khashabi et al. 2018)."""
    return SuperGlueTask(MULTIRC, data_dir, vocabulary, length)


def rte(data_dir: str, vocabulary: str, length: int) -> SuperGlueTask:
    """Recognising textual entailment (Dagan et al. 2006 and later)."""
    return SuperGlueTask(RTE, data_dir, vocabulary, length)


def wic(data_dir: str, vocabulary: str, length: int) -> SuperGlueTask:
    """Words in context (Pilehvar and Camacho-Collados 2019)."""
    return SuperGlueTask(WIC, data_dir, vocabulary, length)


def wsc(data_dir: str, vocabulary: str, length: int) -> SuperGlueTask:
    """The Winograd schema challenge (Levesque et al. 2012)."""
    return SuperGlueTask(WSC, data_dir, vocabulary, length)


TASKS = {function.__name__: function for function in (boolq, cb, copa, multirc, rte, wic, wsc)}
