"""The leaderboards' files, byte for byte."""

import zipfile

import numpy as np
import pytest

from rootstock.data.suites.official import COUNTS
from rootstock.engine.errors import UserError
from rootstock.finetune import submission, tasks
from rootstock.finetune.outcome import Result
from rootstock.finetune.predictions import Predictions, texts


def said(name, answers, idx=None):
    answers = np.asarray(answers)
    blind = np.full(len(answers), np.nan if answers.dtype.kind == "f" else -1, answers.dtype)
    return Predictions(np.arange(len(answers)) if idx is None else np.asarray(idx), blind, answers, tuple(tasks.find(name).labels))


def archive(path):
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name).decode() for name in opened.namelist()}


NESTED = [[0, 0, 0], [0, 0, 1], [0, 1, 2], [3, 9, 17]]
SUPERGLUE = {
    "boolq": (said("boolq", [1, 0]), "BoolQ.jsonl", '{"idx": 0, "label": "true"}\n{"idx": 1, "label": "false"}\n'),
    "cb": (said("cb", [2, 1, 0]), "CB.jsonl",
        '{"idx": 0, "label": "neutral"}\n{"idx": 1, "label": "contradiction"}\n'
        '{"idx": 2, "label": "entailment"}\n'),
    "copa": (said("copa", [1, 0], [500, 501]), "COPA.jsonl", '{"idx": 500, "label": 1}\n{"idx": 501, "label": 0}\n'),
    "multirc": (said("multirc", [0, 1, 1, 0], NESTED), "MultiRC.jsonl",
        '{"idx": 0, "passage": {"questions": [{"idx": 0, "answers": [{"idx": 0, "label": 0}, {"idx": 1, "label": 1}]}, '
        '{"idx": 1, "answers": [{"idx": 2, "label": 1}]}]}}\n'
        '{"idx": 3, "passage": {"questions": [{"idx": 9, "answers": [{"idx": 17, "label": 0}]}]}}\n'),
    "record": (Predictions(np.array([[0, 7], [0, 8]]), texts([(), ()]), texts(["Beyoncé", 'a "b"'])), "ReCoRD.jsonl",
        '{"idx": 7, "label": "Beyoncé"}\n{"idx": 8, "label": "a \\"b\\""}\n'),
    "rte": (said("rte", [1, 0]), "RTE.jsonl", '{"idx": 0, "label": "not_entailment"}\n{"idx": 1, "label": "entailment"}\n'),
    "wic": (said("wic", [1, 0]), "WiC.jsonl", '{"idx": 0, "label": "true"}\n{"idx": 1, "label": "false"}\n'),
    "wsc": (said("wsc", [1, 0]), "WSC.jsonl", '{"idx": 0, "label": "True"}\n{"idx": 1, "label": "False"}\n'),
    "axb": (said("axb", [0]), "AX-b.jsonl", '{"idx": 0, "label": "entailment"}\n'),
    "axg": (said("axg", [1]), "AX-g.jsonl", '{"idx": 0, "label": "not_entailment"}\n'),
}  # fmt: skip
GLUE = {
    "cola": (said("cola", [0, 1]), "CoLA.tsv", "0\n1"),
    "sst2": (said("sst2", [1, 0]), "SST-2.tsv", "1\n0"),
    "mrpc": (said("mrpc", [1, 0]), "MRPC.tsv", "1\n0"),
    "stsb": (said("stsb", [2.34567, -0.2, 5.4]), "STS-B.tsv", "2.346\n0.000\n5.000"),
    "qqp": (said("qqp", [0, 1]), "QQP.tsv", "0\n1"),
    "mnli": (said("mnli", [0, 1, 2]), "MNLI-m.tsv", "entailment\nneutral\ncontradiction"),
    "mnli_mismatched": (said("mnli_mismatched", [2]), "MNLI-mm.tsv", "contradiction"),
    "qnli": (said("qnli", [0, 1]), "QNLI.tsv", "entailment\nnot_entailment"),
    "glue_rte": (said("glue_rte", [1, 0]), "RTE.tsv", "not_entailment\nentailment"),
    "wnli": (said("wnli", [1, 0]), "WNLI.tsv", "1\n0"),
    "ax": (said("ax", [1]), "AX.tsv", "neutral"),
}


