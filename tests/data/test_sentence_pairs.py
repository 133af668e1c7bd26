"""Next-sentence pairs by BERT's card: label 0 follows, 1 is random, always random where a chunk holds one sentence. And the order of two
stretches by ALBERT's.
"""

import json
import random
from collections import Counter

import numpy as np
import pytest

from rootstock.data import tasks
from rootstock.data.errors import DataError
from rootstock.data.sentence_pairs import SentenceOrderTask, SentencePairTask
from rootstock.data.sentences import sentences
from rootstock.data.text import documents_of

LENGTH = 32


def make(corpus, vocabulary_file, **options):
    return SentencePairTask(str(corpus), vocabulary_file, LENGTH, **(dict(characters=500, dupe_factor=2) | options))


def block(documents=40, longest=6, seed=0):
    """Documents of sentences; every id tells its document, sentence and place."""
    chance = random.Random(seed)
    return [
        [[d * 10_000 + s * 100 + t for t in range(chance.randint(1, longest))] for s in range(chance.randint(1, 12))]
        for d in range(documents)
    ]


def test_sentences():
    text = 'Mr. Lorry said: "Why? I do not." He left at 3.15 p.m. sharp... Then (it seems) J. Cruncher came!\nA new paragraph'
    assert sentences(text) == [
        'Mr. Lorry said: "Why?',
        'I do not."',
        "He left at 3.15 p.m. sharp...",
        "Then (it seems) J. Cruncher came!",
        "A new paragraph",
    ]


def test_rows(corpus, vocabulary_file, vocabulary):
    task = make(corpus, vocabulary_file)
    rows = list(task.rows("train"))
    assert {name: (value.shape, value.dtype) for name, value in rows[0].items()} == {
        name: (field.shape, np.dtype(field.dtype)) for name, field in task.fields().items()
    }
    for row in rows:
        real = int(row["segment_ids"].sum())
        ids = row["input_ids"][:real]
        (ends,) = np.nonzero(ids == vocabulary.sep_id)
        assert ids[0] == vocabulary.cls_id
        assert len(ends) == 2 and ends[0] > 1 and ends[1] == real - 1 > ends[0] + 1  # neither side is empty
        assert row["token_type_ids"].tolist() == [0] * (ends[0] + 1) + [1] * (real - ends[0] - 1) + [0] * (LENGTH - real)
        assert row["positions"].tolist() == [*range(real), *[0] * (LENGTH - real)]
        assert not row["input_ids"][real:].any()
    assert 0.4 < np.mean([row["is_random_next"] for row in rows]) < 0.9


