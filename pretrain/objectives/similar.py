"""Masked LM as correction: words give way to similar words, and [MASK] never occurs (MacBERT: Cui et al. 2020, arXiv 2004.13922).

Of the chosen words 80% become a similar word, 10% a random one, 10% stay; a word without similar ones becomes random. Every word of an
n-gram is drawn by itself. A similar word has as many pieces as the word whose place it takes, so that each position keeps one target.

What is similar comes from a file (`from_file`) or from word vectors (`from_vectors`). On the device words are found by a hash of their
pieces, in one sorted table. Random pieces are ordinary ones: neither [MASK] nor another special piece.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int, Int32, Key, UInt32

from rootstock.engine.errors import UserError
from rootstock.pretrain.objectives import masking
from rootstock.pretrain.objectives.masking import Sites

_NONE = -1
_FACTOR = np.uint32(2654435761)  # Knuth's multiplier: odd, so no piece is lost


@runtime_checkable
class Encoding(Protocol):
    """What a table is made with: `rootstock.data.vocabularies.load` gives one."""

    def encode(self, text: str) -> list[int]: ...


@dataclasses.dataclass(frozen=True)
class Table:
    """Words as rows of pieces (padded with -1), sorted by hash, and for each the rows of its similar words (-1: no more)."""

    hashes: UInt32[np.ndarray, " words"]
    pieces: Int32[np.ndarray, "words longest"]
    similar: Int32[np.ndarray, "words neighbours"]


def table_of(pairs: Iterable[tuple[Sequence[int], Sequence[Sequence[int]]]], longest: int = 4, neighbours: int = 10) -> Table:
    """From words and their similar words, as pieces, the nearest first. Left out: longer words, and neighbours of another length."""
    wanted = {}
    for word, others in pairs:
        kept = [tuple(other) for other in others if len(other) == len(word) and tuple(other) != tuple(word)]
        if 0 < len(word) <= longest and kept:
            wanted.setdefault(tuple(word), kept[:neighbours])
    words = sorted({*wanted, *(other for kept in wanted.values() for other in kept)})
    pieces = np.full((len(words), longest), _NONE, np.int32)
    for row, word in zip(pieces, words, strict=True):
        row[: len(word)] = word
    hashes = np.asarray(_hashed(jnp.asarray(pieces))) if words else np.zeros(0, np.uint32)
    order = np.argsort(hashes, kind="stable")
    place = {words[old]: new for new, old in enumerate(order)}
    similar = np.full((len(words), neighbours), _NONE, np.int32)
    for word, kept in wanted.items():
        similar[place[word], : len(kept)] = [place[other] for other in kept]
    return Table(hashes[order], pieces[order], similar)


def from_file(path: str, vocabulary: Encoding, longest: int = 4, neighbours: int = 10) -> Table:
    """Lines of a word and its similar words, separated by tabs."""
    rows = [line.rstrip("\n").split("\t") for line in _text(path) if line.strip()]
    return table_of(((vocabulary.encode(word), [vocabulary.encode(x) for x in others]) for word, *others in rows), longest, neighbours)


def from_vectors(path: str, vocabulary: Encoding, words: int = 50_000, longest: int = 4, neighbours: int = 10) -> Table:
    """The nearest by cosine among the first `words` words of a file in word2vec's text format (a word and its numbers a line)."""
    rows = [line.rstrip().split(" ") for line in _text(path)[: words + 1]]
    rows = rows[1:] if rows and len(rows[0]) == 2 else rows[:words]
    try:
        vectors = np.asarray([[float(x) for x in row[1:]] for row in rows], np.float32)
    except ValueError as error:
        raise UserError(f"{path} is not in word2vec's text format, a word and as many numbers on every line: {error}") from error
    encoded = [vocabulary.encode(row[0]) for row in rows]
    return table_of(_nearest(encoded, vectors, neighbours), longest, neighbours)


