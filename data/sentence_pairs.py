"""Sentence pairs: for next-sentence prediction as BERT's create_pretraining_data.py makes them (Devlin et al. 2018, arXiv 1810.04805), and
for sentence-order prediction (ALBERT: Lan et al. 2019, arXiv 1909.11942).

Sentences of a document are gathered until a target length is reached: the room of the row, or with probability `short_seq_prob` a
random shorter one, drawn once a document. A is a random number of them from the front. B is the rest (label 0), or with probability
`random_next_prob`, and always where there is one sentence alone, sentences of another document from a random one on (label 1); the
rest then goes back to be used again. The longer side loses pieces from its front or back at random until both fit. For the order, B is
always the rest, and with probability `swap_prob` the two change places (label 1).

Deviations: the other document comes from the same part of the corpus, at most `block` documents and some 16 million characters (in BERT:
from the same run over some files), so that memory is bounded, and is never the same one unless the part has no other; the validation
split is made once, not `dupe_factor` times. Where one sentence is alone there is no order, and it is left out; ALBERT's code gives it a
random partner and the label 1.
"""

import abc
import dataclasses
import functools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np

from rootstock.data import framing
from rootstock.data.errors import DataError
from rootstock.data.fields import Field, sequence_fields
from rootstock.data.sentences import sentences
from rootstock.data.tasks import Part, Row, batched, parted
from rootstock.data.text import DocumentTask, documents_of
from rootstock.data.vocabularies import Vocabulary

Sentences = list[list[int]]  # a document
Pair = tuple[list[int], list[int], bool]  # A, B and the label
Elsewhere = Callable[[int, random.Random], list[int]]  # about so many pieces of another document

_BATCH = 64
_SHORTEST = 2  # pieces: one for each side


@dataclasses.dataclass(frozen=True)
class PairTask(DocumentTask):
    """Rows [CLS] A [SEP] B [SEP] with a label of 0 or 1. Splits are those of `text.TextTask`."""

    short_seq_prob: float = 0.1
    dupe_factor: int = 10
    block: int = 10_000
    seed: int = 0

    label: ClassVar[str]  # its field

    def __post_init__(self):
        kind = type(self).__name__
        for name in ("dupe_factor", "block"):
            if getattr(self, name) < 1:
                raise DataError(f"{kind}.{name} is {getattr(self, name)}; expected 1 or more.")
        if self.length < framing.PAIR + _SHORTEST:
            raise DataError(f"{kind}.length is {self.length}; a pair needs {framing.PAIR + _SHORTEST} or more.")
        shares = [field.name for field in dataclasses.fields(self) if field.name == "validation_fraction" or field.name.endswith("_prob")]
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"{kind}.{name} is {getattr(self, name)}; expected a probability from 0 to 1.")

    def fields(self) -> dict[str, Field]:
        return sequence_fields(self.length) | {self.label: Field(())}

    def parts(self, split: str, counts: Counter) -> Iterator[Part]:
        blocks = enumerate(parted(documents_of(self, split, counts), most=self.block))
        return (functools.partial(_rows, self, split, number, texts) for number, texts in blocks)

    def pairs(self, block: list[Sentences], index: int, chance: random.Random) -> Iterator[Pair]:
        """The pairs of one document of a block."""
        document, start = block[index], 0
        room = self.length - framing.PAIR
        target = chance.randint(_SHORTEST, room) if chance.random() < self.short_seq_prob else room
        elsewhere = functools.partial(_from_elsewhere, block, index)
        while start < len(document):
            chunk = document[start : _gathered(document, start, target)]
            pair, used = self.pair(chunk, target, elsewhere, chance)
            start += used
            if pair is not None:
                yield pair

    @abc.abstractmethod
    def pair(self, chunk: Sentences, target: int, elsewhere: Elsewhere, chance: random.Random) -> tuple[Pair | None, int]:
        """A pair of some sentences, already cut to the row, or None; and how many of the sentences are used up."""

    def fitted(self, a: list[int], b: list[int], chance: random.Random) -> tuple[list[int], list[int]]:
        return _fitted(a, b, self.length - framing.PAIR, chance)


