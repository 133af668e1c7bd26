"""The encoder cast: an example as rows [CLS] A [SEP] B [SEP] for a head on top.

    boolq     question, passage (the passage is cut)
    copa      [2, L]: premise and question against each choice      label: the right choice
    multirc   paragraph and question, answer (the paragraph is cut); idx = paragraph, question, answer
    record    passage (it is cut), query with an entity for @placeholder; a row an entity, label: whether it is an answer;
              idx = passage, query, number of the entity among the example's `entities`
    wic       sentence 1, sentence 2, spans of the word in both
    wsc       the text, spans of the noun phrase and of the pronoun
    others    one text, or two in the order of TFDS's names: premise and hypothesis, question and sentence, ...

Where nothing else is said the longer text is cut first. `spans` are tokens [start, end) of the row. STS-B's label is a float32.
"""

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Callable

import numpy as np

from rootstock.data import framing, spans
from rootstock.data.fields import Field, sequence_fields
from rootstock.data.jsonl import Record
from rootstock.data.suites.examples import index_of, words_of
from rootstock.data.suites.task import SuiteTask, check_length
from rootstock.data.tasks import PLACE, Row
from rootstock.data.vocabularies import Vocabulary

SHORTEST = 16  # a row shorter than this holds no pair worth the name

_ASKED = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}
_CLASS, _SCORE = Field(()), Field((), "float32")


@dataclasses.dataclass(frozen=True)
class Cast:
    """How a set's examples become rows."""

    fields: Callable[[int], dict[str, Field]]
    rows: Callable[[Record, Vocabulary, int], list[Row]]


@dataclasses.dataclass(frozen=True)
class EncoderTask(SuiteTask):
    """One set for encoders; made by the functions of `superglue` and `glue`."""

    cast: Cast = dataclasses.field(metadata=PLACE)
    length: int

    def __post_init__(self):
        check_length(self.name, "length", self.length, SHORTEST)

    @property
    def name(self) -> str:
        return self.set.name

    def fields(self) -> dict[str, Field]:
        return self.cast.fields(self.length)

    def rows_of(self, example: Record, vocabulary: Vocabulary, split: str, counts: Counter) -> list[Row]:
        return self.cast.rows(example, vocabulary, self.length)


def _plain(length: int) -> dict[str, Field]:
    return sequence_fields(length) | {"label": _CLASS, "idx": Field(())}


def _scored(length: int) -> dict[str, Field]:
    return sequence_fields(length) | {"label": _SCORE, "idx": Field(())}


def _with_spans(length: int) -> dict[str, Field]:
    return _plain(length) | {"spans": Field((2, 2))}


def _choices(length: int) -> dict[str, Field]:
    return {name: Field((2, *field.shape)) for name, field in sequence_fields(length).items()} | {"label": _CLASS, "idx": Field(())}


def _indexed(length: int) -> dict[str, Field]:
    return sequence_fields(length) | {"label": _CLASS, "idx": Field((3,))}


def _labelled(row: Row, example: Record) -> Row:
    label, index = example.values["label"], index_of(example)
    return row | {
        "label": np.float32(label) if isinstance(label, float) else np.int32(label),
        "idx": np.int32(index[0]) if len(index) == 1 else np.array(index, np.int32),
    }


def _encoded(example: Record, vocabulary: Vocabulary, names: tuple[str, ...]) -> list[list[int]]:
    return [vocabulary.encode(example.text(name)) for name in names]


def _sentence(example: Record, vocabulary: Vocabulary, length: int) -> list[Row]:
    (ids,) = _encoded(example, vocabulary, ("sentence",))
    return [_labelled(framing.frame(ids[: length - framing.SINGLE], None, vocabulary, length), example)]


def _pair(names: tuple[str, str], example: Record, vocabulary: Vocabulary, length: int) -> list[Row]:
    first, second = _encoded(example, vocabulary, names)
    return [_labelled(framing.frame_longest_first(first, second, vocabulary, length), example)]


def _boolq(example: Record, vocabulary: Vocabulary, length: int) -> list[Row]:
    room = length - framing.PAIR
    question, passage = _encoded(example, vocabulary, ("question", "passage"))
    question = question[:room]
    return [_labelled(framing.frame(question, passage[: room - len(question)], vocabulary, length), example)]


