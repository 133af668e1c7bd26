"""Tasks: what suites hold, how rows become what metrics are of, what is refused."""

import json
import pathlib

import numpy as np
import pytest

from rootstock.data.errors import DataError
from rootstock.engine.errors import UserError
from rootstock.finetune import heads, metrics, tasks
from rootstock.finetune.predictions import Predictions, texts
from rootstock.finetune.recipe import task_heads
from rootstock.finetune.tasks import glue, superglue

SUPERGLUE = "boolq cb copa multirc record rte wic wsc axb axg".split()
GLUE = "cola sst2 mrpc stsb qqp mnli mnli_mismatched qnli glue_rte wnli ax".split()


def test_suites():
    assert tasks.names("superglue") == tuple(SUPERGLUE) and tasks.names("glue") == tuple(GLUE)
    assert all(tasks.find(name).name == name for name in SUPERGLUE + GLUE)
    assert tasks.find("rootstock.finetune.tasks.glue.stsb") is glue.stsb
    with pytest.raises(UserError, match="there is no suite 'clue'; known are superglue, glue"):
        tasks.names("clue")
    with pytest.raises(UserError, match="there is no task 'TASKS'; known are ax, axb"):
        tasks.find("TASKS")


def test_heads_carry_the_names_of_classes():
    assert superglue.cb.describe_head(0.2) == heads.Head(heads.Classification, 3, 0.2, ("entailment", "contradiction", "neutral"))
    assert glue.stsb.describe_head() == heads.Head(heads.Regression, 1, 0.1, ())
    assert [task.head_name for task in (superglue.axb, superglue.axg, glue.ax, glue.mnli_mismatched, glue.mnli)] == [
        "rte", "rte", "mnli", "mnli", "mnli",
    ]  # fmt: skip


def test_tasks_without_training_rows():
    with pytest.raises(UserError, match="axb is not trained on: its rows are answered by the head of rte; name that in TASKS"):
        task_heads(("boolq", "axb"))


def test_headlines():
    """What averages use: the official mean of a task's metrics."""
    assert superglue.multirc.headline({"f1a": 0.7, "question_exact_match": 0.25}) == pytest.approx(0.475)
    assert superglue.cb.headline({"accuracy": 0.9, "macro_f1": 0.8}) == pytest.approx(0.85)
    assert glue.cola.headline({"matthews": -0.1}) == pytest.approx(-0.1)


def entities(chances):
    """One passage, two queries of two and three entities."""
    idx = np.array([[4, 0, 0], [4, 0, 1], [4, 1, 0], [4, 1, 1], [4, 1, 2]])
    shares = np.stack([1 - np.array(chances), chances], 1)
    return Predictions(idx, np.zeros(5, np.int32), shares.argmax(1), ("False", "True"), shares)


QUERIES = [
    {"idx": {"passage": 4, "query": 0}, "entities": ["Ann", "Bob"], "answers": ["Bob", "Robert"]},
    {"idx": {"passage": 4, "query": 1}, "entities": ["Ann", "the Bank", "Bob"], "answers": ["bank"]},
    {"idx": {"passage": 5, "query": 2}, "entities": [], "answers": ["Carl"]},
    {"idx": {"passage": 5, "query": 3}, "entities": [], "answers": []},
]


def test_record_answers_with_the_most_probable_entity():
    """Also where none is probable, or several are. A query without entities is answered by nothing, one without answers is not scored."""
    found = superglue.best_entities(entities([0.1, 0.2, 0.9, 0.95, 0.3]), QUERIES)
    assert found.answers.tolist() == ["Bob", "the Bank", "", ""] and found.idx.tolist() == [[4, 0], [4, 1], [5, 2], [5, 3]]
    assert (len(found), found.scored) == (4, 3)
    assert superglue.record.score(found) == {"text_f1": pytest.approx(2 / 3), "text_exact_match": pytest.approx(2 / 3)}
    assert not list(found.constants())
    assert superglue.best_entities(entities([0.3, 0.2, 0.9, 0.5, 0.95]), QUERIES).answers.tolist()[:2] == ["Ann", "Bob"]


def write(folder, name, lines):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))


