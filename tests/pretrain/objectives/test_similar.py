"""MacBERT's correction: never [MASK], whole words of as many pieces, 80/10/10 word by word."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.engine.errors import UserError
from rootstock.pretrain.objectives import masking
from rootstock.pretrain.objectives.similar import Correction, from_file, from_vectors, table_of
from rootstock.pretrain.objectives.words import Words

SIZE, SPECIAL, MASK = 200, (0, 1, 2, 3, 4), 4
VOCABULARY = types.SimpleNamespace(size=SIZE, mask_id=MASK, special_ids=SPECIAL)
PAIRS = 20  # words (10 + i, 110 + i), each with the next as its only similar word


def ring():
    word = lambda i: (10 + i % PAIRS, 110 + i % PAIRS)
    return table_of((word(i), [word(i + 1)]) for i in range(PAIRS))


@pytest.fixture(scope="module")
def rows():
    """Words of two pieces; ids from 110 on continue."""
    first = np.random.default_rng(0).integers(10, 10 + PAIRS, (2000, 10))
    ids = np.stack([first, first + 100], axis=-1).reshape(2000, 20).astype(np.int32)
    return {"input_ids": jnp.asarray(ids), "segment_ids": jnp.ones_like(ids)}


def corrected(rows, table):
    how = dict(rate=0.4, choice=Words(np.arange(SIZE) >= 110, (0.4, 0.3, 0.2, 0.1)), corruption=Correction(table))
    masked = jax.jit(lambda rows: masking.mask(jax.random.key(3), rows, VOCABULARY, **how))(rows)
    masked = types.SimpleNamespace(**{name: np.asarray(x) for name, x in vars(masked).items()})
    before, after = (np.asarray(x).reshape(-1, 2) for x in (rows["input_ids"], masked.input_ids))
    chosen = np.zeros(rows["input_ids"].shape, bool)
    np.put_along_axis(chosen, masked.positions, masked.weights > 0, axis=1)
    whole = chosen.reshape(-1, 2)
    assert (whole[:, 0] == whole[:, 1]).all() and (before[~whole[:, 0]] == after[~whole[:, 0]]).all()
    assert not np.isin(masked.input_ids, SPECIAL).any()
    return before[whole[:, 0]], after[whole[:, 0]]


def within(share, expected, count):
    assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / count)


def test_eighty_ten_ten(rows):
    """A random word is the old one, or the similar one, once in 195 squared."""
    before, after = corrected(rows, ring())
    similar = (after == np.stack([10 + (before[:, 0] - 9) % PAIRS, 110 + (before[:, 0] - 9) % PAIRS], axis=1)).all(1)
    kept = (after == before).all(1)
    within(similar.mean(), 0.8, len(before))
    within(kept.mean(), 0.1, len(before))
    others = after[~similar & ~kept]
    assert len(others) > 400 and others.min() >= 5 and others.max() < SIZE


def test_without_similar_words_all_become_random(rows):
    """Card: 90% random, 10% kept."""
    before, after = corrected(rows, table_of([]))
    within((after == before).all(1).mean(), 0.1, len(before))
    longer = table_of([((10, 110, 111), [(11, 111, 112)])])
    before, after = corrected(rows, longer)
    within((after == before).all(1).mean(), 0.1, len(before))


def test_tables(tmp_path):
    """Only words of as many pieces are similar; by file, and by the cosine of vectors."""
    vocabulary = types.SimpleNamespace(encode=lambda text: [ord(letter) - ord("a") for letter in text])
    (tmp_path / "words.tsv").write_text("ab\tcd\tabc\nabc\tab\ne\tf\tg\n")
    found = from_file(str(tmp_path / "words.tsv"), vocabulary, longest=3, neighbours=2)
    said = {tuple(word[word >= 0]): [tuple(found.pieces[i][found.pieces[i] >= 0]) for i in near if i >= 0]
            for word, near in zip(found.pieces, found.similar, strict=True)}  # fmt: skip
    assert said == {(0, 1): [(2, 3)], (2, 3): [], (4,): [(5,), (6,)], (5,): [], (6,): []}
    assert (np.diff(found.hashes.astype(np.int64)) > 0).all()
    (tmp_path / "vectors.txt").write_text("4 2\na 1 0\nb 0.9 0.1\nc 0 1\nab 1 0\n")
    near = from_vectors(str(tmp_path / "vectors.txt"), vocabulary, longest=2, neighbours=1)
    said = {word[0]: near.pieces[row[0]][0] for word, row in zip(near.pieces, near.similar, strict=True) if row[0] >= 0}
    assert said == {0: 1, 1: 0, 2: 1}
    (tmp_path / "vectors.txt").write_text("a 1 x\n")
    with pytest.raises(UserError, match="not in word2vec's text format"):
        from_vectors(str(tmp_path / "vectors.txt"), vocabulary)