def _copa(example: Record, vocabulary: Vocabulary, length: int) -> list[Row]:
    asked = vocabulary.encode(f"{example.text('premise')} {_ASKED[example.text('question')]}")
    choices = _encoded(example, vocabulary, ("choice1", "choice2"))
    rows = [framing.frame_longest_first(asked, choice, vocabulary, length) for choice in choices]
    return [_labelled({name: np.stack([row[name] for row in rows]) for name in rows[0]}, example)]


def _multirc(example: Record, vocabulary: Vocabulary, length: int) -> list[Row]:
    paragraph, question, answer = _encoded(example, vocabulary, ("paragraph", "question", "answer"))
    room = max(length - framing.PAIR - len(question) - len(answer), 0)
    return [_labelled(framing.frame_longest_first(paragraph[:room] + question, answer, vocabulary, length), example)]


def without_highlights(passage: str) -> str:
    """A passage of ReCoRD with its summary's lines as sentences, as T5 writes it."""
    return re.sub(r"\n@highlight\n", ". ", re.sub(r"([.?!\"'])\n@highlight\n", r"\1 ", passage))


def _record(example: Record, vocabulary: Vocabulary, length: int) -> list[Row]:
    passage = vocabulary.encode(without_highlights(example.text("passage")))
    query, answers = example.text("query"), set(example.values["answers"])
    rows = []
    for number, entity in enumerate(example.values["entities"]):
        filled = vocabulary.encode(query.replace("@placeholder", entity))[: length - framing.PAIR]
        row = framing.frame(passage[: length - framing.PAIR - len(filled)], filled, vocabulary, length)
        label = np.int32(entity in answers) if answers else np.int32(-1)
        rows.append(row | {"label": label, "idx": np.array([*index_of(example), number], np.int32)})
    return rows


def _wic(example: Record, vocabulary: Vocabulary, length: int) -> list[Row]:
    encoded = []
    for side in ("1", "2"):
        place = (example.integer(f"start{side}"), example.integer(f"end{side}"))
        encoded.append(_encode_spans(example, vocabulary, example.text(f"sentence{side}"), [place]))
    rooms = framing.longest_first(*(len(ids) for ids, _ in encoded), length - framing.PAIR)
    (a, [first]), (b, [second]) = (_cut(example, ids, found, room) for (ids, found), room in zip(encoded, rooms, strict=True))
    places = _rebased([first], 1) + _rebased([second], len(a) + framing.SINGLE)
    return [_labelled(framing.frame(a, b, vocabulary, length) | {"spans": np.array(places, np.int32)}, example)]


def _wsc(example: Record, vocabulary: Vocabulary, length: int) -> list[Row]:
    found = [words_of(example, side) for side in ("span1", "span2")]
    ids, places = _cut(example, *_encode_spans(example, vocabulary, example.text("text"), found), length - framing.SINGLE)
    row = framing.frame(ids, None, vocabulary, length)
    return [_labelled(row | {"spans": np.array(_rebased(places, 1), np.int32)}, example)]


def _encode_spans(example: Record, vocabulary: Vocabulary, text: str, characters: list[spans.Span]) -> tuple[list[int], list[spans.Span]]:
    ids, offsets = vocabulary.encode_with_offsets(text)
    found = [spans.tokens_of(offsets, start, end) for start, end in characters]
    for (start, end), span in zip(characters, found, strict=True):
        if span is None:
            raise example.wrong(f"the vocabulary makes no token of the span {text[start:end]!r}")
    return ids, found


def _cut(example: Record, ids: list[int], found: list[spans.Span], room: int) -> tuple[list[int], list[spans.Span]]:
    kept = spans.keep_around(len(ids), found, room)
    if kept is None:
        raise example.wrong(f"the marked spans alone need more than the {room} tokens that there are for this text; use longer rows")
    return [ids[i] for i in kept], [spans.moved(span, kept) for span in found]


def _rebased(places: list[spans.Span], by: int) -> list[spans.Span]:
    return [(start + by, end + by) for start, end in places]


def pair(first: str, second: str) -> Cast:
    """Two texts by their names."""
    return Cast(_plain, functools.partial(_pair, (first, second)))


SENTENCE = Cast(_plain, _sentence)
SIMILARITY = Cast(_scored, functools.partial(_pair, ("sentence1", "sentence2")))
BOOLQ = Cast(_plain, _boolq)
COPA = Cast(_choices, _copa)
MULTIRC = Cast(_indexed, _multirc)
RECORD = Cast(_indexed, _record)
WIC = Cast(_with_spans, _wic)
WSC = Cast(_with_spans, _wsc)
