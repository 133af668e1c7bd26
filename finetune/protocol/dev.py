"""Validation rows during a run: scores, early stopping, and the best checkpoint with what it said."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from rootstock.data.streams import Ordered
from rootstock.engine import checkpoints, model_dir
from rootstock.engine.errors import UserError
from rootstock.engine.evaluate import Evaluation
from rootstock.engine.sockets import Batch, Probe
from rootstock.engine.state import TrainState
from rootstock.finetune.finetuned import Finetuned
from rootstock.finetune.metrics import confusion
from rootstock.finetune.outcome import Result
from rootstock.finetune.predictions import Predictions
from rootstock.finetune.protocol.lengths import at_its_length
from rootstock.finetune.scores import Gathered
from rootstock.finetune.tasks import find

BEST, FOUND = "best", "dev.json"
WORST = 20  # errors that are kept to be read
_SHOWN = 700  # characters of a text


class Predicted(Gathered):
    """`Gathered`, each batch at the length of its rows."""

    def add(self, model: Finetuned, batch: Batch, statistic: dict[str, Any]) -> dict[str, Any]:
        if self.split.fields["input_ids"].shape[-1:] == statistic["rows"].shape[1:]:  # an answer a token
            return super().add(model, batch, statistic)
        add = super().add
        return at_its_length(lambda short: add(model, short, statistic), batch)


@dataclasses.dataclass
class Dev:
    """A hook: scores the rows of each task in `data` every `every` steps and at the end, and keeps in MODEL_DIR/best the model with its
    scores and predictions. `probes` has one for each task whose answers are not a head's: it gives Predictions and knows its split.

    Without `patience` that is the model of the last step. With it, it is the model with the best headline (the mean over the trained
    tasks), and the run ends after `patience` evaluations that were no better. What was best is read from the folder, so a run that was
    killed keeps the model that it would have.
    """

    data: Mapping[str, Ordered]
    every: int = 1_000_000
    patience: int | None = None
    batch_size: int = 32
    probes: Mapping[str, Probe] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.every < 1:
            raise UserError(f"dev.Dev.every is {self.every}; expected a number of steps of at least 1")
        if self.batch_size < 1:
            raise UserError(f"dev.Dev.batch_size is {self.batch_size}; expected at least 1")
        if self.patience is not None and self.patience < 1:
            raise UserError(f"dev.Dev.patience is {self.patience}; expected at least 1 evaluation, or None for all steps")
        self._evaluations: dict[str, Evaluation] = {}

    def due(self, step: int, last: bool) -> bool:
        return last or (step > 0 and step % self.every == 0)

    def call(self, running: Any) -> None:
        with running.goodput.measure("evaluate"):
            results = {name: self._result(running, name) for name in self.data}
        for name, result in results.items():
            running.writer.write(running.step, "validation", result.scores, task=name)
        headline = float(np.mean([result.headline for name, result in results.items() if not find(name).answered_by]))
        seen = {name: result.headline for name, result in results.items()}
        told = (f"{name} {'has no labels' if found is None else f'{found:.4f}'}" for name, found in seen.items())
        running.say(f"step {running.step}: {', '.join(told)}")
        if self._keeps(running, headline):
            with running.goodput.measure("save"):
                _keep(running, headline, results)

    def _result(self, running: Any, name: str) -> Result:
        task, rows = find(name), self.data[name]
        if name not in self._evaluations:
            probe = self.probes.get(name) or Predicted(task, rows.source)
            self._evaluations[name] = Evaluation(running.blueprint, probe, rows, self.batch_size, running.run.view)
        return Result(task, self._evaluations[name].probe.split, self._evaluations[name](running.eval_params(), running.step))

    def _keeps(self, running: Any, headline: float) -> bool:
        """Whether this model is to be kept; ends the run where there has been nothing better for long."""
        if self.patience is None:
            return running.step == running.run.train_steps
        best = found(running.model_dir)
        since = 0 if best is None else -(-(running.step - best["step"]) // self.every)
        if since <= 0 or (headline > best["headline"] and since <= self.patience):  # a later best one is of a time before a kill
            return True
        if since >= self.patience:  # more than that where the run was killed at the step that should have been its last
            running.say(f"no better than step {best['step']} for {self.patience} evaluations: stopping")
            running.run.train_steps = running.step
        return False


def found(folder: pathlib.Path) -> dict[str, Any] | None:
    """What is known of the kept model of a run."""
    return told(folder / BEST)


def told(kept: pathlib.Path) -> dict[str, Any] | None:
    """What stands beside a kept model."""
    path = kept / FOUND
    return json.loads(path.read_text()) if path.is_file() else None


def _keep(running: Any, headline: float, results: Mapping[str, Result]) -> None:
    """Writes MODEL_DIR/best anew, whole or not at all: a checkpoint without training state, and what it said."""
    target, unfinished = running.model_dir / BEST, running.model_dir / f"{BEST}.unfinished"
    if jax.process_index() == 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
    step, zero = np.asarray(running.step, np.int32), np.zeros((), np.float32)
    saving = checkpoints.Checkpoints(unfinished, keep=1)
    try:
        saving.save(running.step, TrainState(running.eval_params(), {}, (), (), step, zero), {"examples": 0, "seed": running.run.seed})
    finally:
        saving.close()
    if jax.process_index() == 0:
        data = running.run.data
        vocabulary = model_dir.adopt_vocabulary(unfinished, data.vocabulary, data.vocabulary_checksum)
        model_dir.write_config(unfinished, running.blueprint.model, vocabulary)
        for result in results.values():
            result.write_predictions(unfinished)
        told = {name: describe(result) for name, result in results.items()}
        (unfinished / FOUND).write_text(json.dumps({"step": running.step, "headline": headline, "tasks": told}))
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)


def describe(result: Result) -> dict[str, Any]:
    """All that a report shows of one task."""
    predictions = result.predictions
    classes = bool(predictions.labels) and predictions.golds.ndim == 1 and bool(predictions.scored)
    return {
        "scores": result.scores,
        "headline": result.headline,
        "majority": result.majority,
        "rows": result.counts,
        "labels": list(predictions.labels) if classes else [],
        "confusion": confusion(predictions).astype(int).tolist() if classes else [],
        "worst": worst(result),
    }


def worst(result: Result, most: int = WORST) -> list[dict[str, Any]]:
    """The labelled rows with the greatest loss among those that were answered wrongly (of numbers: farthest off), with their texts."""
    predictions = result.predictions
    if predictions.golds.ndim != 1:
        return []
    losses = row_losses(predictions)
    order = [row for row in np.argsort(-losses, kind="stable")[:most].tolist() if losses[row] > 0]
    examples = dict(enumerate(result.split.examples())) if order else {}
    lines = {row: predictions.line(row) for row in order}
    return [
        {name: lines[row][name] for name in ("idx", "label", "prediction", "said") if name in lines[row]}
        | {"loss": float(losses[row]), "text": _text(examples.get(row, {}))}
        for row in order
    ]


def row_losses(predictions: Predictions) -> np.ndarray:
    """For each row: cross-entropy where the class is wrong, squared error of a number, 1 for a wrong text; 0 otherwise."""
    golds, answers = predictions.golds, predictions.answers
    if golds.dtype == object:
        return np.array([float(bool(gold) and answer not in gold) for gold, answer in zip(golds, answers, strict=True)])
    if np.issubdtype(golds.dtype, np.floating):
        return np.where(predictions.known, np.square(answers - np.where(predictions.known, golds, 0.0)), 0.0)
    wrong = predictions.known & (golds != answers)
    if predictions.probabilities is None:
        return wrong.astype(float)
    right = predictions.probabilities[np.arange(len(golds)), np.maximum(golds, 0)]
    return np.where(wrong, -np.log(np.maximum(right, 1e-30)), 0.0)


def _text(example: Mapping[str, Any]) -> dict[str, str]:
    """The texts of an example by name, the middle of long ones left out."""
    texts = {name: value for name, value in example.items() if isinstance(value, str)}
    half = _SHOWN // 2
    return {name: text if len(text) <= _SHOWN else f"{text[:half]} [...] {text[-half:]}" for name, text in texts.items()}
