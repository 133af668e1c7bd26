"""A few sets as their official files."""

import json

import pytest

CAT = {"premise": "The cat ran.", "hypothesis": "it sat"}


def _wsc(index, label):
    target = {"span1_text": "the dog", "span1_index": 3, "span2_text": "it", "span2_index": 7}
    return {"text": "the cat and the dog ran then it sat", "idx": index, "label": label, "target": target}


def _wic(index, label):
    sentences = {"sentence1": "The cat ran home.", "sentence2": "Do you run?", "start1": 8, "end1": 11, "start2": 7, "end2": 10}
    return {"word": "run", "idx": index, "label": label, **sentences}


def _multirc(index):
    answers = [{"idx": 1, "text": "the dog", "label": 1}, {"idx": 2, "text": "", "label": 0}]
    return {"idx": index, "passage": {"text": "The cat ran.", "questions": [{"idx": 7 + index, "question": "Why?", "answers": answers}]}}


def _record(index):
    passage = {"text": "The cat ran\n@highlight\nThe dog sat", "entities": [{"start": 4, "end": 6}, {"start": 23, "end": 29}]}
    asked = [{"query": "@placeholder sat", "idx": 10 * index + at, "answers": [{"start": 4, "end": 6, "text": "cat"}]} for at in range(2)]
    return {"source": "us", "idx": index, "passage": passage, "qas": asked}


JSONL = {
    "BoolQ/train": [{"question": "do cats run", "passage": "Cats -- it ran.", "idx": i, "label": i % 3 == 0} for i in range(12)],
    "BoolQ/val": [{"question": "do dogs run", "passage": "Dogs -- it sat.", "idx": i, "label": True} for i in range(3)],
    "BoolQ/test": [{"question": "is it june", "passage": "not", "idx": i} for i in range(2)],
    "CB/train": [CAT | {"idx": i, "label": ("entailment", "contradiction", "neutral")[i % 3]} for i in range(5)],
    "COPA/train": [
        {"premise": "It ran.", "choice1": "a dog", "choice2": "a cat", "question": "cause", "idx": i, "label": i % 2} for i in range(4)
    ],
    "MultiRC/train": [_multirc(i) for i in range(3)],
    "ReCoRD/train": [_record(i) for i in range(3)],
    "RTE/val": [CAT | {"idx": i, "label": ("entailment", "not_entailment")[i % 2]} for i in range(3)],
    "WiC/train": [_wic(i, i % 2 == 0) for i in range(4)],
    "WSC/train": [_wsc(i, i % 2 == 0) for i in range(4)],
    "AX-g/AX-g": [CAT | {"idx": i, "label": ("entailment", "not_entailment")[i % 2]} for i in range(4)],
}
MICROSOFT = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
TSV = {
    "CoLA/train.tsv": 'gj04\t1\t\tThe cat "ran.\ngj04\t0\t*\tran cat The\n',
    "CoLA/test.tsv": "index\tsentence\n0\tthe cat\n1\tit\n",
    "MRPC/msr_paraphrase_train.txt": MICROSOFT + "1\t7\t8\tthe cat ran\tit sat\n0\t9\t10\tit\tthe dog\n1\t11\t12\ta mat\tit ran\n",
    "MRPC/dev_ids.tsv": "9\t10\n",
    "MRPC/msr_paraphrase_test.txt": MICROSOFT + "1\t7\t8\tthe cat\tit sat\n",
    "STS-B/train.tsv": "index\tsentence1\tsentence2\tscore\n0\tthe cat\tit sat\t3.800\n1\tit\ta dog\t0\n",
    "QQP/train.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n4\t1\t2\twhy?\twhat? 0\n5\t1\t2\twhy?\twhat?\t1\n",
    "MNLI/train.tsv": "index\tsentence1\tsentence2\tgold_label\n0\tthe cat\tit sat\tneutral\n1\tit\ta dog\tcontradiction\n",
    "MNLI/dev_matched.tsv": "index\tsentence1\tsentence2\tgold_label\n0\tthe cat\tit sat\tentailment\n",
    "WNLI/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\tthe cat\tit sat\t1\n",
}


@pytest.fixture(scope="session")
def official(tmp_path_factory):
    """A folder of both suites' official files, most of them partial."""
    folder = tmp_path_factory.mktemp("official")
    texts = {f"{name}.jsonl": "".join(json.dumps(row) + "\n" for row in rows) for name, rows in JSONL.items()} | TSV
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder
