"""An example: what TFDS makes of a row, with its feature names, class indices and `idx`.

Readers give examples as `jsonl.Record`s, which know where they stand, so that a mistake found later is still named by file and row.
"""

import dataclasses
from collections.abc import Iterator

from rootstock.data import spans
from rootstock.data.jsonl import Record

UNLABELLED = -1
_ANSWER = ("paragraph", "question", "answer")
_PARTS = (*_ANSWER, "passage", "query")  # of a nested idx, in this order


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A row that is left out, where that is the documented choice, and why."""

    where: str
    why: str


Examples = Iterator[Record | Skipped]


def no_agreement(where: str) -> Skipped:
    return Skipped(where, "its label is '-', for annotators who did not agree")


def index_of(example: Record) -> tuple[int, ...]:
    """`idx` as numbers: one of most sets; paragraph, question and answer of MultiRC; passage and query of ReCoRD."""
    value = example.values["idx"]
    return tuple(value[part] for part in _PARTS if part in value) if isinstance(value, dict) else (value,)


def key_of(example: Record) -> int | str:
    """What tells an example from the others of its split, as TFDS has it; a query of ReCoRD has a number of its own."""
    index = index_of(example)
    return index[-1] if len(index) < len(_ANSWER) else "_".join(map(str, index))


def words_of(example: Record, side: str) -> spans.Span:
    """The characters of a span of WSC. What the files say of it is a word off now and then."""
    words, index = example.text(f"{side}_text"), example.integer(f"{side}_index")
    if (characters := spans.words_at(example.text("text"), index, words)) is None:
        raise example.wrong(f"{side}_text {words!r} is not at or near word {index} of the text")
    return characters


def may_lack_labels(split: str) -> bool:
    """Only the rows of a test split may."""
    return split.startswith("test")
