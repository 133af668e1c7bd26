"""seqio, both ways. The only tests that import it (7 seconds)."""

import sys
import types
from collections import Counter

import numpy as np
import pytest

from rootstock.data import seqio_bridge, vocabularies
from rootstock.data.errors import DataError
from rootstock.data.streams import Interleaved
from rootstock.data.suites import superglue
from rootstock.data.text import TextTask
from rootstock.tools import cache_tasks

seqio = pytest.importorskip("seqio")
tf = pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def text(corpus, vocabulary_file):
    return TextTask(str(corpus), vocabulary_file, 32, validation_fraction=0.1, characters=500)


def equal(rows, expected):
    for one, two in zip(rows, expected, strict=True):
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
            assert one[name].dtype == two[name].dtype


def read(task, split):
    return task.get_dataset(sequence_length=None, split=split, shuffle=False).as_numpy_iterator()


def test_our_tasks_are_seqio_tasks(text, vocabulary_file):
    for task in (text, superglue.copa("data/demo/superglue", vocabulary_file, 64)):
        theirs = task.seqio()
        assert isinstance(theirs, seqio.Task)
        assert theirs.name == task.name
        assert tuple(theirs.splits) == task.splits
        equal(read(theirs, "validation"), task.rows("validation"))


def test_in_a_mixture(text):
    name = "rootstock_test_text"
    seqio.TaskRegistry.add_provider(name, text.seqio(name))
    try:
        mixture = seqio.Mixture("rootstock_test_mixture", [(name, 1.0)])
        (first,) = (
            mixture.get_dataset(sequence_length={"input_ids": 32}, split="train", shuffle=False, num_epochs=1).take(1).as_numpy_iterator()
        )
        equal([first], [next(text.rows("train"))])
    finally:
        seqio.TaskRegistry.remove(name)


def test_vocabulary(vocabulary):
    adapter = vocabularies.seqio_vocabulary(vocabulary)
    sentence = "The cat's mat"
    assert adapter.encode(sentence) == vocabulary.encode(sentence)
    assert adapter.decode(vocabulary.encode(sentence)) == vocabulary.decode(vocabulary.encode(sentence))
    assert adapter.vocab_size == vocabulary.size
    assert (adapter.pad_id, adapter.unk_id, adapter.bos_id, adapter.eos_id) == (0, 1, vocabulary.cls_id, vocabulary.sep_id)
    assert adapter == vocabularies.seqio_vocabulary(vocabulary)
    assert adapter != seqio.PassThroughVocabulary(vocabulary.size)
    assert adapter.encode_tf(tf.constant(sentence)).numpy().tolist() == vocabulary.encode(sentence)
    dataset = tf.data.Dataset.from_tensor_slices([sentence, "dog"]).map(adapter.encode_tf)
    assert [ids.tolist() for ids in dataset.as_numpy_iterator()] == [vocabulary.encode(sentence), vocabulary.encode("dog")]
    assert adapter.decode_tf(tf.constant([vocabulary.encode("cat dog")])).numpy().tolist() == [b"cat dog"]


@pytest.fixture
def register(monkeypatch):
    """Puts seqio tasks over lists of examples, and mixtures of them, into registries of the test's own, under the module `my_tasks`."""
    monkeypatch.setattr(seqio.TaskRegistry, "_REGISTRY", dict(seqio.TaskRegistry._REGISTRY))
    monkeypatch.setattr(seqio.MixtureRegistry, "_REGISTRY", dict(seqio.MixtureRegistry._REGISTRY))
    monkeypatch.setitem(sys.modules, "my_tasks", types.ModuleType("my_tasks"))

    def task(name, examples, kind, **features):
        """`features`: dtype by name; the same vocabulary for all."""
        signature = {key: tf.TensorSpec([None] if dtype == tf.int32 else [], dtype) for key, dtype in features.items()}

        def dataset(split, shuffle_files, seed=None):
            return tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=signature)

        seqio.TaskRegistry.add(
            name,
            source=seqio.FunctionDataSource(dataset, splits=["train"]),
            output_features={
                key: seqio.Feature(kind, add_eos=False, dtype=dtype, rank=1 if dtype == tf.int32 else 0) for key, dtype in features.items()
            },
            preprocessors=[],
        )

    task.mixture = seqio.MixtureRegistry.add
    return task


TEXTS = ["the cat sat", "a dog ran home", "seven cats"]


@pytest.mark.parametrize("ids", [False, True], ids=["strings", "ids"])
def test_documents_of_a_seqio_task(ids, vocabulary, vocabulary_file, register):
    examples = [{"targets": vocabulary.encode(text) if ids else text} for text in TEXTS]
    kind = vocabularies.seqio_vocabulary(vocabulary) if ids else seqio.PassThroughVocabulary(0)
    register("foreign", examples, kind, targets=tf.int32 if ids else tf.string)
    ours = seqio_bridge.find("foreign", "my_tasks", vocabulary_file, 32, None, None)
    assert ours == seqio_bridge.SeqioText("foreign", "my_tasks", vocabulary_file, 32)
    assert ours.splits == ("train",)
    counts = Counter()
    (row,) = ours.rows("train", counts)
    assert vocabulary.decode(row["input_ids"][row["segment_ids"] > 0]) == " ".join(f"[CLS] {text} [SEP]" for text in TEXTS)
    assert counts == {"documents": 3, "dropped": 0}
    with pytest.raises(DataError, match="has no feature 'inputs'; it has targets"):
        next(seqio_bridge.SeqioText("foreign", "my_tasks", vocabulary_file, 32, feature="inputs").rows("train"))


def test_pairs_of_a_seqio_task(vocabulary, vocabulary_file, register):
    """What a pair is, its end of sequence included, the seqio task decides; an empty side is dropped and counted."""
    pairs = [("the cat sat on the mat", "june"), ("a dog ran", "home to us"), ("seven", "")]
    examples = [{"inputs": vocabulary.encode(one), "targets": vocabulary.encode(other)} for one, other in pairs]
    register("foreign", examples, vocabularies.seqio_vocabulary(vocabulary), inputs=tf.int32, targets=tf.int32)
    with pytest.raises(DataError, match="has inputs and targets; give the length of the targets too"):
        seqio_bridge.find("foreign", "my_tasks", vocabulary_file, 16, None, None)
    ours = seqio_bridge.find("foreign", "my_tasks", vocabulary_file, 16, 8, None)
    counts = Counter()
    (row,) = ours.rows("train", counts)
    assert {name: value.shape for name, value in row.items()} == {name: field.shape for name, field in ours.fields().items()}
    for segment, pair in enumerate(pairs[:2], start=1):
        sides = (row["input_ids"][row["segment_ids"] == segment], row["target_ids"][row["target_segment_ids"] == segment])
        assert tuple(map(vocabulary.decode, sides)) == pair
    assert row["segment_ids"].max() == 2 and counts == {"documents": 3, "dropped": 1}
    (trimmed, _) = seqio_bridge.find("foreign", "my_tasks", vocabulary_file, 5, 2, None).rows("train")
    assert vocabulary.decode(trimmed["input_ids"]) == "the cat sat on the"


def test_finished_rows_of_a_seqio_task(text, vocabulary_file, register):
    seqio.TaskRegistry.add_provider("foreign", text.seqio("foreign"))
    ours = seqio_bridge.find("foreign", "my_tasks", vocabulary_file, 32, None, None)
    assert isinstance(ours, seqio_bridge.SeqioRows) and ours.fields() == text.fields() and ours.splits == text.splits
    equal(ours.rows("validation"), text.rows("validation"))


def test_rows_of_no_fixed_shape(vocabulary_file, register):
    register("foreign", [{"ids": [1, 2]}], seqio.PassThroughVocabulary(100), ids=tf.int32)
    with pytest.raises(DataError, match="neither `inputs` and `targets` nor rows of fixed shape: ids vary in length"):
        seqio_bridge.find("foreign", "my_tasks", vocabulary_file, 32, None, None).fields()


def other_vocabulary(folder):
    (folder / "vocab.txt").write_text("\n".join([*vocabularies.SPECIALS, "other"]) + "\n")
    return vocabularies.load(str(folder / "vocab.txt"))


def test_ids_of_another_vocabulary(vocabulary_file, register, tmp_path):
    register("foreign", [{"targets": [5]}], vocabularies.seqio_vocabulary(other_vocabulary(tmp_path)), targets=tf.int32)
    with pytest.raises(
        DataError, match=r"feature 'targets' of the seqio task 'foreign' is made with another vocabulary than '.*vocab\.txt'"
    ):
        list(seqio_bridge.find("foreign", "my_tasks", vocabulary_file, 32, None, None).rows("train"))


