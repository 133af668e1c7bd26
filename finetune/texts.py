"""Texts as a generating model reads and writes them."""

import dataclasses
import itertools
import re
from collections.abc import Sequence

from rootstock.data.vocabularies import Vocabulary
from rootstock.engine.errors import UserError
from rootstock.models.decoding.protocol import Generative

_SENTINEL = re.compile(r"<extra_id_(\d+)>")


@dataclasses.dataclass(frozen=True)
class Texts:
    """An encoder reads a text and its end token, cut at its end to `length` tokens. A decoder goes on from a text, of which it reads the
    last `length` tokens. `<extra_id_0>` in a text is the sentinel, as T5's own tokenizers have it.
    """

    vocabulary: Vocabulary
    model: Generative
    length: int = 512

    def __post_init__(self):
        self.vocabulary.require("eos")
        if self.length < 2:
            raise ValueError(f"inputs of {self.length} tokens are too short; expected at least 2")
        known = self.model.config.vocab_size
        if self.vocabulary.size > known:
            raise UserError(f"the vocabulary {self.vocabulary.path} has {self.vocabulary.size:,} pieces, but the model knows {known:,} ids")

    @property
    def end_id(self) -> int:
        return self.vocabulary.eos_id

    @property
    def pad_id(self) -> int:
        return self.vocabulary.pad_id or 0

    def inputs(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """Ids of each text, and how many texts had to be cut."""
        if self.model.continues_inputs:
            ids = self._encoded(texts)
            if [] in ids:
                raise UserError(f"input {ids.index([]) + 1} is empty; a decoder goes on from at least one token")
            short = [found[-self.length :] for found in ids]
        else:
            ids = self.targets(texts)
            short = [found if len(found) <= self.length else [*found[: self.length - 1], self.end_id] for found in ids]
        return short, sum(len(found) > self.length for found in ids)

    def targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text and the end token."""
        return [[*ids, self.end_id] for ids in self._encoded(texts)]

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        found = self.vocabulary.encode_batch(list(texts))
        if not self.vocabulary.sentinel_ids:
            return found
        return [self._with_sentinels(text) if _SENTINEL.search(text) else ids for text, ids in zip(texts, found, strict=True)]

    def _with_sentinels(self, text: str) -> list[int]:
        known, (first, *rest) = self.vocabulary.sentinel_ids, _SENTINEL.split(text)
        ids = self.vocabulary.encode(first)
        for number, part in zip(rest[::2], rest[1::2], strict=True):
            sentinel = [known[int(number)]] if int(number) < len(known) else self.vocabulary.encode(f"<extra_id_{number}>")
            ids = [*ids, *sentinel, *self.vocabulary.encode(part)]
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """What was generated."""
        return decoded(self.vocabulary, ids)


def decoded(vocabulary: Vocabulary, ids: Sequence[int]) -> str:
    """The text of generated ids. Those beyond the vocabulary (a model's table is often padded) show as <ID>."""
    runs = itertools.groupby(ids, key=lambda index: index < vocabulary.size)
    return " ".join(vocabulary.decode(run) if known else " ".join(f"<{index}>" for index in run) for known, run in runs)
