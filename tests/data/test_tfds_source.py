"""Documents of TFDS directories, which TFDS itself writes here."""

import pathlib

import pytest

from rootstock.data import sources
from rootstock.data.errors import DataError
from rootstock.data.text import TextTask

tf = pytest.importorskip("tensorflow")
tfds = pytest.importorskip("tensorflow_datasets")

TEXTS = [f"The cat {i} sat on the mat. Naïve 北京." for i in range(30)]


def builder(dataset, config, number, train):
    """A data set under a name that users know; nothing in it is TFDS's own but the writing."""

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name, url_infos, pkg_dir_path = dataset, {}, pathlib.Path(__file__).parent  # else TFDS looks for more files of the data set
        VERSION = tfds.core.Version(number)
        BUILDER_CONFIGS = (tfds.core.BuilderConfig(name=config),)

        def _info(self):
            features = tfds.features.FeaturesDict({"text": tfds.features.Text(), "length": tf.int64})
            return tfds.core.DatasetInfo(builder=self, description="A few texts.", features=features, disable_shuffling=True)

        def _split_generators(self, downloads):
            return {split: self._generate_examples(texts) for split, texts in (("train", train), ("validation", ["", "The last one."]))}

        def _generate_examples(self, texts):
            for number, text in enumerate(texts):
                yield number, {"text": text, "length": len(text)}

    return Builder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    for dataset, config, number, file_format, texts in (
        ("c4", "en", "3.0.0", "tfrecord", TEXTS[:3]),
        ("c4", "en", "3.0.1", "tfrecord", TEXTS),
        ("wikipedia", "20230601.en", "1.0.0", "array_record", TEXTS),
        ("wikipedia", "20230601.de", "1.0.0", "tfrecord", TEXTS),
    ):
        make = builder(dataset, config, number, texts)
        make(data_dir=str(folder), config=config, file_format=file_format).download_and_prepare(download_dir=str(folder / "downloads"))
    return str(folder)


def found(*given, **named):
    return list(sources.Tfds(*given, **named).documents(4096))


@pytest.mark.parametrize("name", ["c4", "c4/en", "c4/en:3.0.1", "wikipedia/20230601.en", "wikipedia/20230601.de:1.0.0"])
def test_names(data_dir, name):
    assert found(name, data_dir) == TEXTS
    assert found(name, data_dir, split="validation") == ["", "The last one."]


def test_versions_and_slices(data_dir):
    assert found("c4/en:3.0.0", data_dir) == TEXTS[:3]
    assert found("c4", data_dir, split="train[:50%]") == TEXTS[:15]
    assert found("wikipedia/20230601.en", data_dir, split="train[10:12]") == TEXTS[10:12]


def test_in_a_task(data_dir, tmp_path, vocabulary_file):
    (tmp_path / "x.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in TEXTS))
    one = TextTask(sources.Tfds("c4", data_dir), vocabulary_file, 32)
    two = TextTask(str(tmp_path), vocabulary_file, 32)
    rows = [[row["input_ids"].tolist() for row in task.rows("train")] for task in (one, two)]
    assert rows[0] == rows[1] and len(rows[0]) > 10
    assert all("c4-train" in path.name for path in one.inputs())
    assert one.description()["source"] == {"class": "Tfds", "name": "c4", "split": "train", "feature": "text"}


@pytest.mark.parametrize(
    "name, more, message",
    [
        ("c5", {}, "holds no 'c5'; it holds c4/en/3.0.0, c4/en/3.0.1, wikipedia/20230601.de/1.0.0"),
        ("c4/en:9.0.0", {}, "holds no 'c4/en:9.0.0'"),
        ("wikipedia", {}, "several configurations of 'wikipedia'; name one of wikipedia/20230601.de, wikipedia/20230601.en"),
        ("c4", {"split": "test"}, "has no split 'test'; it has train, validation"),
        ("c4", {"split": "train[x]"}, r"split train\[x\] cannot be read"),
        ("c4", {"feature": "body"}, "example 1 has no feature 'body'; it has length, text"),
        ("c4", {"feature": "length"}, "example 1, 'length' is .*, expected a text"),
    ],
)
def test_mistakes(data_dir, name, more, message):
    with pytest.raises(DataError, match=message):
        found(name, data_dir, **more)


def test_a_shard_cut_short(data_dir):
    (shard,) = sources.Tfds("c4/en:3.0.0", data_dir).inputs()
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"c4/en/3\.0\.0' split train cannot be read"):
        found("c4/en:3.0.0", data_dir)
