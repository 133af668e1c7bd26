"""Whole words, n-grams and spans: what is taken is whole, the number is exact, lengths follow their shares."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.data import vocabularies
from rootstock.data.vocabularies.words import continuing
from rootstock.pretrain.objectives import masking
from rootstock.pretrain.objectives.words import Words, geometric, take

SPECIAL, MASK, SIZE, WIDTH = (0, 1, 2, 3, 4), 4, 60, 64
VOCABULARY = types.SimpleNamespace(size=SIZE, mask_id=MASK, special_ids=SPECIAL)
CONTINUING = np.arange(SIZE) >= 40  # ids from 40 on stand for pieces with "##"


def batch(rows=256, seed=0):
    """[CLS], words of one to four pieces, [SEP], and in every other row a second packed piece; then padding."""
    draws = np.random.default_rng(seed)
    ids, segments = np.zeros((rows, WIDTH), np.int32), np.zeros((rows, WIDTH), np.int32)
    for row in range(rows):
        start = 0
        for number, length in enumerate((60,) if row % 2 else (30, 24), start=1):
            inside = draws.integers(5, 40, length - 2)
            inside[draws.random(length - 2) < 0.4] += 20
            ids[row, start : start + length] = [2, *np.minimum(inside, SIZE - 1), 3]
            segments[row, start : start + length] = number
            start += length
    return {"input_ids": jnp.asarray(ids), "segment_ids": jnp.asarray(segments)}


def words_of(row, segments):
    """Lists of positions, by the rule itself."""
    found, before = [], False
    for place, (piece, segment) in enumerate(zip(row, segments, strict=True)):
        ordinary = segment > 0 and piece not in SPECIAL
        if ordinary and before and CONTINUING[piece] and segments[place - 1] == segment:
            found[-1].append(place)
        elif ordinary:
            found.append([place])
        before = ordinary
    return found


@functools.cache
def drawn(lengths=(1.0,), rate=0.15, corruption=masking.all_mask):
    rows = batch()
    how = dict(rate=rate, choice=Words(CONTINUING, lengths), corruption=corruption)
    masked = jax.jit(lambda rows: masking.mask(jax.random.key(1), rows, VOCABULARY, **how))(rows)
    return jax.tree.map(np.asarray, rows), types.SimpleNamespace(**{name: np.asarray(x) for name, x in vars(masked).items()})


def used(masked, row):
    return set(masked.positions[row][masked.weights[row] == 1].tolist())


@pytest.mark.parametrize("lengths", [(1.0,), (0.5, 0.5)])
def test_every_word_is_chosen_whole_or_not_at_all(lengths):
    rows, masked = drawn(lengths)
    for row in range(len(rows["input_ids"])):
        chosen = used(masked, row)
        for word in words_of(rows["input_ids"][row], rows["segment_ids"][row]):
            assert len(chosen & set(word)) in (0, len(word))
        assert not np.isin(rows["input_ids"][row, list(chosen)], SPECIAL).any()


def test_the_number_is_that_of_single_tokens_as_long_as_a_word_fits():
    """round(0.15 n) of n; fewer only where every word that is left is longer than the room that is left."""
    rows, masked = drawn()
    assert masked.positions.shape[1] == masking.places(WIDTH, 0.15)
    short = 0
    for row in range(len(rows["input_ids"])):
        chosen, words = used(masked, row), words_of(rows["input_ids"][row], rows["segment_ids"][row])
        room = masking.places(int((rows["segment_ids"][row] > 0).sum()), 0.15) - len(chosen)
        assert room >= 0 and all(len(word) > room for word in words if not chosen & set(word))
        short += room > 0
    assert short < 5


def test_one_piece_words_are_single_tokens():
    """Then every position is as likely, and the number is exact: as masking of single tokens."""
    ids = np.random.default_rng(0).integers(5, 40, (4000, 20)).astype(np.int32)
    rows = {"input_ids": jnp.asarray(ids), "segment_ids": jnp.ones_like(ids)}
    masked = jax.jit(lambda rows: masking.mask(jax.random.key(0), rows, VOCABULARY, rate=0.15, choice=Words(CONTINUING)))(rows)
    assert (masked.weights.sum(1) == 3).all()
    picked = np.bincount(np.asarray(masked.positions).ravel(), minlength=20) / 4000
    assert (abs(picked - 0.15) < 5 * np.sqrt(0.15 * 0.85 / 4000)).all()


def test_taking_is_going_through_the_units_one_by_one():
    """BERT's loop: a unit that does not fit any more is passed over, the next ones are still tried."""
    chance = np.random.default_rng(0)
    starts = chance.random((200, 40)) < 0.35
    starts[:, 0] = True
    lots, wanted = chance.random((200, 40)).astype(np.float32), chance.integers(0, 25, 200).astype(np.int32)
    found = np.asarray(jax.jit(take)(lots, starts, np.ones_like(starts), wanted))
    for row in range(200):
        units = np.split(np.arange(40), np.flatnonzero(starts[row])[1:])
        taken = []
        for unit in sorted(units, key=lambda unit: -lots[row, unit[0]]):
            taken += unit.tolist() if len(taken) + len(unit) <= wanted[row] else []
        assert sorted(taken) == np.flatnonzero(found[row]).tolist()


