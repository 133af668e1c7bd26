"""Rates as T5 has them, whole shares, and an order in which every source keeps its part."""

import math

import numpy as np
import pytest

from rootstock.data import cache, mixtures
from rootstock.data.arrays import Arrays
from rootstock.data.errors import DataError
from rootstock.data.streams import Interleaved, Shuffled

SIZES = {"boolq": 9427, "cb": 250, "record": 100_730}


def test_rates_of_t5():
    """Raffel et al. 2019, section 3.5.2, worked out by hand."""
    assert mixtures.equal(SIZES) == dict.fromkeys(SIZES, pytest.approx(1 / 3))
    assert mixtures.proportional(SIZES) == {name: pytest.approx(size / 110_407) for name, size in SIZES.items()}
    capped = {**SIZES, "record": 10_000}
    assert mixtures.proportional(SIZES, cap=10_000) == {name: pytest.approx(size / 19_677) for name, size in capped.items()}
    assert mixtures.temperature({"a": 100, "b": 400}, 2.0) == {"a": pytest.approx(1 / 3), "b": pytest.approx(2 / 3)}
    assert mixtures.temperature({"a": 2**21, "b": 2**25}, 2.0) == {"a": 0.5, "b": 0.5}
    assert mixtures.temperature(SIZES, 1.0) == mixtures.proportional(SIZES)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("use", [mixtures.normalised, mixtures.cycle_shares, lambda rates: mixtures.shares(rates, 8)])
def test_rates_that_are_none(bad, use):
    with pytest.raises(DataError, match=r"rates of a mixture are numbers above 0; seen \{'b': .*\}\. Leave out what is not wanted"):
        use({"a": 1.0, "b": bad})


def test_mistakes():
    with pytest.raises(DataError, match=r"numbers above 0; seen \{'empty': 0.0\}"):
        mixtures.proportional({"empty": 0, "full": 3})
    with pytest.raises(DataError, match="temperature 0 and cap"):
        mixtures.temperature(SIZES, 0)
    with pytest.raises(DataError, match="needs at least one source"):
        mixtures.equal([])
    with pytest.raises(DataError, match="a batch of 2 examples has no room for one of each of 3 sources"):
        mixtures.shares(SIZES, 2)


def test_shares():
    assert mixtures.shares({"a": 0.5, "b": 0.3, "c": 0.2}, 16) == {"a": 8, "b": 5, "c": 3}  # 8, 4.8, 3.2
    assert mixtures.shares({"a": 1, "b": 1, "c": 1}, 4) == {"a": 2, "b": 1, "c": 1}
    assert mixtures.shares({"a": 1000, "b": 1, "c": 1}, 4) == {"a": 2, "b": 1, "c": 1}  # each at least one
    assert mixtures.shares(SIZES, 32) == {"boolq": 2, "cb": 1, "record": 29}  # 2.7, 0.07, 29.2
    rng = np.random.default_rng(0)
    for _ in range(200):
        rates = dict(enumerate(rng.random(rng.integers(1, 12)) ** 3 + 1e-6))
        batch = int(rng.integers(len(rates), 64))
        found = mixtures.shares(rates, batch)
        assert sum(found.values()) == batch and min(found.values()) >= 1


def test_whole_rates_are_exact():
    assert mixtures.cycle_shares({"a": 0.1, "b": 0.2, "c": 0.7}) == {"a": 1, "b": 2, "c": 7}
    assert mixtures.cycle_shares({"a": 1 / 3, "b": 2 / 3}) == {"a": 1, "b": 2}
    assert mixtures.cycle_shares(SIZES) == SIZES
    rates = {"a": 1, "b": math.pi, "c": math.e}
    irrational = mixtures.cycle_shares(rates)
    assert sum(irrational.values()) == mixtures.CYCLE
    for name, rate in rates.items():
        assert irrational[name] / mixtures.CYCLE == pytest.approx(rate / (1 + math.pi + math.e), abs=1 / mixtures.CYCLE)


def test_every_source_keeps_its_part_to_less_than_one_example():
    """At every place of the stream, for mixtures of many kinds: a dominant source, many small ones, equal ones."""
    rng = np.random.default_rng(0)
    for case in range(60):
        rates = dict(enumerate(rng.random(rng.integers(1, 20)) ** (1 + case % 5) + 1e-3))
        shares = tuple(mixtures.shares(rates, int(rng.integers(len(rates), 3000))).values())
        sources, before = mixtures.order(shares)
        places = np.arange(1, len(sources) + 1)
        for source, share in enumerate(shares):
            given = np.cumsum(sources == source)
            assert given[-1] == share
            assert (np.abs(given * len(sources) - places * share) < len(sources)).all()
            assert before[sources == source].tolist() == list(range(share))


