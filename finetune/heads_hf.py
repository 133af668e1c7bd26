"""Our heads as Hugging Face's classes: one row a kind, the same for every family (`BertForTokenClassification`, `ElectraFor...`)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rootstock.finetune import heads
from rootstock.models.hf import Family, Mismatch

# What stands behind "For" in the name of their class, by our kind of head.
KINDS = {
    heads.Classification: "SequenceClassification",
    heads.Regression: "SequenceClassification",
    heads.TokenClassification: "TokenClassification",
    heads.SpanExtraction: "QuestionAnswering",
    heads.MultipleChoice: "MultipleChoice",
}


@dataclasses.dataclass(frozen=True)
class Named:
    """A head and what its task is called where nobody names it."""

    task: str
    head: heads.Head


def head(family: Family, architecture: str, theirs: Mapping[str, Any]) -> Named | None:
    """The head of one of their classes, from the content of its config.json; None for a class without one."""
    _, _, suffix = architecture.partition("For")
    if suffix not in KINDS.values():
        return None
    labels, dropout = _labels(theirs), _dropout(family, architecture, theirs)
    if suffix == "SequenceClassification":
        return Named("sequence_classification", _sequence(theirs, labels, dropout))
    if suffix == "TokenClassification":
        return Named("token_classification", heads.Head(heads.TokenClassification, len(labels), dropout, _spoken(labels)))
    if suffix == "MultipleChoice":
        return Named("multiple_choice", heads.Head(heads.MultipleChoice, 1, dropout))
    if len(labels) != 2:
        raise Mismatch(f"num_labels is {len(labels)}; an extracted answer has a start and an end, so 2")
    return Named("question_answering", heads.Head(heads.SpanExtraction, 2, dropout if _drops(family, architecture) else 0.0))


def _drops(family: Family, architecture: str) -> bool:
    """Whether there is dropout in question answering: only behind a layer that stands between it and the encoder."""
    return bool(family.forms[architecture].pooler)


def suffix(head: heads.Head) -> str:
    """What stands behind "For" in the name of their class."""
    if head.kind not in KINDS:
        known = ", ".join(kind.__name__ for kind in KINDS)
        raise Mismatch(f"a {head.kind.__name__} head has no counterpart in transformers; {known} have one")
    return KINDS[head.kind]


def head_back(family: Family, architecture: str, head: heads.Head, described: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of their config.json that describe a head, beside those that are `described`."""
    if head.kind is heads.SpanExtraction and not _drops(family, architecture):
        return {}
    name = _rates(family, architecture)[0]
    if described.get(name, head.dropout) != head.dropout:
        raise Mismatch(f"{architecture} has one {name} for encoder and head; the encoder's is {described[name]}, the head's {head.dropout}")
    fields: dict[str, Any] = {name: head.dropout}
    if head.kind in (heads.SpanExtraction, heads.MultipleChoice):
        return fields
    if suffix(head) == "SequenceClassification":
        fields["problem_type"] = "regression" if head.kind is heads.Regression else "single_label_classification"
    labels = head.labels or tuple(f"LABEL_{i}" for i in range(head.outputs))
    return fields | {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def _sequence(theirs: Mapping[str, Any], labels: tuple[str, ...], dropout: float) -> heads.Head:
    problem = theirs.get("problem_type")
    if problem not in (None, "regression", "single_label_classification"):
        raise Mismatch(f"problem_type is {problem!r}; known are 'regression' and 'single_label_classification'")
    if problem == "regression" or (problem is None and len(labels) == 1):
        if len(labels) != 1:
            raise Mismatch(f"problem_type is 'regression' with {len(labels)} numbers for a text; a Regression head gives one")
        return heads.Head(heads.Regression, 1, dropout, _spoken(labels))
    return heads.Head(heads.Classification, len(labels), dropout, _spoken(labels))


def _labels(theirs: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the classes in order. Without `id2label` and `num_labels` there are two, as in transformers."""
    found = theirs.get("id2label")
    if found is None:
        count = theirs.get("num_labels", 2)
        if type(count) is not int or not 1 <= count <= 1_000_000:
            raise Mismatch(f"num_labels is {count!r}; expected a whole number of at least 1")
        return tuple(f"LABEL_{i}" for i in range(count))
    numbers = [str(i) for i in range(len(found))] if isinstance(found, Mapping) else None
    if not numbers or set(found) != set(numbers) or not all(isinstance(label, str) for label in found.values()):
        raise Mismatch(f"id2label is {str(found)[:100]}; expected a name for each of the numbers from 0")
    return tuple(found[number] for number in numbers)


def _spoken(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Names that say something: `LABEL_0` and so on are what transformers puts where nobody named the classes."""
    return () if labels == tuple(f"LABEL_{i}" for i in range(len(labels))) else labels


def _rates(family: Family, architecture: str) -> tuple[str, ...]:
    return family.forms[architecture].dropout or family.dropout


def _dropout(family: Family, architecture: str, theirs: Mapping[str, Any]) -> float:
    """Before the last projection: in BERT `classifier_dropout`, and where that is null the dropout of the hidden states."""
    for name in _rates(family, architecture):
        value = theirs.get(name, family.defaults.get(name))
        if value is None:
            continue
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise Mismatch(f"{name} is {value!r}; expected a number of at least 0 and below 1")
        return float(value)
    return heads.Head.dropout
