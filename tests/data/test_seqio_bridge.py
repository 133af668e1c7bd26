"""seqio, both ways. The only tests that import it (7 seconds)."""

import sys
import types

import numpy as np
import pytest

from rootstock.data import seqio_bridge, superglue, vocabularies
from rootstock.data.errors import DataError
from rootstock.data.text import TextTask

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


@pytest.mark.parametrize("ids", [False, True], ids=["strings", "ids"])
def test_a_seqio_task_as_rows(ids, vocabulary, vocabulary_file, monkeypatch):
    texts = ["the cat sat", "a dog ran home", "seven cats"]
    adapter = vocabularies.seqio_vocabulary(vocabulary)
    kind = {"dtype": tf.int32} if ids else {"dtype": tf.string, "rank": 0}
    name = f"rootstock_test_foreign_{ids}"

    def dataset(split, shuffle_files, seed=None):
        strings = tf.data.Dataset.from_tensor_slices({"targets": texts})
        return strings.map(lambda example: {"targets": adapter.encode_tf(example["targets"])}) if ids else strings

    task = seqio.Task(
        name,
        source=seqio.FunctionDataSource(dataset, splits=["train"]),
        output_features={"targets": seqio.Feature(adapter if ids else seqio.PassThroughVocabulary(0), add_eos=False, **kind)},
        preprocessors=[],
    )
    monkeypatch.setitem(seqio.TaskRegistry._REGISTRY, name, task)
    monkeypatch.setitem(sys.modules, "my_tasks", types.ModuleType("my_tasks"))
    ours = seqio_bridge.SeqioText(name, "my_tasks", vocabulary_file, 32)
    assert ours.splits == ("train",)
    (row,) = ours.rows("train")
    assert vocabulary.decode(row["input_ids"][row["segment_ids"] > 0]) == " ".join(f"[CLS] {text} [SEP]" for text in texts)
    with pytest.raises(DataError, match="has no feature 'inputs'; it has targets"):
        next(seqio_bridge.SeqioText(name, "my_tasks", vocabulary_file, 32, feature="inputs").rows("train"))


@pytest.mark.parametrize("module", ["sys", "no_such_module"])
def test_unknown_seqio_task(module, vocabulary_file):
    with pytest.raises(DataError, match=f"the module '{module}' gives no seqio task or mixture 'nope'"):
        next(seqio_bridge.SeqioText("nope", module, vocabulary_file, 32).rows("train"))
