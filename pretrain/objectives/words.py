"""Masking of whole words, n-grams of words, and spans, with as many places as masking of single tokens has.

    whole words    Devlin et al., release of May 2019         lengths (1,)
    n-grams        ALBERT: Lan et al. 2019, arXiv 1909.11942  lengths in the ratio 1 : 1/2 : 1/3;  MacBERT: 4 : 3 : 2 : 1
    spans          SpanBERT: Joshi et al. 2019, arXiv 1907.10529  lengths geometric (p = 0.2) up to 10, so 3.8 words in the mean

A row is laid out in units of so many words, the lengths drawn anew at every step; units are taken in a random order, each one whole, and
one that would go beyond the number of predictions is passed over, as in BERT's released code. So that number is reached but for what no
unit fits. A unit ends where its words do: at special pieces and at the borders of packed pieces.

Deviations: ALBERT's and DeBERTa's released codes draw a length at each word that they come upon and shorten or drop what overlaps or goes
beyond the number, so that their lengths are shorter than said; here they follow the ratio.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from rootstock.engine.sockets import Batch
from rootstock.pretrain.objectives.masking import Chosen

FIELD = "continues"


def geometric(p: float = 0.2, longest: int = 10) -> tuple[float, ...]:
    """Shares of the lengths 1, 2, ..., `longest` of spans: p (1 - p)^(n - 1), scaled to sum to 1."""
    shares = p * (1 - p) ** np.arange(longest)
    return tuple((shares / shares.sum()).tolist())


@dataclasses.dataclass(frozen=True)
class Words:
    """A `masking.Choice`. `lengths`: in what ratio units have 1, 2, ... words. `continuing`: by id, whether a piece goes on with the word
    before it (`data.vocabularies.words.continuing`); None reads the field `continues` of the batch, which a word segmenter has made.
    """

    continuing: Sequence[bool] | np.ndarray | None = None
    lengths: Sequence[float] = (1.0,)

    def __post_init__(self):
        if not self.lengths or min(self.lengths) < 0 or not sum(self.lengths):
            raise ValueError(f"Words.lengths are shares of the lengths 1, 2, ..., got {self.lengths}")

    def __call__(self, key: Key[Array, ""], batch: Batch, eligible: Bool[Array, "B L"], wanted: Int[Array, "B"]) -> Chosen:
        key_lengths, key_order, key_places = jax.random.split(key, 3)
        starts, breaks = word_starts(self.continues(batch), eligible, batch["segment_ids"])
        units = starts & (breaks | self._unit_starts(key_lengths, starts))
        taken = take(jax.random.uniform(key_order, eligible.shape), units, eligible, wanted)
        order = jnp.where(taken, jax.random.uniform(key_places, eligible.shape), -1.0)
        return Chosen(order, beginning(starts | ~eligible), beginning(units | ~eligible))

    def continues(self, batch: Batch) -> Bool[Array, "B L"]:
        if self.continuing is not None:
            return jnp.asarray(np.asarray(self.continuing, bool))[batch["input_ids"]]
        if FIELD not in batch:
            raise ValueError(
                f"Words.continuing is None, and the batch has no field {FIELD!r} that says where words begin; "
                "give data.vocabularies.words.continuing, or rows that a segmenter has read (data.words.SegmentedTask)"
            )
        return batch[FIELD] > 0

    def _unit_starts(self, key: Key[Array, ""], starts: Bool[Array, "B L"]) -> Bool[Array, "B L"]:
        """Whether a word is the first of a unit, where units of drawn lengths follow one another from the first word on."""
        if len(self.lengths) == 1:
            return starts
        shares = np.asarray(self.lengths) / sum(self.lengths)
        number = jnp.cumsum(starts, axis=1) - 1  # of the word in its row
        drawn = jax.random.choice(key, len(shares), starts.shape, p=jnp.asarray(shares, jnp.float32)) + 1
        firsts = jnp.cumsum(drawn, axis=1) - drawn
        first = jnp.zeros_like(starts).at[jnp.arange(starts.shape[0])[:, None], firsts].set(True, mode="drop")
        return starts & jnp.take_along_axis(first, jnp.maximum(number, 0), axis=1)


def word_starts(
    continues: Bool[Array, "B L"], eligible: Bool[Array, "B L"], segment_ids: Int[Array, "B L"]
) -> tuple[Bool[Array, "B L"], Bool[Array, "B L"]]:
    """Where words begin, and where nothing before belongs to the same run of words."""
    before = jnp.pad(eligible, ((0, 0), (1, 0)))[:, :-1]
    same = jnp.pad(segment_ids, ((0, 0), (1, 0)))[:, :-1] == segment_ids
    breaks = eligible & ~(before & same)
    return eligible & (breaks | ~continues), breaks


def beginning(starts: Bool[Array, "B L"]) -> Int[Array, "B L"]:
    """The position of the last start at or before each position; 0 before the first."""
    return jax.lax.cummax(jnp.where(starts, jnp.arange(starts.shape[1])[None], 0), axis=1)


def take(chance: Array, starts: Bool[Array, "B L"], eligible: Bool[Array, "B L"], wanted: Int[Array, "B"]) -> Bool[Array, "B L"]:
    """Whether each position is taken: units from the highest chance at their start down, each if it still fits into `wanted` positions.

    All rows at once, in a few rounds: a unit longer than the room that is left will never fit, and of the others the longest run that
    fits is taken, which is what going through them one by one would take.
    """
    rows = jnp.arange(starts.shape[0])[:, None]
    unit = beginning(starts)
    sizes = jnp.where(starts, jnp.zeros(starts.shape, jnp.int32).at[rows, unit].add(eligible.astype(jnp.int32)), 0)
    order = jnp.argsort(jnp.where(starts, -chance, 1.0), axis=1)  # what begins no unit is last
    sizes = jnp.take_along_axis(sizes, order, axis=1)

    def more(state):
        _, added, _ = state
        return added.any()

    def round_(state):
        taken, _, room = state
        fits = ~taken & (sizes > 0) & (sizes <= room[:, None])
        added = fits & (jnp.cumsum(jnp.where(fits, sizes, 0), axis=1) <= room[:, None])
        return taken | added, added, room - jnp.where(added, sizes, 0).sum(1)

    none = jnp.zeros_like(starts)
    taken, _, _ = jax.lax.while_loop(more, round_, (none, ~none, wanted.astype(jnp.int32)))
    units = none.at[rows, order].set(taken)
    return eligible & jnp.take_along_axis(units, unit, axis=1)
