"""T5's cast. The strings are T5's own: of its paper's appendix D (shortened), its preprocessors' docstrings and its tests."""

import json
from collections import Counter

import numpy as np
import pytest

from rootstock.data import vocabularies
from rootstock.data.errors import DataError
from rootstock.data.suites import text_to_text

STABLE = "The stable was very roomy, with four good stalls; a large swinging window opened into the yard , which made"
PASSAGE = "This is the passage\n@highlight\nAnother sentence.\n@highlight\nThird sentence."
RECORD = "record query: It was @placeholder. entities: A, B, C passage: This is the passage. Another sentence. Third sentence."
TEXTS = [
    (
        "cola",
        {"sentence": "John made Bill master of himself.", "label": 1},
        "cola sentence: John made Bill master of himself.",
        "acceptable",
    ),
    (
        "glue_rte",
        {"sentence1": "A smaller proportion were settled in Slovenia.", "sentence2": "Slovenia has 3,078 inhabitants.", "label": 1},
        "rte sentence1: A smaller proportion were settled in Slovenia. sentence2: Slovenia has 3,078 inhabitants.",
        "not_entailment",
    ),
    (
        "mnli",
        {"premise": "yeah well losing is i mean from Saint Louis", "hypothesis": "The St. Louis Cardinals have always won.", "label": 2},
        "mnli hypothesis: The St. Louis Cardinals have always won. premise: yeah well losing is i mean from Saint Louis",
        "contradiction",
    ),
    (
        "mrpc",
        {"sentence1": 'We acted in a new light , " Rumsfeld said .', "sentence2": "Rather , the US acted .", "label": 1},
        'mrpc sentence1: We acted in a new light , " Rumsfeld said . sentence2: Rather , the US acted .',
        "equivalent",
    ),
    (
        "qnli",
        {"question": "Where did Jebe die?", "sentence": "Genghis Khan recalled Subutai back to Mongolia soon afterwards.", "label": 0},
        "qnli question: Where did Jebe die? sentence: Genghis Khan recalled Subutai back to Mongolia soon afterwards.",
        "entailment",
    ),
    (
        "qqp",
        {"question1": "Why do I easily get bored of my friends?", "question2": "Why do I get bored of friends so quickly?", "label": 1},
        "qqp question1: Why do I easily get bored of my friends? question2: Why do I get bored of friends so quickly?",
        "duplicate",
    ),
    ("sst2", {"sentence": "it confirms fincher 's status ", "label": 1}, "sst2 sentence: it confirms fincher 's status ", "positive"),
    ("stsb", {"sentence1": "Big news.", "sentence2": "No idea.", "label": 2.8}, "stsb sentence1: Big news. sentence2: No idea.", "2.8"),
    ("stsb", {"sentence1": "Big news.", "sentence2": "No idea.", "label": 1.66}, "stsb sentence1: Big news. sentence2: No idea.", "1.6"),
    ("stsb", {"sentence1": "a", "sentence2": "b", "label": 3.25}, "stsb sentence1: a sentence2: b", "3.2"),
    ("stsb", {"sentence1": "a", "sentence2": "b", "label": 5.0}, "stsb sentence1: a sentence2: b", "5.0"),
    ("stsb", {"sentence1": "a", "sentence2": "b", "label": -1.0}, "stsb sentence1: a sentence2: b", "-1.0"),
    ("wnli", {"sentence1": "a", "sentence2": "b", "label": 0}, "wnli sentence1: a sentence2: b", "not_entailment"),
    ("ax", {"premise": "a", "hypothesis": "b", "label": -1}, "mnli hypothesis: b premise: a", "<unk>"),
    (
        "cb",
        {"premise": "Did he think he was helping?", "hypothesis": "Valence was helping", "label": 1},
        "cb hypothesis: Valence was helping premise: Did he think he was helping?",
        "contradiction",
    ),
    (
        "copa",
        {
            "premise": "Political violence broke out in the nation.", "question": "effect", "label": 1,
            "choice1": "Many citizens relocated to the capitol.", "choice2": "Many citizens took refuge in other territories.",
        },
        "copa choice1: Many citizens relocated to the capitol. choice2: Many citizens took refuge in other territories. "
        "premise: Political violence broke out in the nation. question: effect",
        "choice2",
    ),
    (
        "multirc",
        {
            "paragraph": "<b>Sent 1: </b>Once upon a time, there was a squirrel named Joey.<br><b>Sent 2: </b>Joey loved to go outside.",
            "question": "Why was Joey surprised the morning he woke up for breakfast?", "answer": "There was only pie to eat", "label": 1,
            "idx": {"paragraph": 5, "question": 1, "answer": 3},
        },
        "multirc question: Why was Joey surprised the morning he woke up for breakfast? answer: There was only pie to eat "
        "paragraph: Sent 1: Once upon a time, there was a squirrel named Joey. Sent 2: Joey loved to go outside.",
        "True",
    ),
    (
        "wic",
        {
            "sentence1": "It was the deliberation of his act that was insulting .", "sentence2": "The deliberations of the jury .",
            "word": "deliberation", "start1": 11, "end1": 23, "start2": 4, "end2": 17, "label": 0,
        },
        "wic sentence1: It was the deliberation of his act that was insulting . sentence2: The deliberations of the jury . "
        "word: deliberation",
        "False",
    ),
    (
        "wsc",
        {
            "text": "Mitchell asked Tom if he could lend some money.", "label": 1,
            "span1_text": "Tom", "span1_index": 2, "span2_text": "he", "span2_index": 4,
        },
        "wsc: Mitchell asked Tom if *he* could lend some money.",
        "Tom",
    ),
    (
        "wsc",
        {
            "text": f"{STABLE} it pleasant and airy.", "label": 1,
            "span1_text": "stable", "span1_index": 1, "span2_text": "it", "span2_index": 20,
        },
        f"wsc: {STABLE} *it* pleasant and airy.",
        "stable",
    ),
    (
        "wsc",
        {"text": '"Good for him," he said.', "span1_text": "he", "span1_index": 3, "span2_text": "him", "span2_index": 2, "label": 0},
        'wsc: "Good for *him* ," he said.',
        "he",
    ),
    ("boolq", {"question": "is it", "passage": "It -- it is.", "label": 1}, "boolq passage: It -- it is. question: is it", "True"),
    ("rte", {"premise": "a", "hypothesis": "b", "label": 0}, "rte hypothesis: b premise: a", "entailment"),
    ("axb", {"sentence1": "a", "sentence2": "b", "label": 1}, "rte hypothesis: b premise: a", "not_entailment"),
    ("axg", {"premise": "a", "hypothesis": "b", "label": 1}, "rte hypothesis: b premise: a", "not_entailment"),
]  # fmt: skip