def _nearest(encoded: list[list[int]], vectors: Float32[np.ndarray, "words width"], neighbours: int):
    """Every word with the nearest of those that have as many pieces."""
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    counts = np.asarray([len(word) for word in encoded])
    for count in np.unique(counts):
        members = np.flatnonzero(counts == count)
        for some in np.array_split(members, -(-len(members) // 1000)):
            near = np.argsort(-(vectors[some] @ vectors[members].T), axis=1)[:, : neighbours + 1]
            for word, row in zip(some, near, strict=True):
                yield encoded[word], [encoded[members[i]] for i in row if members[i] != word]


def _text(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the similar words cannot be read from {path}: {error}") from error


@dataclasses.dataclass(frozen=True)
class Correction:
    """A `masking.Corruption`: 80% similar, 10% random, 10% unchanged by default, word by word."""

    table: Table
    similar: float = 0.8
    random: float = 0.1

    def __call__(self, key: Key[Array, ""], sites: Sites, vocabulary: masking.Vocabulary) -> Int[Array, "B S"]:
        key_kind, key_similar, key_random = jax.random.split(key, 3)
        u = jnp.take_along_axis(jax.random.uniform(key_kind, sites.words.shape), sites.at(sites.words), axis=1)
        instead, known = self._instead(key_similar, sites)
        ordinary = np.setdiff1d(np.arange(vocabulary.size), vocabulary.special_ids)
        drawn = jax.random.choice(key_random, jnp.asarray(ordinary, sites.labels.dtype), sites.labels.shape)
        changed = jnp.where((u < self.similar) & known, instead, drawn)
        return jnp.where(u < self.similar + self.random, changed, sites.labels)

    def _instead(self, key: Key[Array, ""], sites: Sites) -> tuple[Int[Array, "B S"], Bool[Array, "B S"]]:
        """The piece of a similar word at each place, and whether there is one."""
        if not len(self.table.hashes):
            return sites.labels, jnp.zeros(sites.labels.shape, bool)
        hashes, pieces, similar = (jnp.asarray(x) for x in (self.table.hashes, self.table.pieces, self.table.similar))
        first = sites.at(sites.words)
        word = _pieces_from(first, sites, pieces.shape[1] + 1)
        short = word[..., -1] == _NONE  # no longer than the words of the table
        row = jnp.minimum(jnp.searchsorted(hashes, _hashed(word[..., :-1])), len(hashes) - 1)
        others = similar[row]
        count = (others != _NONE).sum(-1)
        known = short & (pieces[row] == word[..., :-1]).all(-1) & (count > 0)
        lots = jnp.take_along_axis(jax.random.uniform(key, sites.words.shape), first, axis=1)  # one for all pieces of a word
        pick = jnp.minimum((lots * count.astype(lots.dtype)).astype(jnp.int32), jnp.maximum(count - 1, 0))
        other = jnp.take_along_axis(others, pick[..., None], axis=-1)[..., 0]
        offset = jnp.minimum(sites.positions - first, pieces.shape[1] - 1)
        return pieces[jnp.maximum(other, 0), offset].astype(sites.labels.dtype), known


def _pieces_from(first: Int[Array, "B S"], sites: Sites, count: int) -> Int[Array, "B S count"]:
    """The pieces of the words that begin at `first`, padded with -1."""
    at = first[..., None] + jnp.arange(count)[None, None]
    inside = at < sites.input_ids.shape[1]
    flat = jnp.where(inside, at, 0).reshape(first.shape[0], -1)
    read = lambda values: jnp.take_along_axis(values, flat, axis=1).reshape(at.shape)
    return jnp.where(inside & (read(sites.words) == first[..., None]), read(sites.input_ids), _NONE)


def _hashed(pieces: Int[Array, "*batch longest"]) -> UInt32[Array, "*batch"]:
    total = jnp.zeros(pieces.shape[:-1], jnp.uint32)
    for place in range(pieces.shape[-1]):
        total = (total ^ pieces[..., place].astype(jnp.uint32)) * _FACTOR
        total = total ^ (total >> np.uint32(15))
    return total