def numbered(first, rows):
    """Rows that say who they are."""
    return Arrays({"x": np.arange(first, first + rows, dtype=np.int32), "segment_ids": np.ones((rows, 4), np.int32)})


def mixture(rates=None, seed=3):
    streams = {"a": Shuffled(numbered(0, 50), seed), "b": Shuffled(numbered(1000, 7), seed), "c": Shuffled(numbered(2000, 300), seed)}
    return Interleaved(streams, rates or {"a": 0.5, "b": 0.15, "c": 0.35})


def test_the_order_does_not_depend_on_hosts_or_on_where_one_begins():
    whole = mixture().batch(0, 840)["x"]
    for hosts in (1, 2, 4):
        step = 24
        again = [np.concatenate([mixture().batch(start, step, host, hosts)["x"] for host in range(hosts)]) for start in range(0, 840, step)]
        np.testing.assert_array_equal(np.concatenate(again), whole)
    for start in (1, 7, 99, 613):
        np.testing.assert_array_equal(mixture().batch(start, 100)["x"], whole[start : start + 100])
    assert (mixture(seed=4).batch(0, 840)["x"] != whole).any()


@pytest.mark.parametrize("rates", [{"a": 0.5, "b": 0.15, "c": 0.35}, {"a": 1, "b": 2, "c": 3}, {"a": 50, "b": 7, "c": 300}])
def test_rates_are_exact_to_one_example(rates):
    for start, size in ((0, 1000), (0, 997), (333, 600)):
        read = mixture(rates).batch(start, size)["x"]
        for number, (name, rate) in enumerate(rates.items()):
            given = np.count_nonzero(read // 1000 == number)
            # Counted from the start of the stream it is less than one; a window has two ends.
            assert abs(given - size * rate / sum(rates.values())) < (1 if start == 0 else 2), name


def test_a_source_is_read_in_its_own_order():
    """Each row of every source once an epoch of that source, whatever lies between."""
    read = mixture().batch(0, 2000)["x"]
    alone = Shuffled(numbered(1000, 7), 3).batch(0, 300)["x"]
    np.testing.assert_array_equal(read[read // 1000 == 1], alone)


def test_batches_as_the_spec_says():
    batch = mixture().batch(5, 8)
    assert {name: (value.shape, value.dtype) for name, value in batch.items()} == {
        name: (leaf.shape, leaf.dtype) for name, leaf in mixture().spec(8).items()
    }
    assert batch["weight"].tolist() == [1] * 8


def test_sources_that_do_not_mix(vocabulary_file, tmp_path):
    streams = {"a": Shuffled(numbered(0, 5), 0)}
    with pytest.raises(DataError, match="streams, which are a; shares are for b"):
        Interleaved(streams, {"b": 1})
    other = {**streams, "b": Shuffled(Arrays({"x": np.zeros((5, 2), np.int32)}), 0)}
    with pytest.raises(DataError, match=r"one set of fields; 'a': .*segment_ids.*; 'b': "):
        Interleaved(other, {"a": 1, "b": 1})
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    rows = {"x": np.zeros(3, np.int32)}
    spoken = {path: Shuffled(Arrays(rows, path), 0) for path in (vocabulary_file, str(tmp_path / "vocab.txt"))}
    with pytest.raises(DataError, match="made with different vocabularies"):
        Interleaved(spoken, dict.fromkeys(spoken, 1))
    with pytest.raises(DataError, match=r"numbers above 0; seen \{'c': 0\}"):
        mixture({"a": 1, "b": 1, "c": 0})


@pytest.mark.parametrize(
    "content, message", [(None, "holds no mixture of caches"), ("{}", "does not give the rates"), ("[", "does not give")]
)
def test_a_folder_that_is_no_mixture(tmp_path, content, message):
    if content:
        (tmp_path / "mixture.json").write_text(content)
    with pytest.raises(DataError, match=message):
        Interleaved.cached(tmp_path, "train", 0)
    cache.write_rates(tmp_path, {"a": 0.5})
    with pytest.raises(DataError, match="holds no cache"):
        Interleaved.cached(tmp_path, "train", 0)