def test_a_mixture_is_cached_task_by_task(vocabulary, vocabulary_file, register, tmp_path, capsys):
    adapter = vocabularies.seqio_vocabulary(vocabulary)
    for name, text in (("cats", "the cat sat"), ("dogs", "a dog ran home")):
        register(name, [{"targets": vocabulary.encode(text)}] * 40, adapter, targets=tf.int32)
    register.mixture("pets", [("cats", 3.0), ("dogs", 1.0)])
    flags = [
        "--mixture=pets",
        "--module=my_tasks",
        f"--vocabulary={vocabulary_file}",
        "--length=8",
        f"--out={tmp_path}/pets",
        "--workers=1",
    ]
    assert cache_tasks.main(flags) == 0 == cache_tasks.main(flags)
    assert "pets/dogs train: 40 rows from 40 documents (0 dropped)" in capsys.readouterr().out
    stream = Interleaved.cached(tmp_path / "pets", "train", seed=0)
    assert stream.shares == {"cats": 3, "dogs": 1} and stream.vocabulary_checksum == vocabulary.checksum
    read = stream.batch(0, 40)["input_ids"]
    assert sum(vocabulary.decode(row).startswith("[CLS] a dog") for row in read) == 10


@pytest.mark.parametrize("rate", [0.0, -1.0])
def test_a_mixture_with_a_rate_of_zero(rate, vocabulary_file, register, tmp_path, capsys):
    for name in ("cats", "dogs"):
        register(name, [{"targets": "the cat"}], seqio.PassThroughVocabulary(0), targets=tf.string)
    register.mixture("pets", [("cats", 1.0), ("dogs", rate)])
    flags = ["--mixture=pets", "--module=my_tasks", f"--vocabulary={vocabulary_file}", "--length=8", f"--out={tmp_path}/pets"]
    assert cache_tasks.main(flags) == 2
    assert f"the rates of a mixture are numbers above 0; seen {{'dogs': {rate}}}" in capsys.readouterr().err
    assert not (tmp_path / "pets").exists()


def test_a_mixture_of_tasks_that_do_not_mix(vocabulary, vocabulary_file, register, tmp_path):
    register("cats", [{"targets": [5]}], vocabularies.seqio_vocabulary(vocabulary), targets=tf.int32)
    register("dogs", [{"targets": [5]}], vocabularies.seqio_vocabulary(other_vocabulary(tmp_path)), targets=tf.int32)
    register.mixture("pets", [("cats", 1.0), ("dogs", 1.0)])
    with pytest.raises(DataError, match=r"tasks of the seqio mixture 'pets' cannot be mixed: .*must use the same vocabulary"):
        seqio_bridge.components("pets", "my_tasks")


def test_an_edited_module_is_another_task(vocabulary, vocabulary_file, register, tmp_path, monkeypatch, capsys):
    """What seqio reads is described by its module's file; without this the old cache would be served."""
    register("cats", [{"targets": text} for text in TEXTS], seqio.PassThroughVocabulary(0), targets=tf.string)
    path = tmp_path / "my_tasks.py"
    path.write_text("# one")
    monkeypatch.setattr(sys.modules["my_tasks"], "__file__", str(path), raising=False)
    command = ["--mixture=cats", "--module=my_tasks", f"--vocabulary={vocabulary_file}", "--length=16", f"--out={tmp_path / 'out'}"]
    assert cache_tasks.main([*command, "--workers=1"]) == 0 == cache_tasks.main([*command, "--workers=1"])
    path.write_text("# another")
    assert cache_tasks.main([*command, "--workers=1"]) == 2
    assert "was made from other files; only there: my_tasks.py (5 bytes)" in capsys.readouterr().err


def test_what_goes_wrong_inside_seqio_is_told(vocabulary, vocabulary_file, register):
    register("bytes", [{"targets": "fine"}, {"targets": b"caf\xe9"}], seqio.PassThroughVocabulary(0), targets=tf.string)
    with pytest.raises(DataError, match="'targets' of example 1 of the seqio task 'bytes' is not UTF-8"):
        list(seqio_bridge.SeqioText("bytes", "my_tasks", vocabulary_file, 32).rows("train"))
    register("texts", [{"inputs": "a", "targets": "b"}], vocabularies.seqio_vocabulary(vocabulary), inputs=tf.string, targets=tf.string)
    with pytest.raises(DataError, match="the seqio task 'texts' gives no split 'train': "):
        list(seqio_bridge.SeqioPairs("texts", "my_tasks", vocabulary_file, 16, 8).rows("train"))
    broken = iter([{"targets": "fine"}, 3])
    register("broken", broken, seqio.PassThroughVocabulary(0), targets=tf.string)
    with pytest.raises(DataError, match="example 1 of the split 'train' of the seqio task 'broken' cannot be made"):
        list(seqio_bridge.SeqioText("broken", "my_tasks", vocabulary_file, 32).rows("train"))


@pytest.mark.parametrize("module", ["sys", "no_such_module"])
def test_unknown_seqio_task(module, vocabulary_file):
    with pytest.raises(DataError, match=f"the module '{module}' gives no seqio task or mixture 'nope'"):
        next(seqio_bridge.SeqioText("nope", module, vocabulary_file, 32).rows("train"))
