"""Streams: an epoch is a permutation, a batch is a function of its place."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.data.arrays import Arrays
from rootstock.data.errors import DataError
from rootstock.data.streams import Bucketed, Mixed, Ordered, Shuffled


def source(rows):
    return Arrays({"x": np.arange(rows, dtype=np.int32), "y": np.ones((rows, 2, 3), np.float32)})


def same(one, two):
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], strict=True)


@pytest.mark.parametrize("rows", [1, 2, 7, 100])
def test_every_row_once_an_epoch_in_another_order(rows):
    stream = Shuffled(source(rows), seed=3)
    epochs = [tuple(stream.batch(epoch * rows, rows)["x"].tolist()) for epoch in range(6)]
    assert all(sorted(epoch) == list(range(rows)) for epoch in epochs)
    if rows == 100:
        assert len(set(epochs)) == 6


def test_seeds_differ_and_are_not_shifted_epochs():
    def epoch(seed, number):
        return tuple(Shuffled(source(100), seed).batch(number * 100, 100)["x"].tolist())

    assert len({epoch(seed, number) for seed in (0, 1, 2) for number in (0, 1, 2)}) == 9


def test_a_batch_is_a_function_of_its_place():
    stream = Shuffled(source(10), seed=0)
    whole = stream.batch(0, 40)
    for start in (0, 7, 16, 25):  # across the ends of epochs too
        same(Shuffled(source(10), seed=0).batch(start, 12), {name: value[start : start + 12] for name, value in whole.items()})


@pytest.mark.parametrize("make", [lambda s: Shuffled(s, 5), Ordered], ids=["shuffled", "ordered"])
def test_shards_make_the_whole(make):
    stream = make(source(10))
    parts = [stream.batch(4, 12, shard, 4) for shard in range(4)]
    same(stream.batch(4, 12), {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


@pytest.mark.parametrize("make", [lambda s: Shuffled(s, 5), Ordered], ids=["shuffled", "ordered"])
def test_spec(make):
    stream = make(source(10))
    batch = stream.batch(8, 4)
    assert {name: (value.shape, value.dtype) for name, value in batch.items()} == {
        name: (leaf.shape, leaf.dtype) for name, leaf in stream.spec(4).items()
    }
    assert stream.vocabulary is None


def test_ordered_pads_behind_the_end():
    stream = Ordered(source(10))
    assert len(stream) == 10
    batch = stream.batch(8, 4)
    assert batch["x"].tolist() == [8, 9, 0, 0]
    assert batch["weight"].tolist() == [1, 1, 0, 0]
    assert batch["y"].sum(axis=(1, 2)).tolist() == [6, 6, 0, 0]
    assert not stream.batch(12, 4)["weight"].any()


def ragged(rows=10, length=16):
    """Row i has i + 1 filled slots of `length`."""
    segments = (np.arange(length) < np.arange(1, rows + 1)[:, None]).astype(np.int32)
    return Arrays({"input_ids": segments * 7, "segment_ids": segments, "label": np.arange(rows, dtype=np.int32)})


def test_bucketed_cuts_to_the_longest_row_of_a_batch():
    stream, uncut = Bucketed(ragged(), [4, 8, 16]), Ordered(ragged())
    assert [stream.batch(start, 4)["input_ids"].shape for start in (0, 4, 8)] == [(4, 4), (4, 8), (4, 16)]
    assert stream.batch(12, 4)["segment_ids"].shape == (4, 4)  # nothing but padding
    for start in (0, 3, 8):
        cut, whole = stream.batch(start, 4), uncut.batch(start, 4)
        width = cut["input_ids"].shape[-1]
        assert not whole["segment_ids"][:, width:].any()
        same(cut, {name: values[:, :width] if name in ("input_ids", "segment_ids") else values for name, values in whole.items()})
        parts = [stream.batch(start, 4, shard, 2) for shard in range(2)]
        same(cut, {name: np.concatenate([part[name] for part in parts]) for name in cut})


def test_bucketed_evaluation_is_compiled_once_a_bucket():
    traced = []

    @jax.jit
    def score(batch):
        traced.append(batch["input_ids"].shape)
        return (batch["input_ids"].sum(1) * batch["weight"].astype(jnp.int32)).sum()

    stream = Bucketed(ragged(12), [4, 8, 16])
    total = sum(int(score(stream.batch(start, 2))) for start in range(0, 14, 2))
    assert total == 7 * sum(range(1, 13))
    assert len(traced) == 3


@pytest.mark.parametrize("lengths", [[4, 8], [8, 4, 16], [4, 4, 16], [], [0, 16], [16, 32]])
def test_buckets_rise_to_the_length_of_a_row(lengths):
    with pytest.raises(DataError, match=r"the lengths of buckets are .*; expected them to rise to 16"):
        Bucketed(ragged(), lengths)


def test_mixed():
    mixed = Mixed({"a": Shuffled(source(8), 0), "b": Shuffled(source(100), 0)}, {"a": 1, "b": 3})
    assert {name: spec["x"].shape for name, spec in mixed.spec(16).items()} == {"a": (4,), "b": (12,)}
    same(mixed.batch(32, 16)["b"], Shuffled(source(100), 0).batch(24, 12))
    halves = [mixed.batch(0, 16, shard, 2) for shard in range(2)]
    same(mixed.batch(0, 16)["a"], {name: np.concatenate([half["a"][name] for half in halves]) for name in halves[0]["a"]})
    seen = Counter(x for step in range(2) for x in mixed.batch(step * 16, 16)["a"]["x"].tolist())
    assert seen == Counter(range(8))


def test_mistakes(vocabulary_file, tmp_path):
    stream = Shuffled(source(4), 0)
    with pytest.raises(DataError, match="a batch of 10 rows cannot be cut into 4 equal parts"):
        stream.batch(0, 10, 0, 4)
    with pytest.raises(
        DataError, match=r"the batch size 10 gives 'a' 10 x 1 / 4 rows, which is no whole number; shares are \{'a': 1, 'b': 3\}"
    ):
        Mixed({"a": stream, "b": stream}, {"a": 1, "b": 3}).batch(0, 10)
    with pytest.raises(DataError, match="streams, which are a; shares are for b"):
        Mixed({"a": stream}, {"b": 1})
    with pytest.raises(DataError, match=r"whole numbers from 1; seen \{'a': 0\}"):
        Mixed({"a": stream}, {"a": 0})
    with pytest.raises(DataError, match="holds no rows"):
        Ordered(source(0))
    with pytest.raises(DataError, match=r"one length; seen \{'x': 1, 'y': 2\}"):
        Arrays({"x": np.zeros(1, np.int32), "y": np.zeros(2, np.int32)})
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    spoken = {path: Shuffled(Arrays({"x": np.zeros(1, np.int32)}, path), 0) for path in (vocabulary_file, str(tmp_path / "vocab.txt"))}
    with pytest.raises(DataError, match="different vocabularies"):
        Mixed(spoken, dict.fromkeys(spoken, 1))
