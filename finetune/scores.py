"""Evaluation of a head as a Probe: its outputs for every row, gathered under the training mesh, and metrics of them on the host.

Gathering every row, rather than adding up sums, serves every metric alike: those that look at groups of rows (the questions of MultiRC, the
queries of ReCoRD, the pairs of AX-g) or at ranks cannot be added up batch by batch.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from rootstock.engine.sockets import Batch
from rootstock.finetune.finetuned import Finetuned
from rootstock.finetune.predictions import Predictions
from rootstock.finetune.tasks import Split, Task


@dataclasses.dataclass
class Gathered:
    """Predictions for a split that is read in order, each row once: the batch at place i of it is written to place i, and the padding of
    the last batch lies beyond the end and falls away. `order` names the output that stands for each class of the task; None: in turn.
    """

    task: Task
    split: Split
    order: tuple[int, ...] | None = None

    def zero(self) -> dict[str, Any]:
        shape = self.task.head.kept_shape(self.task.describe_head(), self.split.fields)
        return {"next": jnp.zeros((), jnp.int32), "rows": jnp.zeros((len(self.split), *shape))}

    def add(self, model: Finetuned, batch: Batch, statistic: dict[str, Any]) -> dict[str, Any]:
        head = model.heads[self.task.head_name]
        kept = head.kept(head(model.encoder, batch)).astype(jnp.float32)
        places = statistic["next"] + jnp.arange(len(kept), dtype=jnp.int32)
        return {"next": statistic["next"] + len(kept), "rows": statistic["rows"].at[places].set(kept, mode="drop")}

    def finish(self, statistic: dict[str, Any]) -> Predictions:
        rows = np.asarray(statistic["rows"])
        return self.task.predictions(self.split, self.task.head.answers(rows if self.order is None else rows[..., self.order]))


class Scores(Gathered):
    """The metrics of the task: {name: value}."""

    def finish(self, statistic: dict[str, Any]) -> dict[str, float]:
        return self.task.score(super().finish(statistic))
