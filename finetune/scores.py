"""Evaluation scores as Probes: sums on the device under the training mesh, metrics on the host."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rootstock.engine.sockets import Batch
from rootstock.finetune.finetuned import Finetuned
from rootstock.finetune.heads import predictions
from rootstock.finetune.metrics import Metric, accuracy, pearson


@dataclasses.dataclass
class ClassScores:
    """A confusion matrix over the rows (or tokens) of one task, and metrics of it. Counts are exact up to 2^24 rows."""

    task: str
    classes: int
    metrics: Sequence[Metric] = (accuracy,)

    def zero(self) -> Float[Array, "classes classes"]:
        return jnp.zeros((self.classes, self.classes))

    def add(self, model: Finetuned, batch: Batch, statistic: Float[Array, "classes classes"]) -> Float[Array, "classes classes"]:
        head = model.heads[self.task]
        weights = head.weights(batch).ravel()
        guesses = predictions(head(model.encoder, batch)).ravel()
        return statistic.at[jnp.maximum(batch["label"], 0).ravel(), guesses].add(weights)

    def finish(self, statistic: Float[np.ndarray, "classes classes"]) -> dict[str, float]:
        confusion = np.asarray(statistic, np.float64)
        return {metric.__name__: metric(confusion) for metric in self.metrics}


@dataclasses.dataclass
class RegressionScores:
    """Pearson's correlation and the mean squared error of a regression head."""

    task: str

    def zero(self) -> Float[Array, "7"]:
        return jnp.zeros(7)

    def add(self, model: Finetuned, batch: Batch, statistic: Float[Array, "7"]) -> Float[Array, "7"]:
        head = model.heads[self.task]
        w = head.weights(batch)
        x, y = head(model.encoder, batch)[:, 0], jnp.where(w > 0, batch["label"], 0.0)
        sums = [w, w * x, w * y, w * x * x, w * y * y, w * x * y, w * (x - y) ** 2]
        return statistic + jnp.stack([s.sum() for s in sums])

    def finish(self, statistic: Float[np.ndarray, "7"]) -> dict[str, float]:
        return {"pearson": pearson(statistic[:6]), "mse": float(statistic[6] / max(statistic[0], 1.0))}


@dataclasses.dataclass
class SpanScores:
    """Exact match of start and end of a span-extraction head, over the rows that have an answer."""

    task: str

    def zero(self) -> Float[Array, "2"]:
        return jnp.zeros(2)

    def add(self, model: Finetuned, batch: Batch, statistic: Float[Array, "2"]) -> Float[Array, "2"]:
        head = model.heads[self.task]
        weights = head.weights(batch)
        guesses = predictions(jnp.swapaxes(head(model.encoder, batch), 1, 2))
        right = jnp.where((guesses == batch["label"]).all(-1), weights, 0.0)
        return statistic + jnp.stack([right.sum(), weights.sum()])

    def finish(self, statistic: Float[np.ndarray, "2"]) -> dict[str, float]:
        return {"exact_match": float(statistic[0] / max(statistic[1], 1.0))}