@pytest.mark.parametrize("name, example, inputs, target", TEXTS, ids=[case[0] for case in TEXTS])
def test_texts(name, example, inputs, target):
    assert text_to_text.texts(name, {"idx": 1} | example) == [(inputs, target)]


def test_every_set_has_its_text():
    assert {case[0] for case in TEXTS} | {"record"} == set(text_to_text.SETS)


@pytest.mark.parametrize("answers", [["A", "C"], []])
def test_record(answers):
    example = {"query": "It was @placeholder.", "entities": ["A", "B", "C"], "passage": PASSAGE, "answers": answers}
    expected = [(RECORD, answer) for answer in answers or ["<unk>"]]
    assert text_to_text.texts("record", example | {"idx": {"passage": 1, "query": 2}}) == expected


@pytest.fixture
def make(tmp_path, vocabulary_file):
    def write(name, rows, lengths=(24, 8), file="train.jsonl"):
        folder = tmp_path / text_to_text.SETS[name].folder
        folder.mkdir(exist_ok=True)
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return text_to_text.task(name, str(tmp_path), vocabulary_file, *lengths)

    return write


BOOLQ = {"question": "do cats run", "passage": "the cat ran home. ", "idx": 4, "label": True}


def test_rows_end_in_the_end_of_sequence(make, vocabulary):
    """Whole or cut, inputs and targets alike: T5's tasks close both."""
    task = make("boolq", [BOOLQ, BOOLQ | {"idx": 5, "passage": "cat " * 40}])
    short, long = task.rows("train")
    assert task.name == "boolq_text"
    for row in (short, long):
        assert {key: (value.shape, value.dtype) for key, value in row.items()} == {
            key: (field.shape, np.dtype(field.dtype)) for key, field in task.fields().items()
        }
        for prefix, ids in (("", "input_ids"), ("target_", "target_ids")):
            real = int(row[f"{prefix}segment_ids"].sum())
            assert row[ids][real - 1] == vocabulary.sep_id and not row[ids][real:].any() and vocabulary.sep_id not in row[ids][: real - 1]
            assert row[f"{prefix}segment_ids"].tolist() == [1] * real + [0] * (len(row[ids]) - real)
            assert row[f"{prefix}positions"].tolist() == [*range(real), *[0] * (len(row[ids]) - real)]
    assert long["segment_ids"].all()
    assert vocabulary.decode(short["target_ids"][short["target_segment_ids"] > 0]) == "true [SEP]"
    assert short["idx"].tolist() == [4, 0, 0]


