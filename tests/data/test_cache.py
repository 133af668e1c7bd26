"""The cache: what goes in comes out, and what is not whole is named."""

import dataclasses
import functools
import json
import math
import os
import pickle
import resource
from collections import Counter

import numpy as np
import pytest

from rootstock.data import build, cache, vocabularies
from rootstock.data.errors import DataError
from rootstock.data.fields import Field
from rootstock.data.tasks import PLACE, InParts

FIELDS = {"input_ids": Field((8,)), "segment_ids": Field((8,)), "score": Field((), "float32"), "spans": Field((2, 2))}


def rows(number, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(number):
        yield {
            "input_ids": rng.integers(5, 90, 8, np.int32),
            "segment_ids": np.array([1, 1, 1, 1, 1, 1, 0, 0], np.int32),
            "score": np.float32(rng.normal()),
            "spans": rng.integers(0, 8, (2, 2), np.int32),
        }


@dataclasses.dataclass(frozen=True)
class Handmade(InParts):
    """25 rows for training in parts of `size`, 3 for validation; `broken` stands in the second part."""

    vocabulary: str = dataclasses.field(metadata=PLACE)
    size: int = 10
    broken: dict | None = dataclasses.field(default=None, metadata=PLACE)
    name = "handmade"
    splits = ("train", "validation")

    def fields(self):
        return FIELDS

    def inputs(self):
        return []

    def parts(self, split, counts):
        made = list(rows(25)) if split == "train" else list(rows(3, seed=1))
        if self.broken:
            made[12] = made[12] | self.broken
        return (functools.partial(given, made[start : start + self.size]) for start in range(0, len(made), self.size))


def given(made, counts):
    counts["documents"] += len(made)
    return iter(made)


def write(directory, vocabulary, **options):
    build.build(Handmade(vocabulary, **options), directory, workers=1, progress=False)
    return directory


@pytest.fixture
def directory(tmp_path, vocabulary_file):
    return write(tmp_path / "cache", vocabulary_file)


def equal(one, two):
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], strict=True)


def test_round_trip(directory):
    source = cache.Source(directory, "train")
    assert len(source) == 25
    assert sorted(path.name for path in directory.glob("train*")) == [f"train-0000{i}.array_record" for i in range(3)]
    for index, row in enumerate(rows(25)):
        equal(source[index], {name: np.asarray(value) for name, value in row.items()})
    indices = np.array([24, 0, 9, 10, 10, 3])
    expected = list(rows(25))
    equal(source.read_batch(indices), {name: np.stack([expected[i][name] for i in indices]) for name in FIELDS})
    assert source[-1]["score"] == source[24]["score"]
    with pytest.raises(IndexError):
        source[25]
    equal(pickle.loads(pickle.dumps(source))[7], source[7])
    source.verify()


def test_statistics(directory, vocabulary):
    numbers = cache.Source(directory, "train").statistics
    ids = Counter(i for row in rows(25) for i in row["input_ids"][:6].tolist())
    entropy = -sum(n / 150 * math.log(n / 150) for n in ids.values())
    assert (numbers["rows"], numbers["slots"], numbers["documents"], numbers["dropped"]) == (25, 200, 25, 0)
    assert (numbers["filled"], numbers["tokens"]) == (150, 150)
    assert numbers["unigram_entropy"] == pytest.approx(entropy, abs=1e-12)


def test_carries_its_vocabulary(directory, vocabulary):
    source = cache.Source(directory, "train")
    assert vocabularies.load(source.vocabulary).checksum == vocabulary.checksum == source.vocabulary_checksum
    assert source.manifest["vocabulary"] == {"sha256": vocabulary.checksum, "size": vocabulary.size, "lowercase": True}


def test_the_same_rows_give_the_same_bytes(directory, tmp_path, vocabulary_file):
    again = write(tmp_path / "again", vocabulary_file)
    assert (again / "manifest.json").read_bytes() == (directory / "manifest.json").read_bytes()


def test_a_failed_first_part_leaves_nothing(tmp_path, vocabulary_file, monkeypatch):
    monkeypatch.setattr(Handmade, "parts", lambda *_: iter([functools.partial(given, [{"input_ids": np.zeros(8, np.int32)}])]))
    with pytest.raises(DataError, match="a row has the fields input_ids; expected"):
        write(tmp_path / "cache", vocabulary_file)
    assert [path.name for path in tmp_path.iterdir()] == ["cache.lock"]


