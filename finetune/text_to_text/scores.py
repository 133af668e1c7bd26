"""Evaluation in words as a Probe: a text for every row, generated under the training mesh; what the texts say is scored on the host."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rootstock.engine.sockets import Batch
from rootstock.finetune.predictions import Predictions
from rootstock.finetune.tasks import Task
from rootstock.finetune.text_to_text.rows import PLACE, TextSplit, predictions
from rootstock.finetune.texts import decoded
from rootstock.models.decoding.protocol import Generative, Search
from rootstock.models.decoding.stepwise import Stepwise

GREEDY = Stepwise()


@dataclasses.dataclass
class Generated:
    """Predictions for a split, whose rows are read as `TextSplit.longest_first` has them."""

    task: Task
    split: TextSplit
    search: Search = GREEDY

    def zero(self) -> Any:
        return jnp.zeros((len(self.split), *self.split.fields["target_ids"].shape), jnp.int32)

    def add(self, model: Generative, batch: Batch, statistic: Any) -> Any:
        vocabulary = self.split.rows.load_vocabulary()
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), batch[PLACE])
        how = {"length": statistic.shape[1], "end_id": vocabulary.eos_id, "pad_id": vocabulary.pad_id}
        found = self.search(model, batch["input_ids"], batch["segment_ids"], keys, **how)
        places = jnp.where(batch["weight"] > 0, batch[PLACE], len(self.split))  # padding lies beyond the end and falls away
        return statistic.at[places].set(found.ids, mode="drop")

    def finish(self, statistic: Any) -> Predictions:
        vocabulary = self.split.rows.load_vocabulary()
        rows = [_before(ids, vocabulary.eos_id) for ids in np.asarray(statistic).tolist()]
        return predictions(self.task, self.split, [decoded(vocabulary, ids) for ids in rows])


class Scores(Generated):
    """The metrics of the task, and the share of texts that are no answer: {name: value}."""

    def finish(self, statistic: Any) -> dict[str, float]:
        found = super().finish(statistic)
        return self.task.score(found) | {"unread": found.unread.total() / len(found)}


def _before(ids: list[int], end_id: int) -> list[int]:
    return ids[: ids.index(end_id)] if end_id in ids else ids
