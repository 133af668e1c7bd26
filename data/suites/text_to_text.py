"""The text-to-text cast of T5 (Raffel et al. 2019, arXiv 1910.10683): a task's name, every text after its own name; a word as target.

    cola    cola sentence: John made Bill master of himself.  ->  acceptable

in T5's own order and spelling, so that T5's checkpoints know it:

    pairs     the names in alphabetical order: hypothesis before premise, passage before question
    multirc   question, answer, paragraph: what does not fit is cut off the paragraph
    wic       sentence1, sentence2, word
    wsc       the pronoun between asterisks; the target is the noun phrase. In training only where it is the right one
    record    query, entities, passage; in training a row for every answer, else one for a query, its first answer the target
    stsb      the score rounded to the nearest 0.2
    axb, axg  as rte, its texts called premise and hypothesis; ax as mnli

Without a label the target is "<unk>" (STS-B's "-1.0"). Inputs and targets are cut at their end (how many were is counted, as `cut_inputs`
and `cut_targets`) and closed by the vocabulary's end of sequence (</s>, or [SEP]). `idx` has three places for every set, so that sets mix:
idx, 0, 0; MultiRC's paragraph, question, answer; ReCoRD's passage, query, 0.

Known deviations from the paper, after the released code: COPA's targets are choice1 and choice2, WiC has no part of speech.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rootstock.data.errors import DataError
from rootstock.data.fields import Field
from rootstock.data.jsonl import Record
from rootstock.data.suites import glue_sets, superglue_sets
from rootstock.data.suites.encoder import without_highlights
from rootstock.data.suites.examples import UNLABELLED, index_of, words_of
from rootstock.data.suites.sets import Set
from rootstock.data.suites.task import SuiteTask, check_length
from rootstock.data.tasks import Row
from rootstock.data.vocabularies import Vocabulary

SETS: Mapping[str, Set] = superglue_sets.SETS | glue_sets.SETS
SHORTEST = 2  # a piece and the end of sequence

_UNKNOWN = "<unk>"
_AS = {"axb": "rte", "axg": "rte", "ax": "mnli", "glue_rte": "rte"}
_CALLED = {"axb": {"sentence1": "premise", "sentence2": "hypothesis"}}  # the names of rte's texts
_ORDER = {"multirc": ("question", "answer", "paragraph"), "wic": ("sentence1", "sentence2", "word")}

Pair = tuple[str, str]  # inputs, targets


@dataclasses.dataclass(frozen=True)
class TextToTextTask(SuiteTask):
    """One set for encoder-decoders; made by `task`."""

    input_length: int
    target_length: int

    def __post_init__(self):
        check_length(self.name, "input_length", self.input_length, SHORTEST)
        check_length(self.name, "target_length", self.target_length, SHORTEST)

    @property
    def name(self) -> str:
        return f"{self.set.name}_text"

    def fields(self) -> dict[str, Field]:
        names = ("ids", "segment_ids", "positions")
        inputs = {name if name != "ids" else "input_ids": Field((self.input_length,)) for name in names}
        return inputs | {f"target_{name}": Field((self.target_length,)) for name in names} | {"idx": Field((3,))}

    def rows_of(self, example: Record, vocabulary: Vocabulary, split: str, counts: Counter) -> list[Row]:
        training = split == "train"
        if training and self.set.name == "wsc" and not example.values["label"]:
            return []  # the noun phrase is a wrong answer
        index = np.zeros(3, np.int32)
        index[: len(index_of(example))] = index_of(example)
        pairs = _texts(self.set, example)
        return [self._row(*pair, index, vocabulary, counts) for pair in (pairs if training else pairs[:1])]

    def _row(self, inputs: str, targets: str, index: np.ndarray, vocabulary: Vocabulary, counts: Counter) -> Row:
        vocabulary.require("pad", "eos")
        found, answer = vocabulary.encode(inputs), vocabulary.encode(targets)
        counts["cut_inputs"] += len(found) >= self.input_length
        counts["cut_targets"] += len(answer) >= self.target_length
        ids, segments, positions = _closed(found, vocabulary, self.input_length)
        row = {"input_ids": ids, "segment_ids": segments, "positions": positions}
        ids, segments, positions = _closed(answer, vocabulary, self.target_length)
        return row | {"target_ids": ids, "target_segment_ids": segments, "target_positions": positions, "idx": index}


def task(name: str, data_dir: str, vocabulary: str, input_length: int, target_length: int) -> TextToTextTask:
    """The set `name` (one of `SETS`) as inputs and targets."""
    if name not in SETS:
        raise DataError(f"there is no set '{name}' to cast; known are {', '.join(SETS)}.")
    return TextToTextTask(SETS[name], data_dir, vocabulary, input_length, target_length)


def texts(name: str, example: Mapping[str, Any]) -> list[Pair]:
    """Inputs and targets of one example of a set: one pair, of ReCoRD one for every answer."""
    return _texts(SETS[name], Record(example, f"{name} idx {example['idx']}"))


def _closed(found: list[int], vocabulary: Vocabulary, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, segments and positions of a text with its end of sequence, cut and padded to `length`."""
    found = [*found[: length - 1], vocabulary.eos_id]
    ids, segments, positions = np.full(length, vocabulary.pad_id, np.int32), np.zeros(length, np.int32), np.zeros(length, np.int32)
    ids[: len(found)] = found
    segments[: len(found)] = 1
    positions[: len(found)] = np.arange(len(found))
    return ids, segments, positions


def _texts(of: Set, example: Record) -> list[Pair]:
    return _CASTS.get(of.name, _named)(of, example)


def _named(of: Set, example: Record) -> list[Pair]:
    called = {name: name for name in of.texts} | _CALLED.get(of.name, {})
    names = _ORDER.get(of.name) or sorted(of.texts, key=called.get)
    inputs = " ".join([_AS.get(of.name, of.name), *(f"{called[name]}: {example.text(name)}" for name in names)])
    label = example.values["label"]
    return [(inputs, _UNKNOWN if label == UNLABELLED else of.labels[label])]


def _multirc(of: Set, example: Record) -> list[Pair]:
    [(inputs, target)] = _named(of, example)
    return [(re.sub("</?b>", "", inputs.replace("<br>", " ")), target)]  # the first release had this markup


def _stsb(of: Set, example: Record) -> list[Pair]:
    score = np.round(np.float32(example.values["label"]) * np.float32(5)) / np.float32(5)
    return [(f"stsb sentence1: {example.text('sentence1')} sentence2: {example.text('sentence2')}", f"{score:.1f}")]


def _record(of: Set, example: Record) -> list[Pair]:
    entities = ", ".join(example.values["entities"])
    inputs = f"record query: {example.text('query')} entities: {entities} passage: {without_highlights(example.text('passage'))}"
    return [(inputs, answer) for answer in example.values["answers"] or [_UNKNOWN]]


def _wsc(of: Set, example: Record) -> list[Pair]:
    text, pronoun = example.text("text"), example.text("span2_text")
    start, end = words_of(example, "span2")
    apart = "" if text[end : end + 1].isspace() else " "  # T5 writes `*him* ,"`
    return [(f"wsc: {text[:start]}*{pronoun}*{apart}{text[end:]}", example.text("span1_text"))]


_CASTS: dict[str, Callable[[Set, Record], list[Pair]]] = {"multirc": _multirc, "stsb": _stsb, "record": _record, "wsc": _wsc}
