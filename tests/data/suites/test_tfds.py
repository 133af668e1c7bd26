"""TFDS directories, written and read, and the sets as seqio tasks. These tests import TensorFlow."""

import json
import re

import numpy as np
import pytest

from rootstock.data.errors import DataError
from rootstock.data.jsonl import Record
from rootstock.data.suites import glue, glue_sets, seqio_register, superglue, text_to_text, tfds_writer
from rootstock.data.suites import official as counts
from rootstock.data.suites.examples import key_of

tfds = pytest.importorskip("tensorflow_datasets")
seqio = pytest.importorskip("seqio")

SETS = text_to_text.SETS
TRIED = [
    "boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc", "axg", "cola", "mrpc", "stsb", "qqp", "mnli", "wnli",
]  # fmt: skip


@pytest.fixture(scope="session")
def imported(official, tmp_path_factory):
    """The official files as a TFDS data_dir."""
    folder = tmp_path_factory.mktemp("imported") / "tfds"
    tfds.disable_progress_bar()
    for name in TRIED:
        tfds_writer.write(tfds_writer.read(SETS[name], official), folder)
    return folder


def tasks(name, data_dir, vocabulary):
    suite, key = (glue, name.removeprefix("glue_")) if name in glue_sets.SETS else (superglue, name)
    return suite.TASKS[key](str(data_dir), vocabulary, 24), text_to_text.task(name, str(data_dir), vocabulary, 24, 8)


def equal(rows, expected):
    for one, two in zip(rows, expected, strict=True):
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
            assert one[name].dtype == two[name].dtype


@pytest.mark.parametrize("name", TRIED)
def test_both_sources_give_the_same_rows(name, official, imported, vocabulary_file):
    for one, two in zip(tasks(name, official, vocabulary_file), tasks(name, imported, vocabulary_file), strict=True):
        assert one.splits == two.splits and one.description() == two.description()
        assert two.inputs() and all(path.is_file() and ".tfrecord" in path.name for path in two.inputs())
        for split in one.splits:
            equal(two.rows(split), one.rows(split))
            assert list(two.examples(split)) == list(one.examples(split))


@pytest.mark.parametrize("name", TRIED)
def test_tfds_itself_makes_the_same_examples_of_the_files(name, official):
    """Its own builder's generator over the same files: keys, features and labels."""
    of = SETS[name]
    suite, config = of.tfds.split("/")
    builder = tfds.builder_cls(suite)(data_dir="unused", config=config)
    for split in of.splits(official):
        [path, *more] = of.official(official, split)
        if name == "mrpc":
            sources = {"mrpc_files": dict(zip(("train" if more else "test", "dev_ids"), (path, *more), strict=False))}
        else:
            sources = {}
        theirs = builder._generate_examples(path, {"validation": "dev"}.get(split, split), **sources)
        encoded = [(key, {feature: as_said(builder, feature, value) for feature, value in example.items()}) for key, example in theirs]
        ours = [example for example in of.examples(official, split) if isinstance(example, Record)]
        assert [(key_of(example), dict(example.values)) for example in ours] == encoded


def as_said(builder, feature, value):
    if feature == "label":
        kind = builder.info.features["label"]
        return kind.encode_example(value) if isinstance(kind, tfds.features.ClassLabel) else float(value)
    return value


def test_tfds_load(imported):
    found = tfds.load("super_glue/boolq", data_dir=str(imported), download=False)
    assert {split: len(rows) for split, rows in found.items()} == {"train": 12, "validation": 3, "test": 2}
    builder = tfds.builder("glue/stsb", data_dir=str(imported))
    assert (str(builder.version), builder.info.splits["train"].num_examples) == ("2.0.0", 2)
    folder = imported / "super_glue" / "boolq" / "1.0.2"
    info = tfds.builder_from_directory(folder).info
    assert info.full_name == "super_glue/boolq/1.0.2" and info.features["label"].names == ["False", "True"]
    said = json.loads((folder / "metadata.json").read_text())
    assert said["whole"] is False and said["splits"][0] == {
        "split": "train", "rows": 12, "official": 9427, "verdict": "subset",
        "why": "12 (8 False, 4 True) of the official 9,427 rows: a subset",
    }  # fmt: skip