def test_what_a_killed_writer_left_is_no_cache(tmp_path, vocabulary_file, capsys):
    left = cache.partial_folder(tmp_path / "cache")
    left.mkdir()
    (left / "train-00000.array_record").write_bytes(b"half")
    with pytest.raises(DataError, match="holds no cache"):
        cache.Source(tmp_path / "cache", "train")
    assert len(cache.Source(write(tmp_path / "cache", vocabulary_file), "train")) == 25
    assert not left.exists()
    assert "unfinished cache of another task and is deleted" in capsys.readouterr().err


def test_nothing_is_overwritten(tmp_path, vocabulary_file):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "mine").touch()
    with pytest.raises(DataError, match="is there already and not empty"):
        write(tmp_path / "cache", vocabulary_file)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), r"has [\d,]+ bytes, its manifest says [\d,]+"),
        (lambda path: path.unlink(), r"is missing, expected [\d,]+ bytes"),
    ],
)
def test_a_shard_cut_short_or_missing(directory, damage, message):
    damage(directory / "train-00001.array_record")
    with pytest.raises(DataError, match=rf"train-00001\.array_record' {message}"):
        cache.Source(directory, "train")
    assert len(cache.Source(directory, "validation")) == 3


def test_a_shard_with_other_bytes(directory):
    path = directory / "train-00001.array_record"
    content = bytearray(path.read_bytes())
    for place in range(len(content)):
        content[place] ^= 0xFF
    path.write_bytes(content)
    source = cache.Source(directory, "train")
    with pytest.raises(DataError, match=r"train-00001\.array_record' is damaged: its SHA-256"):
        source.verify()
    with pytest.raises(DataError, match=r"train-00001\.array_record' is damaged"):
        source.read_batch([12])
    assert source.read_batch([3])["input_ids"].shape == (1, 8)


def test_no_byte_can_change_unseen(directory):
    """A run that does not compare checksums first is still told, or reads what was written: records carry sums of their own."""
    path = directory / "train-00001.array_record"
    content = path.read_bytes()
    expected = cache.Source(directory, "train").read_batch(range(10, 20))
    told = 0
    for place in range(0, len(content), 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        source = cache.Source(directory, "train")
        try:
            equal(source.read_batch(range(10, 20)), expected)
        except DataError:
            told += 1
        with pytest.raises(DataError, match="is damaged: its SHA-256"):
            source.verify()
    assert told


def test_more_shards_than_files_may_be_open(tmp_path, vocabulary_file):
    directory = write(tmp_path / "cache", vocabulary_file, size=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 10, hard))
    try:
        assert len(cache.Source(directory, "train").read_batch(range(25))["score"]) == 25
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_shard_of_another_cache(directory):
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["splits"]["train"]["shards"][0]["rows"] = 9
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="it holds 10 rows where the manifest says 9"):
        cache.Source(directory, "train").read_batch([0])


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "is not the manifest of a cache"),
        ('{"format": 99}', "has cache format 99; this version of Rootstock reads format 1"),
        ("[]", "is not"),
        ('{"format": 1, "fields": {}}', "is not the manifest of a cache: it lacks inputs, splits, task, vocabulary"),
    ],
)
def test_manifests(directory, content, message):
    (directory / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=message):
        cache.Source(directory, "train")


@pytest.mark.parametrize(
    "rates, message", [({"a": 0.5, "b": 0}, "numbers above 0; seen {'b': 0}"), ({"a": "x"}, "not supported"), ([1], "")]
)
def test_rates_that_are_none(tmp_path, rates, message):
    (tmp_path / cache.RATES).write_text(json.dumps({"rates": rates}))
    with pytest.raises(DataError, match=rf"mixture\.json' does not give the rates of a mixture: .*{message}"):
        cache.read_rates(tmp_path)


def test_unknown_split(directory):
    with pytest.raises(DataError, match="has no split 'test'; it has train, validation"):
        cache.Source(directory, "test")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"input_ids": np.zeros(9, np.int32)}, r"field input_ids of a row is int32\[9\]; expected int32\[8\]"),
        ({"score": np.float64(0)}, r"field score of a row is float64\[\]; expected float32\[\]"),
        ({"more": np.zeros(1, np.int32)}, "a row has the fields input_ids, segment_ids, score, spans, more; expected"),
    ],
)
def test_rows_that_do_not_fit_the_fields(tmp_path, vocabulary_file, change, message):
    with pytest.raises(DataError, match=message):
        write(tmp_path / "cache", vocabulary_file, broken=change)
    with pytest.raises(DataError, match="a field has dtype int64"):
        Field((), "int64")
