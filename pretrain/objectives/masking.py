"""Which positions are predicted, and what stands there instead: on the device, with static shapes.

A row of L slots has S = round(rate L) places for predictions. A row with n tokens uses max(1, round(rate n)) of them (n counts special
tokens, as in BERT's released code, and special tokens are never picked), the other places have weight 0. A `Choice` says which positions
these are (single tokens here; words, n-grams and spans in `words`), a `Corruption` what is put there.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key

from rootstock.engine.sockets import Batch


@runtime_checkable
class Vocabulary(Protocol):
    """What objectives want to know of the vocabulary; `rootstock.data.vocabularies.load` gives one."""

    size: int
    mask_id: int
    special_ids: tuple[int, ...]


@struct.dataclass
class Masked:
    """Inputs with holes, and per place its position in the row, the token that belongs there and 1 or 0 as weight."""

    input_ids: Int[Array, "B L"]
    positions: Int[Array, "B S"]
    labels: Int[Array, "B S"]
    weights: Float[Array, "B S"]


@struct.dataclass
class Chosen:
    """Positions in the order in which they are taken, the highest first, below 0 never; and what they belong to, as the position where
    that begins: their word, and the unit (word, n-gram, span) of which all or nothing is taken.
    """

    order: Float[Array, "B L"]
    words: Int[Array, "B L"]
    units: Int[Array, "B L"]


@struct.dataclass
class Sites:
    """Places where something else may stand: their tokens, positions, words and units, in rows as they were."""

    input_ids: Int[Array, "B L"]
    words: Int[Array, "B L"]
    positions: Int[Array, "B S"]
    labels: Int[Array, "B S"]
    units: Int[Array, "B S"]

    def at(self, values: Array) -> Array:
        """Values [B, L, ...] by position, read at the places."""
        return jnp.take_along_axis(values, self.positions.reshape(*self.positions.shape, *(1,) * (values.ndim - 2)), axis=1)


Choice = Callable[[Key[Array, ""], Batch, Bool[Array, "B L"], Int[Array, "B"]], Chosen]  # of eligible positions, as many as wanted
Corruption = Callable[[Key[Array, ""], Sites, Vocabulary], Int[Array, "B S"]]


def tokens(key: Key[Array, ""], batch: Batch, eligible: Bool[Array, "B L"], wanted: Int[Array, "B"]) -> Chosen:
    """Every position by itself, each as likely."""
    alone = jnp.broadcast_to(jnp.arange(eligible.shape[1]), eligible.shape)
    return Chosen(jnp.where(eligible, jax.random.uniform(key, eligible.shape), -1.0), alone, alone)


def bert_corruption(key: Key[Array, ""], sites: Sites, vocabulary: Vocabulary) -> Int[Array, "B S"]:
    """80% [MASK], 10% any entry of the vocabulary (special ones included), 10% unchanged (Devlin et al. 2018, section 3.1)."""
    which, what = jax.random.split(key)
    return _drawn(jax.random.uniform(which, sites.labels.shape), what, sites, vocabulary, mask=0.8, anything=0.1)


def unit_corruption(key: Key[Array, ""], sites: Sites, vocabulary: Vocabulary) -> Int[Array, "B S"]:
    """As `bert_corruption`, but all tokens of a word, n-gram or span go the same way (SpanBERT: Joshi et al. 2019, arXiv 1907.10529)."""
    which, what = jax.random.split(key)
    u = jnp.take_along_axis(jax.random.uniform(which, sites.input_ids.shape), sites.units, axis=1)
    return _drawn(u, what, sites, vocabulary, mask=0.8, anything=0.1)


def electra_corruption(key: Key[Array, ""], sites: Sites, vocabulary: Vocabulary) -> Int[Array, "B S"]:
    """85% [MASK], 15% unchanged, never another token: what ELECTRA's released code does (its paper masks all)."""
    return _drawn(jax.random.uniform(key, sites.labels.shape), key, sites, vocabulary, mask=0.85, anything=0.0)


def all_mask(key: Key[Array, ""], sites: Sites, vocabulary: Vocabulary) -> Int[Array, "B S"]:
    """[MASK] at every chosen position."""
    return jnp.full_like(sites.labels, vocabulary.mask_id)


def _drawn(u, key, sites, vocabulary, mask, anything):
    hole = jnp.asarray(vocabulary.mask_id, sites.labels.dtype)
    other = sites.labels
    if anything:
        drawn = jax.random.randint(key, sites.labels.shape, 0, vocabulary.size, sites.labels.dtype)
        other = jnp.where(u < mask + anything, drawn, sites.labels)
    return jnp.where(u < mask, hole, other)


def places(length: int, rate: float) -> int:
    """Predictions a row has room for."""
    return max(1, round(rate * length))


def mask(
    key: Key[Array, ""],
    batch: Batch,
    vocabulary: Vocabulary,
    *,
    rate: float,
    choice: Choice = tokens,
    corruption: Corruption = bert_corruption,
) -> Masked:
    """Draws positions without replacement among present, ordinary tokens and puts `corruption` of the tokens there."""
    choose, change = jax.random.split(key)
    input_ids, present = batch["input_ids"], batch["segment_ids"] > 0
    eligible = present & ~among(input_ids, vocabulary.special_ids)
    wanted = jnp.asarray([places(n, rate) for n in range(input_ids.shape[1] + 1)])[present.sum(-1)]
    chosen = choice(choose, batch, eligible, wanted)
    chance, positions = jax.lax.top_k(chosen.order, places(input_ids.shape[1], rate))
    used = (jnp.arange(positions.shape[1])[None] < wanted[:, None]) & (chance >= 0)
    read = lambda values: jnp.take_along_axis(values, positions, axis=1)
    labels = read(input_ids)
    sites = Sites(input_ids, chosen.words, positions, labels, read(chosen.units))
    holes = jnp.where(used, corruption(change, sites, vocabulary), labels)
    return Masked(put(input_ids, positions, holes), positions, labels, used.astype(jnp.float32))


def put(input_ids: Int[Array, "B L"], positions: Int[Array, "B S"], values: Int[Array, "B S"]) -> Int[Array, "B L"]:
    """The rows with `values` at `positions`."""
    return input_ids.at[jnp.arange(input_ids.shape[0])[:, None], positions].set(values)


def among(input_ids: Int[Array, "B L"], ids: Sequence[int]) -> Bool[Array, "B L"]:
    return jnp.isin(input_ids, jnp.asarray(ids, input_ids.dtype))
