"""Raw rows of text, and batches of them that are corrupted anew at every reading."""

from collections import Counter

import numpy as np
import pytest

from rootstock.data import build, cache, denoising, raw_text, vocabularies
from rootstock.data.arrays import Arrays
from rootstock.data.denoised import DecoderOnly, Denoised, EncoderDecoder
from rootstock.data.denoising import CausalLM, IidDenoising, PrefixLM, SpanCorruption
from rootstock.data.documents import documents, held_out
from rootstock.data.errors import DataError
from rootstock.data.raw_text import RawTextTask
from rootstock.data.streams import Ordered, Shuffled

BYTES = "bytes"  # 259 ids; sentinels are its last 100 bytes, which ASCII does not use


@pytest.fixture(scope="module")
def rows(corpus):
    return list(RawTextTask(str(corpus), BYTES, 141, validation_fraction=0.2, characters=500).rows("train"))


@pytest.fixture(scope="module")
def source(rows):
    return Arrays.of(rows, BYTES)


def span_corruption(source, seed=0, stream=None, form=EncoderDecoder(128, 29)):  # noqa: B008
    return Denoised(stream or Shuffled(source, 3), SpanCorruption(), form, seed)


def real(row):
    return row["input_ids"][row["segment_ids"] > 0].tolist()


@pytest.mark.parametrize("closed", [False, True])
def test_rows_are_the_text(corpus, closed):
    """Documents of a split in their order, one after another, each with its EOS where that is asked for; only the last row is short."""
    task = RawTextTask(str(corpus), BYTES, 100, validation_fraction=0.2, characters=500, closed=closed)
    texts = [text for path in task.inputs() for text in documents(path.read_text().splitlines(True), 500)]
    for split in task.splits:
        chosen = [text for text in texts if held_out(text, 0.2) == (split == "validation")]
        counts = Counter()
        found = list(task.rows(split, counts))
        joined = [i for text in chosen for i in (*vocabularies.load(BYTES).encode(text), *([1] if closed else []))]
        assert [i for row in found for i in real(row)] == joined
        assert [len(real(row)) for row in found[:-1]] == [100] * (len(found) - 1)
        assert counts == {"documents": len(chosen), "dropped": 0}


def test_a_lonely_token_makes_no_row(tmp_path):
    (tmp_path / "a.txt").write_text("abcde")
    assert [len(real(row)) for row in RawTextTask(str(tmp_path), BYTES, 4, validation_fraction=0.0).rows("train")] == [4]


def test_cache_is_the_same_for_any_number_of_workers(corpus, tmp_path, monkeypatch):
    task = RawTextTask(str(corpus), BYTES, 64, characters=300)
    monkeypatch.setattr(raw_text, "parted", lambda texts: raw_text.batched(texts, 20))
    build.build(task, tmp_path / "one", workers=1, progress=False)
    shards = sorted((tmp_path / "one").glob("*.array_record"))
    assert len(shards) > 4
    build.build(task, tmp_path / "two", workers=2, progress=False)
    assert [path.read_bytes() for path in shards] == [path.read_bytes() for path in sorted((tmp_path / "two").glob("*.array_record"))]
    whole = cache.Source(tmp_path / "one", "train")
    assert whole.statistics["tokens"] == sum(len(real(row)) for row in task.rows("train"))
    assert 2 < whole.statistics["unigram_entropy"] < 5


def test_lengths(source):
    """141 tokens are 128 inputs and 29 targets, EOS included: nothing is padded."""
    batch = span_corruption(source).batch(0, 32)
    full = batch["segment_ids"].all(1)
    assert full.sum() >= 31 and batch["target_segment_ids"][full].all()
    assert (batch["input_ids"][full, -1] == 1).all() and (batch["target_ids"][full, -1] == 1).all()
    np.testing.assert_array_equal(batch["positions"][full][0], np.arange(128))
    assert batch["weight"].tolist() == [1] * 32


