"""Masked language modelling with sentence-order prediction (ALBERT: Lan et al. 2019, arXiv 1909.11942).

    loss = sum_masked CE(token) / #masked  +  scale * sum_pairs CE(is_swapped) / #pairs

Two consecutive stretches of one document stand in their order (class 0) or swapped (class 1), by `data.sentence_pairs.SentenceOrderTask`;
the head reads the pooler, as next-sentence prediction did.
"""

import dataclasses

import optax
from jaxtyping import Array, Float

from rootstock.engine.sockets import Batch, Context, Loss
from rootstock.pretrain.objectives.likelihood import accuracy
from rootstock.pretrain.objectives.mlm import MaskedLM, Model, hidden_states, pair_logits, term


@dataclasses.dataclass
class SentenceOrder:
    """Over the batches of `mlm`, with `is_swapped` [B]."""

    mlm: MaskedLM
    scale: float = 1.0

    def __post_init__(self):
        self.vocabulary = self.mlm.vocabulary
        self.scales = {**self.mlm.scales, "sop": optax.constant_schedule(self.scale)}

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        return self.mlm.prepare(batch, ctx)

    def weights(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        return {**self.mlm.weights(batch), "sop": batch["weight"].sum()}

    def __call__(self, model: Model, batch: Batch, ctx: Context) -> Loss:
        hidden = hidden_states(model, batch, ctx)
        loss = self.mlm.over(model, hidden, batch, ctx)
        logits = pair_logits(model, hidden, "SentenceOrder asks for the order of two sentences")
        terms = {**loss.terms, "sop": term(logits, batch["is_swapped"], batch["weight"])}
        return loss.replace(terms=terms, metrics={**loss.metrics, "sop_accuracy": accuracy(logits, batch["is_swapped"], batch["weight"])})