def test_array_record(official, imported, tmp_path, vocabulary_file):
    """TFDS's other format; and of two versions the newest is read."""
    folder = tfds_writer.write(tfds_writer.read(SETS["multirc"], official), tmp_path, "array_record")
    folder.with_name("1.0.1").mkdir()
    (folder.with_name("1.0.1") / "dataset_info.json").write_text("{}")
    one, two = (superglue.multirc(str(where), vocabulary_file, 24) for where in (official, tmp_path))
    assert all("array_record" in path.name and "1.0.2" in str(path) for path in two.inputs())
    equal(two.rows("train"), one.rows("train"))
    with pytest.raises(DataError, match=r"multirc has no split 'test'|has no split 'test'; it has train"):
        next(two.rows("test"))


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
@pytest.mark.parametrize("left", [None, 0.9])
def test_a_shard_gone_or_cut_short(official, tmp_path, file_format, left):
    tfds_writer.write(tfds_writer.read(SETS["multirc"], official), tmp_path, file_format)
    (shard,) = tmp_path.glob("super_glue/multirc/*/*-train.*")
    content = shard.read_bytes()
    shard.unlink()
    if left:
        shard.write_bytes(content[: int(len(content) * left)])
    with pytest.raises(DataError, match=r"multirc/1\.0\.2' split train cannot be read: \S+"):
        list(SETS["multirc"].examples(tmp_path, "train"))


@pytest.mark.parametrize(
    "labels, verdict, why",
    [
        ([0] * 195 + [1] * 205, counts.WHOLE, r"400 rows \(195 choice1, 205 choice2\), as many as the official split"),
        ([0] * 195, counts.SUBSET, r"195 \(195 choice1, 0 choice2\) of the official 400 rows: a subset"),
        ([0] * 200 + [1] * 200, counts.OTHER, r"400 rows \(200 choice1, 200 choice2\), which cannot all be of the official 400"),
        ([0] * 300 + [1] * 300, counts.OTHER, "600 rows .* these are other rows"),
        ([0] * 3 + [-1], counts.OTHER, "4 rows, 1 of them without a label; the official split is labelled"),
        ([], counts.MISSING, "missing; the official split has 400 rows"),
    ],
)
def test_comparison_with_the_official_counts(labels, verdict, why):
    found = counts.compare("super_glue/copa", "train", [Record({"label": label}, "") for label in labels], ("choice1", "choice2"))
    assert found.verdict == verdict
    assert re.fullmatch(f".*{why}.*", found.why)


def test_counts_stand_for_every_set_and_split():
    assert {of.tfds: tuple(of.files) for of in SETS.values()} == {name: tuple(splits) for name, splits in counts.COUNTS.items()}
    for splits in counts.COUNTS.values():
        assert all(sum(classes) in (0, rows) for rows, classes in splits.values())


def test_seqio(official, vocabulary_file, monkeypatch):
    """One call registers all sets of a cast; T5's mix, although one's idx has one number and another's three."""
    monkeypatch.setattr(seqio.TaskRegistry, "_REGISTRY", dict(seqio.TaskRegistry._REGISTRY))
    names = seqio_register(str(official), vocabulary_file, 24)
    assert {"boolq", "record", "cola", "mnli"} <= set(names) and "axb" not in names
    for name in ("wic", "stsb"):
        equal(read(seqio.get_mixture_or_task(name)), tasks(name, official, vocabulary_file)[0].rows("train"))
    names = seqio_register(str(official), vocabulary_file, 24, 8)
    assert "multirc_text" in names
    equal(read(seqio.get_mixture_or_task("multirc_text")), tasks("multirc", official, vocabulary_file)[1].rows("train"))
    mixed = ("boolq", "multirc", "record", "stsb")
    mixture = seqio.Mixture("rootstock_test_suites", [(f"{name}_text", 1.0) for name in mixed])
    known = {fingerprint(row): name for name in mixed for row in tasks(name, official, vocabulary_file)[1].rows("train")}
    dataset = mixture.get_dataset(sequence_length={"input_ids": 24, "target_ids": 8}, split="train", shuffle=False, num_epochs=None)
    assert {known[fingerprint(row)] for row in dataset.take(40).as_numpy_iterator()} == set(mixed)
    with pytest.raises(DataError, match="holds no set of SuperGLUE or GLUE"):
        seqio_register(str(official / "CB"), vocabulary_file, 24)


def read(provider):
    return provider.get_dataset(sequence_length=None, split="train", shuffle=False, num_epochs=1).as_numpy_iterator()


def fingerprint(row):
    return tuple((name, row[name].tobytes()) for name in sorted(row))