def test_an_example_depends_on_its_place_alone(source):
    """Any cut into batches, hosts and restarts gives the same rows; another epoch, seed or place corrupts in another way."""
    stream = span_corruption(source)
    whole = stream.batch(0, 24)
    for parts in (
        [stream.batch(start, 8) for start in (0, 8, 16)],
        [span_corruption(source).batch(0, 24, shard, 4) for shard in range(4)],
    ):
        for name, values in whole.items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), values)
    assert (span_corruption(source, seed=1).batch(0, 24)["input_ids"] != whole["input_ids"]).any()

    class Same(Shuffled):
        def order(self, places):
            return places * 0

    again = span_corruption(source, stream=Same(source, 0)).batch(0, 16)
    assert len(np.unique(again["input_ids"], axis=0)) == 16


def test_finite_data(source):
    """Evaluation corrupts alike every time; beyond the end are rows of nothing, of weight 0."""
    data = span_corruption(source, stream=Ordered(source))
    assert len(data) == len(source)
    first, second = (data.batch(len(source) - 2, 4) for _ in range(2))
    assert first["weight"].tolist() == [1, 1, 0, 0] and not first["segment_ids"][2:].any() and not first["target_ids"][2:].any()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert {name: leaf.shape for name, leaf in data.spec(4).items()} == {name: value.shape for name, value in first.items()}


@pytest.mark.parametrize("denoiser", [CausalLM(), PrefixLM(), SpanCorruption()], ids=str)
def test_decoder_only(source, denoiser):
    """Inputs without their EOS, then targets, in one row; of a causal LM every token is a target."""
    batch = Denoised(Ordered(source), denoiser, DecoderOnly(160)).batch(0, 8)
    for number in range(8):
        ids = source[number]["input_ids"]
        inputs, targets = denoiser(ids, denoising.Marks(1, range(258, 158, -1)), np.random.Generator(np.random.Philox(key=[0, number])))
        assert len(inputs) == 0 or inputs[-1] == 1
        inputs = inputs[:-1]
        row = {name: values[number][: len(inputs) + len(targets)] for name, values in batch.items() if name != "weight"}
        np.testing.assert_array_equal(row["input_ids"], [*inputs, *targets])
        np.testing.assert_array_equal(row["is_target"], [0] * len(inputs) + [1] * len(targets))
        assert not batch["segment_ids"][number][len(row["input_ids"]) :].any()
    assert batch["is_target"].any() and (not isinstance(denoiser, CausalLM) or len(inputs) == 0)


def test_long_targets_are_counted_and_said(source, capfd):
    data = Denoised(Ordered(source), IidDenoising(), EncoderDecoder(142, 44))
    lengths = [int((data.denoiser(row, data.marks, data.chance(i)))[1].size) for i, row in enumerate(source.arrays["input_ids"][:256])]
    long = sum(length > 44 for length in lengths)
    assert 0 < long < len(lengths)
    said = capfd.readouterr().err
    assert f"{long} of {len(lengths)} rows that were tried do not fit EncoderDecoder(length=142, target_length=44)" in said
    assert f"and {max(lengths)} targets" in said
    cut = data.batch(int(np.argmax(lengths)), 1)
    assert cut["target_segment_ids"].all() and cut["target_ids"][0, -1] == 1


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda source: span_corruption(source, form=EncoderDecoder(128, 28)), "255 of 256 rows .* give up to 128 inputs and 29 targets"),
        (lambda source: span_corruption(source, form=DecoderOnly(150)), r"do not fit DecoderOnly\(length=150\)"),
        (lambda source: RawTextTask("x", BYTES, 1), "RawTextTask.length is 1"),
        (lambda source: RawTextTask("x", BYTES, 9, validation_fraction=1.0), "validation_fraction is 1.0"),
    ],
)
def test_refused(source, make, message):
    with pytest.raises(DataError, match=message):
        make(source)


def test_sentinels_missing(rows, vocabulary_file):
    with pytest.raises(DataError, match=r"141 tokens have 7 spans of noise, and the vocabulary '.*' has no sentinels"):
        span_corruption(Arrays.of(rows, vocabulary_file))
    long = {"input_ids": np.zeros((2, 900), np.int32), "segment_ids": np.ones((2, 900), np.int32)}
    with pytest.raises(DataError, match=r"have 225 spans of noise, and the vocabulary 'bytes' has 100 sentinels"):
        Denoised(Ordered(Arrays(long, BYTES)), IidDenoising(0.5), EncoderDecoder(901, 1400))