def test_multirc_cuts_the_paragraph(make, vocabulary):
    answers = [{"idx": 1, "text": "the dog ran", "label": 1}]
    passage = {"text": "cat " * 60, "questions": [{"idx": 7, "question": "why not?", "answers": answers}]}
    (row,) = make("multirc", [{"idx": 4, "passage": passage}], lengths=(48, 8)).rows("train")
    said = vocabulary.decode(row["input_ids"])
    assert "why not?" in said and "the dog ran" in said and said.endswith("cat cat [SEP]")
    assert row["idx"].tolist() == [4, 7, 1]


def wsc(index, label):
    target = {"span1_text": "the dog", "span1_index": 3, "span2_text": "it", "span2_index": 7}
    return {"text": "the cat and the dog ran then it sat", "idx": index, "label": label, "target": target}


def test_wsc_trains_on_right_referents_alone(make):
    rows = [wsc(0, True), wsc(1, False), wsc(2, True)]
    counts = Counter()
    assert [int(row["idx"][0]) for row in make("wsc", rows).rows("train", counts)] == [0, 2]
    assert (counts["documents"], counts["dropped"]) == (3, 1)
    assert [int(row["idx"][0]) for row in make("wsc", rows, file="val.jsonl").rows("validation")] == [0, 1, 2]


def test_record_once_a_query_in_evaluation(make, vocabulary):
    entities = [{"start": 0, "end": 6}, {"start": 4, "end": 6}]
    answers = [{"start": 4, "end": 6, "text": "cat"}, {"start": 0, "end": 6, "text": "the cat"}]
    asked = {"query": "@placeholder sat", "idx": 5, "answers": answers}
    row = {"idx": 3, "passage": {"text": "the cat ran", "entities": entities}, "qas": [asked]}
    training = list(make("record", [row]).rows("train"))
    assert [vocabulary.decode(made["target_ids"][made["target_segment_ids"] > 0]) for made in training] == ["cat [SEP]", "the cat [SEP]"]
    (made,) = make("record", [row], file="val.jsonl").rows("validation")
    assert made["idx"].tolist() == [3, 5, 0]


def test_mistakes(make):
    with pytest.raises(DataError, match="there is no set 'qa' to cast; known are boolq, cb"):
        text_to_text.task("qa", "superglue", "vocab.txt", 24, 8)
    with pytest.raises(DataError, match="the target_length of boolq_text's rows is 1; expected 2 or more"):
        make("boolq", [BOOLQ], lengths=(24, 1))


@pytest.mark.real_data
def test_with_t5s_own_vocabulary(real_data):
    """</s> is id 1 there, and the ids of a target are those that T5's checkpoints know."""
    vocabulary = f"{real_data}/vocab/t5-spiece.model"
    row = next(text_to_text.task("copa", f"{real_data}/superglue", vocabulary, 128, 8).rows("validation"))
    assert vocabularies.load(vocabulary).sep_id == 1
    assert row["input_ids"][row["segment_ids"] > 0][-1] == 1 and row["target_ids"][row["target_segment_ids"] > 0][-1] == 1
