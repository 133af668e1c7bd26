"""Text to (inputs, targets): the pretraining objectives of T5 and UL2 as functions of a row of ids and a random generator.

    SpanCorruption   spans are replaced by sentinels, targets give them back     Raffel et al. 2019, arXiv 1910.10683, section 3.1.4
    IidDenoising     the same with single tokens drawn independently             section 3.3.1, "BERT-style" tokens, neighbours merged
    PrefixLM         the row is cut at a random place                            section 3.2.1; LM adaptation: Lester et al. 2021
    CausalLM         no inputs, the row is the targets                           Radford et al. 2018
    Mixture          one of several, each with its mode in front                 UL2, Tay et al. 2022, arXiv 2205.05131

Sentinels count down from the first, one a span; every inputs and targets ends with EOS (but a CausalLM's, whose rows hold it where it
belongs). As in T5's code a row begins with text and ends with noise, and no sentinel closes the targets. `denoised` makes batches of them,
`seqio_preprocessors` what seqio's tasks are made of.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Int

from rootstock.data.errors import DataError
from rootstock.data.vocabularies import Vocabulary

_MANY = 1 << 20  # tokens: a row that is longer than any
UL2_MODES = {"r": "[NLU]", "x": "[NLG]", "s": "[S2S]"}  # as the released checkpoints have them

Ids = Int[np.ndarray, "..."]
Pair = tuple[Ids, Ids]


@dataclasses.dataclass(frozen=True)
class Marks:
    """The special ids that denoising writes."""

    eos: int
    sentinels: Sequence[int]  # the first span's first


class Denoiser(Protocol):
    """One way to make a pair."""

    def __call__(self, ids: Ids, marks: Marks, chance: np.random.Generator) -> Pair: ...

    def room(self, tokens: int) -> tuple[int, int]:
        """The most inputs and targets that a row of `tokens` gives, EOS included."""
        ...

    def spans(self, tokens: int) -> int:
        """How many sentinels a row of `tokens` takes; where chance decides, on average."""
        ...


@dataclasses.dataclass(frozen=True)
class SpanCorruption:
    """round(rate * n) tokens are noise, in round(noise / mean_span) spans of random lengths.

    With `roll` the mask is turned by a random number of places, as T5's code can too: else a single long span is always the row's end.
    """

    rate: float = 0.15
    mean_span: float = 3.0
    roll: bool = False

    def __post_init__(self):
        _check_rate(self)
        if self.mean_span < 1:
            raise DataError(f"SpanCorruption.mean_span is {self.mean_span}; a span has 1 token or more.")

    def counts(self, tokens: int) -> tuple[int, int]:
        """Noise tokens and spans of a row; at least one token stays and one goes."""
        exact = np.float32(tokens) * np.float32(self.rate)  # T5's precision decides halves: 15% of 190 tokens are 29
        noise = min(max(round(exact), 1), tokens - 1)
        return noise, min(max(round(np.float32(noise) / np.float32(self.mean_span)), 1), noise, tokens - noise)

    def room(self, tokens: int) -> tuple[int, int]:
        noise, spans = self.counts(tokens)[0], self.spans(tokens)
        return tokens - noise + spans + 1, noise + spans + 1

    def spans(self, tokens: int) -> int:
        return self.counts(tokens)[1] + self.roll  # a span that lies over the end is two

    def __call__(self, ids: Ids, marks: Marks, chance: np.random.Generator) -> Pair:
        noise, spans = self.counts(len(ids))
        kept, gone = (_parts(total, spans, chance) for total in (len(ids) - noise, noise))
        lengths = np.stack([kept, gone], axis=1).ravel()
        mask = np.repeat(np.arange(2 * spans) % 2 == 1, lengths)
        return corrupted(ids, np.roll(mask, chance.integers(len(ids))) if self.roll else mask, marks)


@dataclasses.dataclass(frozen=True)
class IidDenoising:
    """Each token is noise with probability `rate`; neighbouring noise is one span. Noise for which no sentinel is left stays text."""

    rate: float = 0.15

    def __post_init__(self):
        _check_rate(self)

    def room(self, tokens: int) -> tuple[int, int]:
        return tokens + 1, tokens + tokens // 2 + 2

    def spans(self, tokens: int) -> int:
        return round(tokens * self.rate * (1 - self.rate))

    def __call__(self, ids: Ids, marks: Marks, chance: np.random.Generator) -> Pair:
        noise = chance.random(len(ids)) < self.rate
        return corrupted(ids, noise & (np.cumsum(_firsts(noise)) <= len(marks.sentinels)), marks)


@dataclasses.dataclass(frozen=True)
class PrefixLM:
    """Inputs are the first tokens, targets the rest; `prefix` is their share, None draws the place uniformly from 1 to n - 1."""

    prefix: float | None = None

    def room(self, tokens: int) -> tuple[int, int]:
        if self.prefix is None:
            return tokens, tokens
        first = self._first(tokens, None)
        return first + 1, tokens - first + 1

    def spans(self, tokens: int) -> int:
        return 0

    def __call__(self, ids: Ids, marks: Marks, chance: np.random.Generator) -> Pair:
        first = self._first(len(ids), chance)
        return _ended(ids[:first], marks), _ended(ids[first:], marks)

    def _first(self, tokens: int, chance: np.random.Generator | None) -> int:
        return int(chance.integers(1, tokens)) if self.prefix is None else min(max(round(tokens * self.prefix), 1), tokens - 1)


@dataclasses.dataclass(frozen=True)
class CausalLM:
    """The whole row is to be told, from nothing. For decoder-only models, over rows whose documents end with EOS."""

    def room(self, tokens: int) -> tuple[int, int]:
        return 0, tokens

    def spans(self, tokens: int) -> int:
        return 0

    def __call__(self, ids: Ids, marks: Marks, chance: np.random.Generator) -> Pair:
        ids = np.asarray(ids, np.int32)
        return ids[:0], ids


@dataclasses.dataclass(frozen=True)
class Mixture:
    """One of several denoisers for each row, drawn by `rates`; `modes` are ids put in front of the inputs (UL2's [R], [S], [X]), if any."""

    parts: Mapping[str, Denoiser]
    rates: Mapping[str, float]
    modes: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.parts.keys() != self.rates.keys() or not self.parts or min(self.rates.values()) <= 0:
            raise DataError(f"a Mixture of {', '.join(self.parts) or 'nothing'} needs a rate above 0 for each; seen {dict(self.rates)}.")

    def room(self, tokens: int) -> tuple[int, int]:
        inputs, targets = zip(*(part.room(tokens) for part in self.parts.values()), strict=True)
        return max(inputs) + max(map(len, self.modes.values()), default=0), max(targets)

    def spans(self, tokens: int) -> int:
        return max(part.spans(tokens) for part in self.parts.values())

    def __call__(self, ids: Ids, marks: Marks, chance: np.random.Generator) -> Pair:
        names = list(self.parts)
        rates = np.array([self.rates[name] for name in names], float)
        name = names[chance.choice(len(names), p=rates / rates.sum())]
        inputs, targets = self.parts[name](ids, marks, chance)
        return (np.concatenate([self.modes[name], inputs]).astype(np.int32) if self.modes else inputs), targets


def ul2(vocabulary: Vocabulary | None = None, modes: Mapping[str, str] = UL2_MODES) -> Mixture:
    """UL2's seven denoisers (Tay et al. 2022, table 2): two of T5's kind, four extreme ones, and the sequential one, in equal parts.

    With a `vocabulary`, its ids of the texts `modes` for r, x and s stand in front of the inputs.
    """
    parts = {
        "r-short": SpanCorruption(0.15, 3.0),
        "r-long": SpanCorruption(0.15, 8.0),
        "x-short": SpanCorruption(0.5, 3.0),
        "x-middle": SpanCorruption(0.5, 8.0),
        "x-long": SpanCorruption(0.15, 64.0, roll=True),
        "x-both": SpanCorruption(0.5, 64.0, roll=True),
        "s": PrefixLM(0.75),
    }
    written = {} if vocabulary is None else {name: vocabulary.encode(modes[name[0]]) for name in parts}
    return Mixture(parts, dict.fromkeys(parts, 1.0), written)


def tokens_for(denoiser: Denoiser, inputs: int) -> int:
    """The longest row whose inputs fit: 568 tokens for 512 inputs of T5's span corruption."""
    tokens = 2
    if denoiser.room(tokens)[0] > inputs:
        raise DataError(f"no row of {tokens} tokens or more has at most {inputs} inputs; give more.")
    if denoiser.room(_MANY)[0] <= inputs:
        raise DataError(f"the inputs of {type(denoiser).__name__} do not grow with the row, so no number of inputs says how long it is.")
    while denoiser.room(tokens + 1)[0] <= inputs:
        tokens += 1
    return tokens


def corrupted(ids: Ids, noise: Bool[np.ndarray, "..."], marks: Marks) -> Pair:
    """Inputs with a sentinel for each run of noise, targets with a sentinel before each run of noise."""
    ids = np.asarray(ids, np.int32)
    first = _firsts(noise)
    if first.sum() > len(marks.sentinels):
        raise DataError(f"a row has {first.sum()} spans of noise, the vocabulary {len(marks.sentinels)} sentinels; take longer spans.")
    sentinel = np.asarray(marks.sentinels, np.int32)[np.cumsum(first) - 1] if first.any() else ids
    inputs = np.where(first, sentinel, ids)[~noise | first]
    places = np.flatnonzero(first)
    targets = np.insert(ids[noise], np.cumsum(noise)[places] - 1, sentinel[places])
    return _ended(inputs, marks), _ended(targets, marks)


def _firsts(noise: Bool[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
    """Where a run of noise begins."""
    return noise & ~np.concatenate([[False], noise[:-1]])


def _parts(total: int, parts: int, chance: np.random.Generator) -> Int[np.ndarray, "..."]:
    """`total` as a sum of `parts` positive numbers, every way equally likely."""
    cuts = np.sort(chance.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))


def _ended(ids: Ids, marks: Marks) -> Ids:
    return np.append(ids, marks.eos).astype(np.int32)


def _check_rate(denoiser: SpanCorruption | IidDenoising) -> None:
    if not 0 < denoiser.rate < 1:
        raise DataError(f"{type(denoiser).__name__}.rate is {denoiser.rate}; expected a share between 0 and 1.")
