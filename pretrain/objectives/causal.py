"""Causal language modelling: the likelihood of every token given those before it in its own segment (Radford et al. 2018).

loss = mean over tokens that have a successor of  -log p(x_{t+1} | x_<=t)  +  z_loss * log(Z_t)^2

Where the batch says which tokens are targets (`is_target`), the mean is over those alone: a prefix, or corrupted text, is then only read.
"""

import dataclasses

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rootstock.engine.sockets import Batch, Context, Loss
from rootstock.models.decoder import Decoder
from rootstock.pretrain.objectives.likelihood import Vocabulary, check_vocabulary, token_terms


@dataclasses.dataclass
class CausalLM:
    """Over batches with `input_ids`, `segment_ids`, `positions` [B, L]; no loss crosses from one segment to the next. With a
    `vocabulary`, a model that is too small for it is refused.
    """

    z_loss: float = 0.0
    vocabulary: Vocabulary | None = None

    def __post_init__(self):
        self.scales = {"lm": optax.constant_schedule(1.0)}

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        return batch

    def weights(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        return {"lm": _weights(batch).sum()}

    def __call__(self, model: Decoder, batch: Batch, ctx: Context) -> Loss:
        places = {name: batch[name] for name in ("segment_ids", "positions")}
        logits = model(batch["input_ids"], key=ctx.dropout, **places).logits[:, :-1]
        check_vocabulary(self.vocabulary, logits.shape[-1])
        term, metrics = token_terms(logits, batch["input_ids"][:, 1:], _weights(batch), self.z_loss)
        return Loss({"lm": term}, metrics, ctx.carried)


def _weights(batch: Batch) -> Float[Array, "B T"]:
    segments = batch["segment_ids"]
    inside = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
    if "is_target" in batch:
        inside &= batch["is_target"][:, 1:] > 0
    return jnp.where(inside, batch["weight"][:, None], 0.0)
