"""How a checkpoint answers the rows of a task: by a head on its encoder, or in words."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from rootstock.data import vocabularies
from rootstock.data.streams import Ordered
from rootstock.data.suites import text_to_text
from rootstock.data.tasks import Task as Rows
from rootstock.engine.errors import UserError
from rootstock.engine.evaluate import Evaluation
from rootstock.engine.sockets import Params
from rootstock.engine.state import Blueprint
from rootstock.finetune.decoding import Generator, Scorer
from rootstock.finetune.finetuned import Config
from rootstock.finetune.heads import Classification, Head, SpanClassification
from rootstock.finetune.predictions import Predictions
from rootstock.finetune.scores import Gathered
from rootstock.finetune.tasks import Split, Task
from rootstock.finetune.text_to_text import rows as in_words
from rootstock.finetune.text_to_text.answers import answering
from rootstock.finetune.text_to_text.rows import TextSplit
from rootstock.finetune.texts import Texts
from rootstock.models.decoding.protocol import Generative

LENGTH, TARGET_LENGTH = 512, 64  # tokens, where nothing else is asked for


@dataclasses.dataclass(frozen=True)
class Asked:
    """Where the rows are, how long they may be, how many are looked at at once. `rank`: the likeliest of given texts, not what is
    generated.
    """

    data_dir: str
    vocabulary: str
    length: int | None = None
    target_length: int | None = None
    batch_size: int = 64
    rank: bool = False


@dataclasses.dataclass(frozen=True)
class Opened:
    """A checkpoint, by the name of its folder."""

    name: str
    blueprint: Blueprint
    params: Params


@runtime_checkable
class Answerer(Protocol):
    def missing(self, tasks: Iterable[Task]) -> dict[str, str]:
        """The tasks that cannot be answered, each with the reason."""

    def refusal(self, missing: Mapping[str, str]) -> UserError:
        """What to raise of them."""

    def rows(self, task: Task) -> Rows: ...

    def read(self, task: Task, split: str) -> Split: ...

    def answer(self, task: Task, split: Split) -> Predictions: ...


def answerer(opened: Opened, asked: Asked) -> Answerer:
    """The one for this checkpoint."""
    model = opened.blueprint.model
    if isinstance(model, Generative) and model.continues_inputs:
        raise UserError(
            f"{opened.name} holds a {type(model).__name__}, which goes on from texts; tasks are answered by encoders with heads and by "
            "encoder-decoders"
        )
    if isinstance(model, Generative):
        return InWords(opened, asked)
    for name, value in {"--target_length": asked.target_length, "--rank": asked.rank}.items():
        if value:
            raise UserError(f"{name} is for checkpoints that answer in words; {opened.name} answers by heads")
    return ByHeads(opened, asked)


@dataclasses.dataclass(frozen=True)
class ByHeads:
    """An encoder with a head for each of its tasks."""

    opened: Opened
    asked: Asked

    @property
    def heads(self) -> Mapping[str, Head]:
        config = self.opened.blueprint.model.config
        return config.heads if isinstance(config, Config) else {}

    @property
    def length(self) -> int:
        encoder = self.opened.blueprint.model.config.encoder.config
        return self.asked.length or min(LENGTH, encoder.max_length - getattr(encoder, "position_offset", 0))

    def missing(self, tasks: Iterable[Task]) -> dict[str, str]:
        return {task.name: why for task in tasks if (why := self._lacks(task))}

    def refusal(self, missing: Mapping[str, str]) -> UserError:
        known = ", ".join(self.heads) or "no task: fine-tune it first"
        whys = dict.fromkeys(missing.values())
        reasons = "; ".join(f"{', '.join(name for name in missing if missing[name] == why)} ({why})" for why in whys)
        return UserError(f"{self.opened.name} cannot answer {reasons}; it has heads for {known}")

    def rows(self, task: Task) -> Rows:
        return task.rows(self.asked.data_dir, self.asked.vocabulary, self.length)

    def read(self, task: Task, split: str) -> Split:
        return task.read(self.asked.data_dir, self.asked.vocabulary, self.length, split)

    def answer(self, task: Task, split: Split) -> Predictions:
        gathered = Gathered(task, split, self._order(task))
        return Evaluation(self.opened.blueprint, gathered, Ordered(split), self.asked.batch_size)(self.opened.params)

    def _lacks(self, task: Task) -> str:
        """Why no head answers a task; "" if one does. A converted head may have other classes than the task of its name."""
        if task.head_name not in self.heads:
            return "no head" if task.head_name == task.name else f"no head for {task.head_name}"
        found, wanted = (
            f"a {head.kind.__name__} of {head.kind.outputs_of(head)}" for head in (self.heads[task.head_name], task.describe_head())
        )
        if found != wanted:
            return f"its head is {found}, the task wants {wanted}"
        names, asked = self._classes(task), [_plain(label) for label in task.labels]
        if names != asked and (sorted(names) != sorted(asked) or len(set(names)) < len(names)):
            labels = self.heads[task.head_name].labels
            return f"its head tells apart {', '.join(labels)}, the task {', '.join(task.labels)}; give equal classes equal names"
        return ""

    def _classes(self, task: Task) -> list[str]:
        """The classes of a head in order, where it has one output for each and knows their names; else the task's own."""
        labels = self.heads[task.head_name].labels if task.head in (Classification, SpanClassification) else ()
        return [_plain(label) for label in labels or task.labels]

    def _order(self, task: Task) -> tuple[int, ...] | None:
        """Which output of the head stands for each class of the task, if not in turn."""
        names, asked = self._classes(task), [_plain(label) for label in task.labels]
        return None if names == asked else tuple(map(names.index, asked))


