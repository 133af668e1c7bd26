"""What a text says of a task: cases of T5's own postprocessors, and where they give none."""

import numpy as np
import pytest

from rootstock.data import vocabularies
from rootstock.finetune import tasks
from rootstock.finetune.predictions import NONE
from rootstock.finetune.text_to_text.answers import answering


@pytest.fixture(scope="module")
def letters():
    """A vocabulary that keeps every letter."""
    return vocabularies.load("bytes")


@pytest.mark.parametrize(
    "name, text, answer",
    [
        ("cb", "contradiction", 1), ("cb", "Contradiction", NONE), ("cb", "contradiction.", NONE), ("cb", "", NONE),
        ("rte", "not_entailment", 1), ("rte", "not entailment", NONE), ("boolq", "True", 1), ("boolq", "true", NONE),
        ("copa", "choice2", 1), ("cola", "unacceptable", 0), ("mnli_mismatched", "neutral", 1), ("axb", "entailment", 0),
        ("stsb", "3.2", 3.2), ("stsb", "3,2", NONE), ("stsb", "nan", NONE), ("stsb", "inf", NONE), ("stsb", "7", 7.0),
        ("record", "Any words", "Any words"),
    ],
)  # fmt: skip
def test_texts(letters, name, text, answer):
    assert answering(tasks.find(name), letters).read(text, {}) == answer


@pytest.mark.parametrize(
    "said, meant, answer",
    [
        ("Bob", "Bob", 1), ("bob", "Bob", 1), ("the fuzzy bunny", "Bunny", 1), ("bunny", "the fuzzy bunny", 1), ("Ann", "Bob", 0),
        ("Bob's hat", "Bob", 0), ("Bob", "Bob's hat", 0), ("Bob's hat", "Bob's", 1), ("Bob hat", "Bob coat", 0),
        ("", "Bob", NONE), ("the", "Bob", NONE), ("  ", "Bob", NONE),
    ],
)  # fmt: skip
def test_referents(letters, said, meant, answer):
    assert answering(tasks.find("wsc"), letters).read(said, {"span1_text": meant}) == answer


def test_where_case_is_lost(tiny):
    """A name is what the vocabulary makes of it."""
    lower = vocabularies.load(tiny.folder / "vocab.txt")
    boolq = answering(tasks.find("boolq"), lower)
    assert [boolq.read(lower.decode(lower.encode(label)), {}) for label in ("False", "True")] == [0, 1]
    assert boolq.read("TRUE", {}) == NONE and [boolq.read(label, {}) for label in boolq.choices({})] == [0, 1]


def test_choices(letters):
    """What ranking chooses from: classes, fifths, entities; nothing is known for WSC."""
    of = lambda name, example: answering(tasks.find(name), letters).choices(example)
    assert of("cb", {}) == ("entailment", "contradiction", "neutral")
    fifths = of("stsb", {})
    assert len(fifths) == 26 and fifths[:3] == ["0.0", "0.2", "0.4"] and fifths[-1] == "5.0"
    np.testing.assert_allclose([float(text) for text in fifths], np.arange(26) / 5)
    assert of("record", {"entities": ["Ann", "Bob"]}) == ["Ann", "Bob"] and not of("wsc", {"span1_text": "Bob"})
