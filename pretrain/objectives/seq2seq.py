"""Text to text: the likelihood of targets given inputs (T5: Raffel et al. 2019, arXiv 1910.10683). What the pairs are, the data decides.

loss = mean over target tokens of  -log p(target_t | inputs, target_<t)  +  z_loss * log(Z_t)^2
"""

import dataclasses

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rootstock.engine.sockets import Batch, Context, Loss
from rootstock.models import t5
from rootstock.pretrain.objectives.likelihood import Vocabulary, check_vocabulary, token_terms


@dataclasses.dataclass
class Seq2Seq:
    """Over batches with `input_ids`, `segment_ids` [B, L], `target_ids`, `target_segment_ids` [B, T]; rows may be packed. With a
    `vocabulary`, a model that is too small for it is refused.
    """

    z_loss: float = 0.0
    vocabulary: Vocabulary | None = None

    def __post_init__(self):
        self.scales = {"seq2seq": optax.constant_schedule(1.0)}

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        return batch

    def weights(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        return {"seq2seq": _weights(batch).sum()}

    def __call__(self, model: t5.T5, batch: Batch, ctx: Context) -> Loss:
        before = t5.shift_right(batch["target_ids"], model.config.start_id, batch["target_segment_ids"])
        segments = {"segment_ids": batch["segment_ids"], "decoder_segment_ids": batch["target_segment_ids"]}
        logits = model(batch["input_ids"], before, key=ctx.dropout, **segments).logits
        check_vocabulary(self.vocabulary, logits.shape[-1])
        term, metrics = token_terms(logits, batch["target_ids"], _weights(batch), self.z_loss)
        return Loss({"seq2seq": term}, metrics, ctx.carried)


def _weights(batch: Batch) -> Float[Array, "B T"]:
    return jnp.where(batch["target_segment_ids"] > 0, batch["weight"][:, None], 0.0)