@dataclasses.dataclass(frozen=True)
class SentencePairTask(PairTask):
    """With `is_random_next`: 0 = B follows A, 1 = B is from elsewhere."""

    random_next_prob: float = 0.5

    label = "is_random_next"

    @property
    def name(self) -> str:
        return "sentence_pairs"

    def pair(self, chunk: Sentences, target: int, elsewhere: Elsewhere, chance: random.Random) -> tuple[Pair, int]:
        split = chance.randint(1, len(chunk) - 1) if len(chunk) > 1 else 1
        a = _joined(chunk[:split])
        if len(chunk) == 1 or chance.random() < self.random_next_prob:
            return (*self.fitted(a, elsewhere(target - len(a), chance), chance), True), split
        return (*self.fitted(a, _joined(chunk[split:]), chance), False), len(chunk)


@dataclasses.dataclass(frozen=True)
class SentenceOrderTask(PairTask):
    """With `is_swapped`: 0 = B follows A, 1 = A follows B."""

    swap_prob: float = 0.5

    label = "is_swapped"

    @property
    def name(self) -> str:
        return "sentence_order"

    def pair(self, chunk: Sentences, target: int, elsewhere: Elsewhere, chance: random.Random) -> tuple[Pair | None, int]:
        if len(chunk) == 1:
            return None, 1
        split = chance.randint(1, len(chunk) - 1)
        first, second = self.fitted(_joined(chunk[:split]), _joined(chunk[split:]), chance)
        is_swapped = chance.random() < self.swap_prob
        return ((second, first, True) if is_swapped else (first, second, False)), len(chunk)


def _gathered(document: Sentences, start: int, target: int) -> int:
    """The sentence before which `target` pieces are reached."""
    end, gathered = start, 0
    while end < len(document) and gathered < target:
        gathered += len(document[end])
        end += 1
    return end


def _rows(task: PairTask, split: str, number: int, texts: list[str], counts: Counter) -> Iterator[Row]:
    vocabulary = task.load_vocabulary()
    encoded = [document for some in batched(texts, _BATCH) for document in _encode(vocabulary, some)]
    counts["documents"] += len(encoded)
    block = [document for document in encoded if document]
    counts["dropped"] += len(encoded) - len(block)
    for copy in range(task.dupe_factor if split == "train" else 1):
        chance = random.Random(f"{task.seed}/{number}/{copy}")
        for index in range(len(block)):
            found = list(task.pairs(block, index, chance))
            counts["dropped"] += copy == 0 and not found  # one sentence has no order
            for a, b, label in found:
                yield framing.frame(a, b, vocabulary, task.length) | {task.label: np.int32(label)}


def _from_elsewhere(block: list[Sentences], index: int, wanted: int, chance: random.Random) -> list[int]:
    other = chance.randrange(len(block) - 1) if len(block) > 1 else index
    document = block[other + (other >= index and len(block) > 1)]
    taken: list[int] = []
    for sentence in document[chance.randrange(len(document)) :]:
        taken += sentence
        if len(taken) >= wanted:
            break
    return taken


def _fitted(a: list[int], b: list[int], room: int, chance: random.Random) -> tuple[list[int], list[int]]:
    """Pieces go from the longer side (B where they are equal), each from its front or back by a coin."""
    a, b = list(a), list(b)
    keep_a, keep_b = framing.longest_first(len(a), len(b), room)
    return _trimmed(a, keep_a, chance), _trimmed(b, keep_b, chance)


def _trimmed(ids: list[int], keep: int, chance: random.Random) -> list[int]:
    front = sum(chance.random() < 0.5 for _ in range(len(ids) - keep))
    return ids[front : front + keep]


def _joined(parts: list[list[int]]) -> list[int]:
    return [i for part in parts for i in part]


def _encode(vocabulary: Vocabulary, texts: list[str]) -> list[Sentences]:
    cut = [sentences(text) for text in texts]
    flat = iter(vocabulary.encode_batch([sentence for some in cut for sentence in some]))
    encoded = [[next(flat) for _ in some] for some in cut]
    return [[ids for ids in some if ids] for some in encoded]