class InWords:
    """An encoder-decoder in T5's cast: what it generates greedily, or the likeliest of the texts that a task may be answered with."""

    def __init__(self, opened: Opened, asked: Asked):
        self.opened, self.asked = opened, asked
        self.where = (asked.data_dir, asked.vocabulary, asked.length or LENGTH, asked.target_length or TARGET_LENGTH)
        self.texts = Texts(vocabularies.load(asked.vocabulary), opened.blueprint.model)
        ids = {"end_id": self.texts.end_id, "pad_id": self.texts.pad_id}
        self.generator = Generator(opened.blueprint, length=self.where[-1], batch_size=asked.batch_size, **ids)
        self.scorer = Scorer(opened.blueprint, pad_id=self.texts.pad_id, batch_size=asked.batch_size)

    def missing(self, tasks: Iterable[Task]) -> dict[str, str]:
        return {task.name: "no text-to-text form" for task in tasks if in_words.cast_of(task) is None}

    def refusal(self, missing: Mapping[str, str]) -> UserError:
        return UserError(f"{', '.join(missing)} has no text-to-text form; these have one: {', '.join(text_to_text.SETS)}")

    def rows(self, task: Task) -> Rows:
        return in_words.rows_of(task, *self.where)

    def read(self, task: Task, split: str) -> Split:
        return in_words.read(task, *self.where, split)

    def answer(self, task: Task, split: TextSplit) -> Predictions:
        how = answering(task, self.texts.vocabulary)
        choices = [how.choices(example) for example in split.asked]
        if self.asked.rank and any(choices):
            return self._ranked(task, split, choices)
        answers = self.generator(self.opened.params, split.inputs())
        return in_words.predictions(task, split, [self.texts.text(answer.ids) for answer in answers])

    def _ranked(self, task: Task, split: TextSplit, choices: Sequence[Sequence[str]]) -> Predictions:
        """A row without any choice, as a query of ReCoRD without entities, is answered by nothing."""
        ids = {text: found for texts in choices for text, found in zip(texts, self.texts.targets(list(texts)), strict=True)}
        asked = [row for row, texts in enumerate(choices) if texts]
        inputs = split.inputs()
        scored = self.scorer(self.opened.params, [inputs[row] for row in asked], [[ids[text] for text in choices[row]] for row in asked])
        said = [""] * len(choices)
        for row, found in zip(asked, scored, strict=True):
            said[row] = choices[row][int(found.total.argmax())]
        classes = all(tuple(texts) == tuple(task.labels) for texts in choices)
        return in_words.predictions(task, split, said, _softmax(np.stack([found.total for found in scored])) if classes else None)


def _plain(label: str) -> str:
    """CONTRADICTION and contradiction are one class."""
    return label.lower().replace("-", "_")


def _softmax(logits: Float[np.ndarray, "N classes"]) -> Float[np.ndarray, "N classes"]:
    shares = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)
