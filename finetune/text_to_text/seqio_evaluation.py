"""Evaluation through seqio: our tasks as seqio.Tasks with metrics, and what seqio.Evaluator calls to run a checkpoint of ours.

    name = register(find("boolq"), data_dir, vocabulary)
    evaluator = seqio.Evaluator(name, seqio.EncDecFeatureConverter(pack=False))
    metrics, outputs = evaluator.evaluate(compute_metrics=True, predict_fn=predict_fn(generator, params), score_fn=score_fn(scorer, params))

The evaluator may be of any task or mixture with `inputs` and `targets`, T5's own too. Needs the extra `data`.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Int

from rootstock.data import seqio_scored
from rootstock.engine.sockets import Params
from rootstock.finetune.decoding import Generator, Scorer
from rootstock.finetune.predictions import Predictions, texts
from rootstock.finetune.tasks import Task
from rootstock.finetune.text_to_text.answers import answering
from rootstock.finetune.text_to_text.rows import TextSplit, rows_of

Indexed = list[tuple[int, Any]]  # seqio's: the number of an example, and what was found for it


def register(task: Task, data_dir: str, vocabulary: str, length: int = 512, target_length: int = 64) -> str:
    """Puts a task in T5's cast into seqio's registry, with its metrics; the name, NAME_scored."""
    rows = rows_of(task, data_dir, vocabulary, length, target_length)
    split_of = functools.cache(lambda split: TextSplit(rows, split))
    how, name = answering(task, rows.load_vocabulary()), f"{task.name}_scored"

    def pairs(split: str) -> Iterator[tuple[list[int], list[int]]]:
        return zip(split_of(split).inputs(), split_of(split).targets(), strict=True)

    def read(text: str, split: str, row: int) -> Any:
        return how.read(text, split_of(split).asked[row])

    def score(places: list[tuple[str, int]], said: list[Any]) -> dict[str, float]:
        split, found = split_of(places[0][0]), np.array([row for _, row in places])
        answers = texts(said) if split.labels.dtype == object else np.array(said)
        return task.score(Predictions(split.idx[found], task.golds(split)[found], answers, tuple(task.labels)))

    seqio_scored.register(name, rows.splits, pairs, rows.load_vocabulary(), read, score)
    return name


def predict_fn(generator: Generator, params: Params) -> Callable[..., Indexed]:
    """For `Evaluator.evaluate`: the ids that are generated for each example."""

    def predict(dataset: Any, model_feature_shapes: Any = None) -> Indexed:
        numbers, inputs, _ = _read(dataset)
        return [(number, answer.ids) for number, answer in zip(numbers, generator(params, inputs), strict=True)]

    return predict


def score_fn(scorer: Scorer, params: Params) -> Callable[..., Indexed]:
    """For `Evaluator.evaluate`: the log-likelihood of each example's targets."""

    def score(dataset: Any, model_feature_shapes: Any = None) -> Indexed:
        numbers, inputs, targets = _read(dataset)
        found = scorer(params, inputs, [[target] for target in targets])
        return [(number, float(scored.total[0])) for number, scored in zip(numbers, found, strict=True)]

    return score


def _read(dataset: Any) -> tuple[list[int], list[list[int]], list[list[int]]]:
    """The numbers of a converted dataset's examples, their inputs and their targets."""
    rows = [(int(number), features) for number, features in dataset.as_numpy_iterator()]
    sides = [[_unpadded(features[name]) for _, features in rows] for name in ("encoder_input_tokens", "decoder_target_tokens")]
    return [number for number, _ in rows], *sides


def _unpadded(ids: Int[np.ndarray, "L"]) -> list[int]:
    return np.trim_zeros(ids, "b").tolist()  # seqio pads with 0