def test_label_0_follows_and_1_is_from_another_document(corpus, vocabulary_file):
    task = make(corpus, vocabulary_file, short_seq_prob=0.5)
    documents = block()
    seen = {False: 0, True: 0}
    for index in range(len(documents)):
        for a, b, is_random in task.pairs(documents, index, random.Random(index)):
            assert {i // 10_000 for i in a} == {index}
            assert len({i // 10_000 for i in b}) == 1
            assert (b[0] // 10_000 != index) == is_random
            assert len(a) + len(b) <= LENGTH - 3
            seen[is_random] += 1
            if not is_random:
                assert b[0] > a[-1]
                assert b[0] // 100 <= a[-1] // 100 + 1 or len(a) + len(b) == LENGTH - 3  # no sentence between, but for what was trimmed
    assert min(seen.values()) > 30


def test_unused_sentences_are_put_back(corpus, vocabulary_file):
    """With every pair random, each sentence stands in A exactly once (short sentences: nothing is trimmed)."""
    task = make(corpus, vocabulary_file, random_next_prob=1.0, short_seq_prob=0.0)
    documents = [[[d * 10_000 + s * 100] for s in range(9)] for d in range(5)]
    found = [i for d in range(5) for a, _, _ in task.pairs(documents, d, random.Random(d)) for i in a]
    assert sorted(found) == sorted(i for document in documents for sentence in document for i in sentence)


def test_one_sentence_alone_is_always_random(corpus, vocabulary_file):
    task = make(corpus, vocabulary_file, random_next_prob=0.0)
    documents = [[[d * 10_000] * 5] for d in range(3)]
    assert [is_random for d in range(3) for _, _, is_random in task.pairs(documents, d, random.Random(0))] == [True] * 3
    alone = list(task.pairs([[[7, 8]]], 0, random.Random(0)))  # no other document there is
    assert alone == [([7, 8], [7, 8], True)]


def test_without_random_ones_the_text_is_used_once(corpus, vocabulary_file):
    task = make(corpus, vocabulary_file, random_next_prob=0.0, short_seq_prob=0.0)
    documents = [[[s * 100 + t for t in range(3)] for s in range(20)]]
    pairs = list(task.pairs(documents, 0, random.Random(0)))
    ids = [i for a, b, is_random in pairs if not is_random for i in a + b]
    assert len(ids) == len(set(ids))
    # 10 sentences reach the room of 29; the 30th id is trimmed.
    assert [len(a) + len(b) for a, b, _ in pairs] == [29, 29]


def test_short_targets(corpus, vocabulary_file):
    documents = block(longest=3)

    def mean_length(probability):
        task = make(corpus, vocabulary_file, short_seq_prob=probability)
        return np.mean([len(a) + len(b) for d in range(40) for a, b, _ in task.pairs(documents, d, random.Random(d))])

    assert mean_length(1.0) < 0.8 * mean_length(0.0)


def test_deterministic_by_seed_and_copies_differ(corpus, vocabulary_file):
    def ids(**options):
        return [row["input_ids"].tobytes() for row in make(corpus, vocabulary_file, **options).rows("train")]

    once = ids(dupe_factor=1)
    assert ids() == ids()
    assert ids()[: len(once)] == once  # the first copy does not depend on how many follow
    assert ids()[len(once) :] != once
    assert ids(seed=1) != ids()
    assert ids(block=3) != ids()
    validation = make(corpus, vocabulary_file, validation_fraction=0.2)
    assert len(list(validation.rows("validation"))) < len(list(validation.rows("train"))) / 4


def test_a_few_long_documents_are_many_parts(corpus, vocabulary_file, monkeypatch):
    """Whole books a row: no part holds much more than 16 million characters (here 500), however few documents that are."""
    monkeypatch.setattr(tasks.parted, "__defaults__", (500,))
    task = make(corpus, vocabulary_file)
    parts = list(task.parts("train", Counter()))
    texts = [part.args[3] for part in parts]
    assert len(parts) > 3 and max(sum(map(len, some[:-1])) for some in texts) < 500
    assert sum(map(len, texts)) == sum(1 for _ in documents_of(task, "train"))


def test_order(corpus, vocabulary_file):
    """Both sides are neighbours in one document; label 1 if and only if the later one stands first, half of the time; swapped back, all
    are in order. Nothing is used twice, and a sentence alone not at all.
    """
    task = SentenceOrderTask(str(corpus), vocabulary_file, LENGTH, characters=500, dupe_factor=1)
    documents = block(200, seed=1)
    labels = []
    for index, document in enumerate(documents):
        seen = []
        for a, b, swapped in task.pairs(documents, index, random.Random(index)):
            first, second = (b, a) if swapped else (a, b)
            assert {i // 10_000 for i in a + b} == {index} and first[-1] < second[0] and len(a) + len(b) <= LENGTH - 3
            assert first[-1] // 100 + 1 >= second[0] // 100 or len(a) + len(b) == LENGTH - 3  # but for what was trimmed
            seen += first + second
            labels.append(swapped)
        assert seen == sorted(set(seen)) and (len(document) > 1 or not seen)
    assert abs(np.mean(labels) - 0.5) < 5 * 0.5 / np.sqrt(len(labels))
    assert all(row["is_swapped"] in (0, 1) and "is_random_next" not in row for row in task.rows("train"))


def test_a_document_without_an_order_is_dropped(vocabulary_file, tmp_path):
    """Once, however many copies are made of the others."""
    documents = [*["A cat sat."] * 3, "A cat sat. A dog ran home."]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    task = SentenceOrderTask(str(tmp_path / "x.jsonl"), vocabulary_file, LENGTH, validation_fraction=0.0, dupe_factor=2)
    counts = Counter()
    assert len(list(task.rows("train", counts))) == 2 and counts == {"documents": 4, "dropped": 3}


@pytest.mark.parametrize(
    "change, message",
    [(dict(short_seq_prob=1.5), "short_seq_prob is 1.5"), (dict(length=4), "length is 4"), (dict(dupe_factor=0), "dupe_factor is 0")],
)
def test_mistakes(corpus, vocabulary_file, change, message):
    with pytest.raises(DataError, match=f"SentencePairTask.{message}"):
        SentencePairTask(**(dict(source=str(corpus), vocabulary=vocabulary_file, length=LENGTH) | change))