def test_similarities_without_a_score(tiny, tmp_path):
    """A test set has none; TFDS and our rows say -1."""
    lines = ["index\tsentence1\tsentence2", "0\tthe cat\tthe dog", "1\tthe cat sat\tit sat"]
    write(tmp_path, "STS-B/test.tsv", lines)
    write(tmp_path, "STS-B/dev.tsv", [f"{line}\t{last}" for line, last in zip(lines, ("score", "0.0", "5.0"), strict=True)])
    read = lambda split: glue.stsb.read(str(tmp_path), str(tiny.folder / "vocab.txt"), 16, split)
    assert np.isnan(glue.stsb.golds(read("test"))).all()
    assert glue.stsb.golds(read("validation")).tolist() == [0.0, 5.0]
    assert glue.stsb.majority(read("validation")) == {"pearson": 0.0, "spearman": 0.0} and glue.stsb.majority(read("test")) == {}


def test_multirc_majority(tiny, tmp_path):
    """Always True: F1 2 x 2 / (2 + 6); that beats always False, which answers one question of three but has no F1."""
    answers = [[0, 0], [1, 0], [0, 1]]
    questions = [
        {"idx": q, "question": "what?", "answers": [{"idx": 2 * q + a, "text": "cat", "label": label} for a, label in enumerate(labels)]}
        for q, labels in enumerate(answers)
    ]
    write(tmp_path, "MultiRC/val.jsonl", [json.dumps({"idx": 0, "passage": {"text": "the cat sat", "questions": questions}})])
    split = superglue.multirc.read(str(tmp_path), str(tiny.folder / "vocab.txt"), 16, "validation")
    assert superglue.multirc.majority(split) == {"f1a": pytest.approx(1 / 2), "question_exact_match": 0.0}
    assert split.counts["documents"] == 6 and len(split) == 6


def test_an_idx_that_stands_twice(handmade):
    rows = {"label": np.zeros(3, np.int32), "idx": np.array([3, 4, 3], np.int32)}
    own = tasks.Task("own", lambda *_: handmade(rows), heads.Classification, ("no", "yes"))
    with pytest.raises(DataError, match="idx 3 stands 2 times in the split 'validation' of own; each row must have its own"):
        own.predictions(own.read("", "", 16, "validation"), heads.Answers(np.zeros(3, np.int32)))


def test_a_missing_split(tiny):
    with pytest.raises(DataError, match=r"boolq has no split 'test' in '.*'; it has train, validation"):
        superglue.boolq.read(str(tiny.folder / "superglue"), str(tiny.folder / "vocab.txt"), 16, "test")


def test_predictions_as_lines():
    """Names for classes, null where there is no label, characters as they are."""
    p = Predictions(
        np.arange(3), np.array([1, -1, 0]), np.array([1, 0, -1]), ("no", "yes"), np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])
    )
    assert [json.loads(line) for line in p.jsonl().splitlines()] == [
        {"idx": 0, "label": "yes", "prediction": "yes", "probabilities": {"no": 0.25, "yes": 0.75}},
        {"idx": 1, "label": None, "prediction": "no", "probabilities": {"no": 1.0, "yes": 0.0}},
        {"idx": 2, "label": "no", "prediction": None, "probabilities": {"no": 0.5, "yes": 0.5}},
    ]
    numbers = Predictions(np.array([[0, 1]]), np.array([np.nan], np.float32), np.array([2.5], np.float32))
    assert json.loads(numbers.jsonl()) == {"idx": [0, 1], "label": None, "prediction": 2.5}
    named = Predictions(np.arange(2), texts([("a", "b"), ()]), texts(["é", ""]))
    assert named.jsonl() == '{"idx": 0, "label": ["a", "b"], "prediction": "é"}\n{"idx": 1, "label": null, "prediction": ""}\n'


def test_constant_answers():
    p = Predictions(np.arange(4), np.array([0, 2, 2, -1]), np.zeros(4, np.int64), ("a", "b", "c"))
    assert [constant.answers.tolist() for constant in p.constants()] == [[2] * 4, [0] * 4]
    assert [metrics.accuracy(constant) for constant in p.constants()] == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    (mean,) = Predictions(np.arange(3), np.array([1.0, np.nan, 4.0]), np.zeros(3)).constants()
    assert mean.answers.tolist() == [2.5] * 3


@pytest.mark.real_data
def test_axg_stands_in_pairs(real_data):
    """The official order: rows 2k and 2k + 1 share hypothesis and label and differ in the pronoun, so idx alone tells pairs."""
    rows = [json.loads(line) for line in pathlib.Path(real_data, "superglue/AX-g/AX-g.jsonl").read_text().splitlines()]
    assert [row["idx"] for row in rows] == list(range(356))
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert (first["hypothesis"], first["label"]) == (second["hypothesis"], second["label"])
        assert len(set(first["premise"].split()) ^ set(second["premise"].split())) == 2
