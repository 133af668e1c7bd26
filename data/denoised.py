"""Rows of raw tokens into batches of a denoising objective, corrupted anew at every reading.

The chance of an example is a function of the seed and of its place in the stream, so neither hosts nor a restart change it, and another
epoch corrupts a row in another way. What becomes of a pair is the form:

    EncoderDecoder   inputs and targets apart, for T5                `fields.pair_fields`
    DecoderOnly      inputs, then targets, in one causal row         `input_ids`, `segment_ids`, `positions`, `is_target`
"""

import dataclasses
import sys
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int64

from rootstock.data import vocabularies
from rootstock.data.denoising import Denoiser, Ids, Marks, Pair
from rootstock.data.errors import DataError
from rootstock.data.fields import Field, Fields, pair_fields
from rootstock.data.streams import WEIGHT, Batch, Stream

TRIED = 256  # rows that are corrupted beforehand, to say how many do not fit


class Form(Protocol):
    """Where a pair goes."""

    def fields(self) -> dict[str, Field]: ...

    def fits(self, inputs: int, targets: int) -> bool:
        """Whether a pair of these lengths need not be cut."""
        ...

    def write(self, row: Batch, pair: Pair, eos: int) -> None:
        """Fills a row of padding; what does not fit is cut before its EOS."""
        ...


@dataclasses.dataclass(frozen=True)
class EncoderDecoder:
    """Inputs of at most `length` and targets of at most `target_length` tokens, EOS included."""

    length: int
    target_length: int

    def fields(self) -> dict[str, Field]:
        return pair_fields(self.length, self.target_length)

    def fits(self, inputs: int, targets: int) -> bool:
        return inputs <= self.length and targets <= self.target_length

    def write(self, row: Batch, pair: Pair, eos: int) -> None:
        inputs, targets = (_cut(ids, room, eos) for ids, room in zip(pair, (self.length, self.target_length), strict=True))
        for ids, names in (
            (inputs, ("input_ids", "segment_ids", "positions")),
            (targets, ("target_ids", "target_segment_ids", "target_positions")),
        ):
            _fill(row, names, ids)


@dataclasses.dataclass(frozen=True)
class DecoderOnly:
    """Inputs without their EOS, then targets, of at most `length` tokens together; `is_target` marks those whose likelihood is the loss."""

    length: int

    def fields(self) -> dict[str, Field]:
        return {name: Field((self.length,)) for name in ("input_ids", "segment_ids", "positions", "is_target")}

    def fits(self, inputs: int, targets: int) -> bool:
        return max(inputs - 1, 0) + targets <= self.length

    def write(self, row: Batch, pair: Pair, eos: int) -> None:
        inputs, targets = pair[0][:-1], pair[1]  # a prompt has no EOS
        ids = _cut(np.concatenate([inputs, targets]), self.length, eos)
        _fill(row, ("input_ids", "segment_ids", "positions"), ids)
        row["is_target"][len(inputs) : len(ids)] = 1


class Denoised(Stream):
    """A stream of raw rows (`raw_text.RawTextTask`), `Shuffled` or `Ordered`, corrupted."""

    def __init__(self, stream: Stream, denoiser: Denoiser, form: Form, seed: int = 0):
        super().__init__(Reshaped(stream.source, form.fields()))
        vocabulary = vocabularies.load(stream.vocabulary)
        vocabulary.require("eos")
        self.stream, self.denoiser, self.form, self.seed = stream, denoiser, form, seed
        self.marks = Marks(vocabulary.eos_id, vocabulary.sentinel_ids)
        self._pad = vocabulary.pad_id or 0
        self._check(stream.source.fields["input_ids"].shape[0])

    def __len__(self) -> int:
        return len(self.stream)

    def rows(self, places: Int64[np.ndarray, "B"]) -> Batch:
        read = self.stream.rows(places)
        made = {name: np.zeros((len(places), *field.shape), field.dtype) for name, field in self.source.fields.items()}
        for name in made.keys() & {"input_ids", "target_ids"}:
            made[name].fill(self._pad)
        for number, (place, ids) in enumerate(zip(places.tolist(), _raw(read), strict=True)):
            if len(ids):  # not beyond the end of finite data
                pair = self.denoiser(ids, self.marks, self.chance(place))
                self.form.write({name: values[number] for name, values in made.items()}, pair, self.marks.eos)
        return made | {WEIGHT: read[WEIGHT]}

    def chance(self, place: int) -> np.random.Generator:
        """The randomness of one example: numbered streams of a counter-based generator."""
        return np.random.Generator(np.random.Philox(key=np.array([self.seed % 2**64, place], np.uint64)))

    def _check(self, tokens: int) -> None:
        """Refuses a vocabulary without enough sentinels, and rows of which most do not fit; says how many do not."""
        vocabulary, needed, there = self.stream.vocabulary, self.denoiser.spans(tokens), len(self.marks.sentinels)
        if needed > there:
            found = f"{there} sentinels (<extra_id_0>, ...)" if there else "no sentinels: it has no piece <extra_id_0>"
            raise DataError(f"rows of {tokens} tokens have {needed} spans of noise, and the vocabulary '{vocabulary}' has {found}.")
        if self.form.fits(*self.denoiser.room(tokens)):
            return
        tried = np.arange(min(TRIED, len(self.source)))
        pairs = [
            self.denoiser(ids, self.marks, self.chance(place))
            for place, ids in zip(tried.tolist(), _raw(self.stream.rows(tried)), strict=True)
        ]
        lengths = [(len(inputs), len(targets)) for inputs, targets in pairs]
        long = sum(not self.form.fits(*pair) for pair in lengths)
        most = " and ".join(f"{max(side)} {what}" for side, what in zip(zip(*lengths, strict=True), ("inputs", "targets"), strict=True))
        told = f"{long} of {len(tried)} rows that were tried do not fit {self.form}: rows of {tokens} tokens give up to {most}"
        if 2 * long > len(tried):
            raise DataError(f"{told}. Give more room or cut the text into rows of fewer tokens.")
        if long:
            print(f"{told}; the ends of such rows are cut off", file=sys.stderr)


@dataclasses.dataclass(frozen=True)
class Reshaped:
    """What a stream tells of its source, with other fields."""

    raw: Any
    fields: Fields

    @property
    def vocabulary(self) -> str | None:
        return self.raw.vocabulary

    @property
    def vocabulary_checksum(self) -> str | None:
        return self.raw.vocabulary_checksum

    def __len__(self) -> int:
        return len(self.raw)


def _raw(read: Batch) -> list[Ids]:
    return [ids[real] for ids, real in zip(read["input_ids"], read["segment_ids"] > 0, strict=True)]


def _cut(ids: Ids, room: int, eos: int) -> Ids:
    return ids if len(ids) <= room else np.append(ids[: room - 1], eos)


def _fill(row: Batch, names: tuple[str, str, str], ids: Ids) -> None:
    for name, values in zip(names, (ids, 1, np.arange(len(ids))), strict=True):
        row[name][: len(ids)] = values
