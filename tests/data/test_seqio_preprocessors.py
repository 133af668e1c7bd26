"""The denoisers inside seqio tasks. Importing seqio takes 7 seconds."""

import functools

import numpy as np
import pytest

from rootstock.data import denoising, seqio_preprocessors
from rootstock.data.errors import DataError

seqio = pytest.importorskip("seqio")
tf = pytest.importorskip("tensorflow")

VOCABULARY = seqio.PassThroughVocabulary(1000, eos_id=1)
DOCUMENTS = [np.random.default_rng(i).integers(2, 900, 30 + 7 * i).astype(np.int32) for i in range(40)]
LENGTHS = {"inputs": 64, "targets": 64}


class Vocabulary(seqio.PassThroughVocabulary):
    """With sentinels behind the pieces."""

    extra_ids = 100


def task(preprocessor, vocabulary):
    data = tf.data.Dataset.from_generator(
        lambda: ({"targets": ids} for ids in DOCUMENTS), output_signature={"targets": tf.TensorSpec([None], tf.int32)}
    )
    return seqio.Task(
        "documents",
        source=seqio.FunctionDataSource(dataset_fn=lambda split, shuffle_files=False, seed=None: data, splits=["train"]),
        preprocessors=[preprocessor, seqio.preprocessors.append_eos_after_trim],
        output_features={name: seqio.Feature(vocabulary, dtype=tf.int32) for name in LENGTHS},
    )


@functools.cache
def read(preprocessor, seed=0, targets=64):
    found = task(preprocessor, Vocabulary(900, eos_id=1)).get_dataset({"inputs": 64, "targets": targets}, "train", shuffle=False, seed=seed)
    return list(found.as_numpy_iterator())


def test_span_corruption():
    """70 tokens are 64 inputs and 14 targets; sentinels count down from the top; inputs and targets give the documents back."""
    rows = read(seqio_preprocessors.span_corruption)
    assert {(len(row["inputs"]), len(row["targets"])) for row in rows[:-1]} == {(64, 14)}
    found = []
    for row in rows:
        inputs, targets = (row[name][:-1] for name in ("inputs", "targets"))
        assert row["inputs"][-1] == row["targets"][-1] == 1
        sentinels = [int(i) for i in inputs if i >= 900]
        assert sentinels == list(range(999, 999 - len(sentinels), -1)) == [int(i) for i in targets if i >= 900]
        spans = dict(zip(sentinels, np.split(targets, np.flatnonzero(targets >= 900))[1:], strict=True))
        found += [i for token in inputs for i in (spans[int(token)][1:] if token >= 900 else [token])]
    np.testing.assert_array_equal(found, np.concatenate(DOCUMENTS))


def test_the_seed_decides():
    """Equal seeds corrupt alike, another one otherwise; rows of one reading differ."""
    first, other = (read(seqio_preprocessors.span_corruption, seed) for seed in (0, 1))
    again = list(
        task(seqio_preprocessors.span_corruption, Vocabulary(900, eos_id=1))
        .get_dataset(LENGTHS, "train", shuffle=False, seed=0)
        .as_numpy_iterator()
    )
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one["inputs"], two["inputs"])
    assert any((one["inputs"] != two["inputs"]).any() for one, two in zip(first[:-1], other[:-1], strict=True))
    assert len({tuple(row["inputs"] >= 900) for row in first[:-1]}) > 1


@pytest.mark.parametrize("preprocessor, targets", [("prefix_lm", 64), ("iid_denoising", 40), ("ul2", 60)])
def test_other_objectives(preprocessor, targets):
    rows = read(getattr(seqio_preprocessors, preprocessor), targets=targets)
    assert all(row["inputs"][-1] == row["targets"][-1] == 1 and len(row["inputs"]) <= 64 and len(row["targets"]) <= targets for row in rows)
    text = sum(int((row[name] < 900).sum() - 1) for row in rows for name in LENGTHS)
    assert text == sum(map(len, DOCUMENTS))


def test_full_lm():
    """Documents, each with its EOS, cut into rows of 64."""
    data = seqio_preprocessors.full_lm(
        task(lambda ds: ds, VOCABULARY).source.get_dataset("train", shuffle=False), LENGTHS, {"targets": seqio.Feature(VOCABULARY)}
    )
    rows = [row["targets"] for row in data.as_numpy_iterator()]
    assert {len(row) for row in rows[:-1]} == {64}
    np.testing.assert_array_equal(np.concatenate(rows), np.concatenate([[*ids, 1] for ids in DOCUMENTS]))


def test_refused():
    features = {name: seqio.Feature(VOCABULARY) for name in LENGTHS}
    data = tf.data.Dataset.from_tensors({"targets": DOCUMENTS[0]})
    with pytest.raises(DataError, match=r"have 3 spans of noise, and the seqio vocabulary has 0 sentinels \(extra_ids\)"):
        seqio_preprocessors.span_corruption(data, LENGTHS, features)
    with pytest.raises(DataError, match=r"rows of 70 tokens have 14 targets, EOS included; sequence_length\['targets'\] is 13"):
        features = {name: seqio.Feature(Vocabulary(900, eos_id=1)) for name in LENGTHS}
        seqio_preprocessors.denoise(data, LENGTHS | {"targets": 13}, features, denoising.SpanCorruption())
