"""The laws of packing: nothing lost, nothing twice, and a row says which slots belong together."""

import random
from collections import Counter

import numpy as np
import pytest

from rootstock.data import packing
from rootstock.data.errors import DataError
from rootstock.data.fields import pair_fields
from rootstock.data.text import TextTask

LENGTH = 32


def random_pieces(vocabulary, number, seed=0, longest=LENGTH - packing.FRAME):
    chance = random.Random(seed)
    ordinary = range(len(vocabulary.special_ids), vocabulary.size)
    return [tuple(chance.choices(ordinary, k=chance.randint(0, longest))) for _ in range(number)]


def unpack(rows, vocabulary):
    """The pieces of rows, with every law of a row checked on the way."""
    for row in rows:
        assert {name: (value.shape, value.dtype) for name, value in row.items()} == dict.fromkeys(
            ("input_ids", "token_type_ids", "segment_ids", "positions"), ((LENGTH,), np.dtype("int32"))
        )
        segments = row["segment_ids"]
        assert not row["token_type_ids"].any()
        for segment in range(1, segments.max() + 1):
            (places,) = np.nonzero(segments == segment)
            ids = row["input_ids"][places]
            assert list(places) == list(range(places[0], places[-1] + 1))
            assert list(row["positions"][places]) == list(range(len(places)))
            assert (ids[0], ids[-1]) == (vocabulary.cls_id, vocabulary.sep_id)
            yield tuple(ids[1:-1].tolist())
        padding = segments == 0
        assert not np.diff(padding.astype(int)).min(initial=0) < 0  # all at the end
        assert (row["input_ids"][padding] == vocabulary.pad_id).all()
        assert not row["positions"][padding].any()


@pytest.mark.parametrize("open_rows", [1, 3, 256])
def test_every_piece_once(vocabulary, open_rows):
    pieces = random_pieces(vocabulary, 500)
    found = unpack(packing.pack(pieces, LENGTH, vocabulary, open_rows), vocabulary)
    assert Counter(found) == Counter(piece for piece in pieces if piece)


def test_deterministic_and_streaming(vocabulary):
    pieces = random_pieces(vocabulary, 300)
    rows = list(packing.pack(pieces, LENGTH, vocabulary, open_rows=4))
    for one, two in zip(rows, packing.pack(iter(pieces), LENGTH, vocabulary, open_rows=4), strict=True):
        assert all((one[name] == two[name]).all() for name in one)
    drawn = []
    first = next(packing.pack((drawn.append(p) or p for p in pieces), LENGTH, vocabulary, open_rows=4))
    assert len(drawn) < 40
    assert (first["input_ids"] == rows[0]["input_ids"]).all()


def test_dense(vocabulary):
    rows = list(packing.pack(random_pieces(vocabulary, 3000), LENGTH, vocabulary))
    assert np.mean([row["segment_ids"] > 0 for row in rows]) > 0.97


def test_a_document_is_cut_and_kept_in_order(vocabulary):
    ids = list(range(5, 5 + 70))
    pieces = list(packing.cut(ids, LENGTH))
    assert [len(piece) for piece in pieces] == [30, 30, 10]
    rows = list(packing.pack(pieces, LENGTH, vocabulary))
    assert [i for piece in unpack(rows, vocabulary) for i in piece] == ids


def random_pairs(vocabulary, number, inputs=20, targets=8, seed=0):
    chance = random.Random(seed)
    ordinary = range(len(vocabulary.special_ids), vocabulary.size)
    return [tuple(tuple(chance.choices(ordinary, k=chance.randint(1, most))) for most in (inputs, targets)) for _ in range(number)]


def unpack_pairs(rows, lengths):
    """The pairs of rows, with every law of a row checked on the way."""
    for row in rows:
        assert row.keys() == pair_fields(*lengths).keys()
        pieces = []
        for prefix, length in zip(("", "target_"), lengths, strict=True):
            ids, segments, positions = (
                row[name] for name in (f"{prefix}ids" if prefix else "input_ids", f"{prefix}segment_ids", f"{prefix}positions")
            )
            assert all(array.shape == (length,) and array.dtype == np.int32 for array in (ids, segments, positions))
            assert (np.diff(segments[segments > 0]) >= 0).all() and not (np.diff((segments == 0).astype(int)) < 0).any()
            assert not ids[segments == 0].any() and not positions[segments == 0].any()
            places = [np.flatnonzero(segments == segment) for segment in range(1, segments.max() + 1)]
            assert all(positions[some].tolist() == list(range(len(some))) for some in places)
            pieces.append([tuple(ids[some].tolist()) for some in places])
        yield from zip(*pieces, strict=True)


@pytest.mark.parametrize("open_rows", [1, 3, 256])
@pytest.mark.parametrize("lengths", [(LENGTH, 16), (20, 8), (24, 64)])
def test_every_pair_once(vocabulary, open_rows, lengths):
    pairs = random_pairs(vocabulary, 300)
    rows = list(packing.pack_pairs(pairs, *lengths, vocabulary, open_rows))
    assert Counter(unpack_pairs(rows, lengths)) == Counter(pairs)
    for one, two in zip(rows, packing.pack_pairs(iter(pairs), *lengths, vocabulary, open_rows), strict=True):
        assert all((one[name] == two[name]).all() for name in one)


def test_pairs_are_packed_densely(vocabulary):
    """The side that fills first is nearly full; what is open stays bounded."""
    rows = list(packing.pack_pairs(random_pairs(vocabulary, 3000), LENGTH, LENGTH, vocabulary))
    assert np.mean([row["segment_ids"] > 0 for row in rows]) > 0.97
    drawn = []
    next(packing.pack_pairs((drawn.append(p) or p for p in random_pairs(vocabulary, 300)), LENGTH, LENGTH, vocabulary, open_rows=4))
    assert len(drawn) < 40


@pytest.mark.parametrize("pair", [(range(33), [1]), ([1], range(9)), ([], [1]), ([1], [])])
def test_pairs_that_do_not_fit(vocabulary, pair):
    with pytest.raises(DataError, match=r"a pair of \d+ inputs and \d+ targets does not fit a row: expected 1 to 32 inputs and 1 to 8"):
        list(packing.pack_pairs([pair], 32, 8, vocabulary))


@pytest.mark.real_data
def test_wiki_text_fills_its_rows(real_data):
    task = TextTask(
        f"{real_data}/pretrain_en/wiki_paragraphs/*", f"{real_data}/vocab/bert-base-uncased-vocab.txt", 512, validation_fraction=0
    )
    filled = [np.count_nonzero(row["segment_ids"]) / 512 for row in task.rows("train")]
    assert len(filled) > 1000 and np.mean(filled) >= 0.97


def test_errors(vocabulary):
    with pytest.raises(DataError, match=r"a piece of 31 ids does not fit a row of 32: between .* are 30"):
        list(packing.pack([range(31)], LENGTH, vocabulary))
    with pytest.raises(DataError, match="the length of a row is 2"):
        list(packing.pack([[7]], 2, vocabulary))