@pytest.mark.parametrize("shares", [(0.4, 0.3, 0.2, 0.1), (6 / 11, 3 / 11, 2 / 11)], ids=["macbert", "albert"])
def test_lengths_follow_their_shares(shares):
    """Chi-square over the units laid out in rows of 400 one-piece words, and the expected length; the last unit of a row is cut off."""
    eligible = jnp.ones((50, 400), bool)
    rows = {"input_ids": jnp.full((50, 400), 7), "segment_ids": jnp.ones((50, 400), jnp.int32)}
    chosen = jax.jit(lambda rows: Words(CONTINUING, shares)(jax.random.key(2), rows, eligible, jnp.full(50, 60)))(rows)
    sizes = np.concatenate([np.unique(row, return_counts=True)[1][:-1] for row in np.asarray(chosen.units)])
    counts = np.bincount(sizes, minlength=len(shares) + 1)[1:]
    expected = len(sizes) * np.asarray(shares)
    assert len(counts) == len(shares) and ((counts - expected) ** 2 / expected).sum() < 21  # 3 degrees: p = 0.0001
    assert abs(sizes.mean() - np.arange(1, len(shares) + 1) @ shares) < 5 * sizes.std() / np.sqrt(len(sizes))
    taken = np.asarray(chosen.order) >= 0
    for row, units in zip(taken, np.asarray(chosen.units), strict=True):
        assert 57 <= row.sum() <= 60 and all(row[units == unit].all() for unit in np.unique(units[row]))


def test_spans():
    """Joshi et al., section 3.1: geometric with p = 0.2 up to 10 words, 3.8 in the mean; a span goes one way, by `unit_corruption`."""
    shares = geometric(0.2, 10)
    assert sum(shares) == pytest.approx(1) and np.arange(1, 11) @ shares == pytest.approx(3.797, abs=1e-3)
    rows, masked = drawn(shares, 0.3, masking.unit_corruption)
    kinds = set()
    for row in range(len(rows["input_ids"])):
        for run in np.split(sorted(used(masked, row)), np.flatnonzero(np.diff(sorted(used(masked, row))) > 1) + 1):
            kinds.add(frozenset((masked.input_ids[row, run] == MASK).tolist()))
    assert frozenset({True}) in kinds and frozenset({False}) in kinds
    with pytest.raises(ValueError, match=r"Words\.lengths are shares"):
        Words(CONTINUING, ())


def test_a_field_says_where_words_begin():
    """Chinese: each character is a piece; the field `continues` comes from a segmenter."""
    ids = np.full((64, 10), 7, np.int32)
    continues = np.tile([0, 1], (64, 5)).astype(np.int32)
    rows = {"input_ids": jnp.asarray(ids), "segment_ids": jnp.ones_like(ids), "continues": jnp.asarray(continues)}
    masked = jax.jit(lambda rows: masking.mask(jax.random.key(0), rows, VOCABULARY, rate=0.4, choice=Words()))(rows)
    for places in np.sort(masked.positions, axis=1):
        assert (places[0::2] % 2 == 0).all() and (places[1::2] == places[0::2] + 1).all()
    with pytest.raises(ValueError, match="the batch has no field 'continues'"):
        Words()(jax.random.key(0), batch(2), jnp.ones((2, WIDTH), bool), jnp.ones(2, jnp.int32))


def test_continuing_pieces(tmp_path):
    """WordPiece by "##", byte-level BPE by the missing blank."""
    (tmp_path / "vocab.txt").write_text("\n".join([*vocabularies.SPECIALS, "a", "##a", "#", "##"]))
    assert continuing(vocabularies.load(tmp_path / "vocab.txt")).tolist() == [False] * 6 + [True, False, True]
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "Ġa", ",", "Ã", "Ċ", "Ġ,"]
    known = types.SimpleNamespace(size=len(pieces), special_ids=(0, 1, 2, 3, 4), piece_of=pieces.__getitem__)
    assert np.flatnonzero(continuing(known)).tolist() == [5, 8]
    pieces = ["<unk>", "[CLS]", "▁the", "s", "“", "▁", "<0x41>"]
    known = types.SimpleNamespace(size=len(pieces), special_ids=(0, 1), piece_of=pieces.__getitem__)
    assert np.flatnonzero(continuing(known)).tolist() == [3]
