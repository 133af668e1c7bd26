"""The fine-tuning loss: a term a task, each the mean over that task's rows of the batch."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rootstock.engine.sockets import Batch, Context, Loss, Term
from rootstock.finetune.finetuned import Finetuned
from rootstock.finetune.heads import Head, predictions


@dataclasses.dataclass
class Multitask:
    """Over batches {task: {input_ids, ..., label, weight}}, as `data.streams.Mixed` makes them; one task is a mixture of one."""

    heads: Mapping[str, Head]

    def __post_init__(self):
        self.scales = dict.fromkeys(self.heads, optax.constant_schedule(1.0))

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        return batch

    def weights(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        return {task: self.heads[task].kind.weights(part).sum() for task, part in batch.items()}

    def __call__(self, model: Finetuned, batch: Batch, ctx: Context) -> Loss:
        terms, metrics = {}, {}
        for number, (task, part) in enumerate(sorted(batch.items())):
            head = model.heads[task]
            logits = head(model.encoder, part, None if ctx.dropout is None else jax.random.fold_in(ctx.dropout, number))
            weights = head.weights(part)
            terms[task] = Term((head.losses(logits, part) * weights).sum(), weights.sum())
            if logits.ndim == 2 and logits.shape[-1] > 1:
                right = jnp.where(predictions(logits) == part["label"], weights, 0.0)
                metrics[f"accuracy/{task}"] = Term(right.sum(), weights.sum())
        return Loss(terms, metrics, ctx.carried)