def test_superglue(tmp_path):
    assert submission.write(tmp_path / "s.zip", {name: found for name, (found, _, _) in SUPERGLUE.items()}) == []
    assert archive(tmp_path / "s.zip") == {file: text for _, file, text in SUPERGLUE.values()}
    assert SUPERGLUE.keys() == set(tasks.names("superglue"))


def test_glue(tmp_path):
    """A header, and the rows numbered from 0."""
    assert submission.write(tmp_path / "g.zip", {name: found for name, (found, _, _) in GLUE.items()}) == []
    told = lambda values: "index\tprediction\n" + "".join(f"{row}\t{value}\n" for row, value in enumerate(values.split("\n")))
    assert archive(tmp_path / "g.zip") == {file: told(values) for _, file, values in GLUE.values()}
    assert GLUE.keys() == set(tasks.names("glue"))


def test_glue_rows_in_the_order_of_their_numbers(tmp_path):
    submission.write(tmp_path / "g.zip", {"cola": said("cola", [1, 0, 0], [2, 0, 1])})
    assert archive(tmp_path / "g.zip")["CoLA.tsv"] == "index\tprediction\n0\t0\n1\t0\n2\t1\n"
    with pytest.raises(
        UserError, match=r"CoLA\.tsv: the rows of a GLUE test set are numbered from 0 to 2 without a gap; row 1 has number 2"
    ):
        submission.write(tmp_path / "gap.zip", {"cola": said("cola", [1, 0, 0], [0, 2, 3])})
    assert [path.name for path in tmp_path.iterdir()] == ["g.zip"]


def test_the_same_predictions_make_the_same_bytes(tmp_path):
    for name in ("a.zip", "b.zip"):
        submission.write(tmp_path / name, {"boolq": SUPERGLUE["boolq"][0]})
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_an_answer_that_is_no_class_is_the_first_class(tmp_path):
    submission.write(tmp_path / "s.zip", {"boolq": said("boolq", [-1, 1]), "multirc": said("multirc", [-1], [[0, 0, 0]])})
    found = archive(tmp_path / "s.zip")
    assert found["BoolQ.jsonl"].startswith('{"idx": 0, "label": "false"}\n') and '"label": 0}' in found["MultiRC.jsonl"]


def test_what_a_partial_archive_lacks(tmp_path):
    left = submission.write(tmp_path / "s.zip", {"boolq": SUPERGLUE["boolq"][0]})
    assert left == [
        "CB.jsonl",
        "COPA.jsonl",
        "MultiRC.jsonl",
        "ReCoRD.jsonl",
        "RTE.jsonl",
        "WiC.jsonl",
        "WSC.jsonl",
        "AX-b.jsonl",
        "AX-g.jsonl",
    ]


def test_a_subset_is_told():
    """Each task of a suite has an official number of test rows; those of five rows have not as many."""
    for suite in ("superglue", "glue"):
        for name in tasks.names(suite):
            task, split = tasks.find(name), tasks.Split.__new__(tasks.Split)
            split.rows, split.split = task.rows("", "", 32), task.splits.get("test", "test")
            whole = COUNTS[split.rows.set.tfds][split.split][0]
            told = lambda count, *of: submission.partial({of[1]: Result(*of[::2], said("cola", np.zeros(count, np.int32)))})
            assert told(5, task, name, split) == [f"{submission.FILES[name].name} has 5 of the official {whole:,} rows"]
            assert told(whole, task, name, split) == []


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match="for the tasks of one leaderboard, SuperGLUE's or GLUE's, not of both: boolq, cola"):
        submission.check(["boolq", "cola"])
    with pytest.raises(UserError, match=r"no leaderboard takes my\.sentiment; --submission is for the tasks boolq, cb"):
        submission.check(["boolq", "my.sentiment"])
    with pytest.raises(UserError, match=r"--submission=/gone/s\.zip cannot be written: No such file or directory"):
        submission.write("/gone/s.zip", {"boolq": SUPERGLUE["boolq"][0]})
