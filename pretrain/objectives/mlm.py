"""Masked language modelling, with next-sentence prediction as an optional second term (BERT: Devlin et al. 2018, arXiv 1810.04805).

    loss = sum_masked CE(token) / #masked  +  nsp_scale * sum_pairs CE(is_random_next) / #pairs

Masks are drawn anew at every step, on the device; only the masked positions reach the vocabulary projection. Options: `rate`,
`corruption` (80/10/10 or all [MASK]), `nsp_scale`, 0 by default: data of sentence pairs is then not needed. BERT's own code draws masks
once, when it writes the data.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from rootstock.engine.sockets import Batch, Context, Loss, Term
from rootstock.models import bert
from rootstock.pretrain.objectives import masking


@runtime_checkable
class Vocabulary(Protocol):
    """What the objective wants to know of the vocabulary; `rootstock.data.vocabularies.load` gives one."""

    size: int
    mask_id: int
    special_ids: tuple[int, ...]


@dataclasses.dataclass
class MaskedLM:
    """Over batches with `input_ids`, `segment_ids`, `positions`, `token_type_ids` [B, L], and `is_random_next` [B] where `nsp_scale` is
    not 0.
    """

    vocabulary: Vocabulary
    rate: float = 0.15
    corruption: masking.Corruption = masking.bert_corruption
    nsp_scale: float = 0.0

    def __post_init__(self):
        if not 0 < self.rate <= 1:
            raise ValueError(f"MaskedLM.rate is a share of the tokens in (0, 1], got {self.rate}")
        self.scales = {"mlm": optax.constant_schedule(1.0)}
        if self.nsp_scale:
            self.scales["nsp"] = optax.constant_schedule(self.nsp_scale)

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        masked = masking.mask(
            ctx.key,
            batch["input_ids"],
            batch["segment_ids"] > 0,
            rate=self.rate,
            corruption=self.corruption,
            mask_id=self.vocabulary.mask_id,
            vocab_size=self.vocabulary.size,
            special_ids=self.vocabulary.special_ids,
        )
        return {
            **batch,
            "input_ids": masked.input_ids,
            "masked_positions": masked.positions,
            "masked_labels": masked.labels,
            "masked_weights": masked.weights,
        }

    def weights(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        weights = {"mlm": batch["masked_weights"].sum()}
        return weights | {"nsp": batch["weight"].sum()} if self.nsp_scale else weights

    def __call__(self, model: bert.MaskedLM, batch: Batch, ctx: Context) -> Loss:
        hidden = model.hidden(
            batch["input_ids"],
            token_type_ids=batch["token_type_ids"],
            segment_ids=batch["segment_ids"],
            positions=batch["positions"],
            key=ctx.dropout,
        )
        at = jnp.take_along_axis(hidden, batch["masked_positions"][:, :, None], axis=1)
        logits = model.masked_lm_logits(at)
        if logits.shape[-1] < self.vocabulary.size:
            raise ValueError(
                f"the vocabulary has {self.vocabulary.size} entries, the model's vocab_size is {logits.shape[-1]}; "
                "make it at least as large"
            )
        terms = {"mlm": _term(logits, batch["masked_labels"], batch["masked_weights"])}
        metrics = {"mlm_accuracy": _accuracy(logits, batch["masked_labels"], batch["masked_weights"])}
        if self.nsp_scale:
            if not isinstance(model, bert.PreTraining):
                raise ValueError(
                    f"MaskedLM.nsp_scale is {self.nsp_scale}, and {type(model).__name__} has no head for next-sentence prediction; "
                    "take bert.PreTraining"
                )
            logits = model.next_sentence_logits(hidden)
            terms["nsp"] = _term(logits, batch["is_random_next"], batch["weight"])
            metrics["nsp_accuracy"] = _accuracy(logits, batch["is_random_next"], batch["weight"])
        return Loss(terms, metrics, ctx.carried)


def _term(logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"], weights: Float[Array, "*batch"]) -> Term:
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return Term((losses * weights).sum(), weights.sum())


def _accuracy(logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"], weights: Float[Array, "*batch"]) -> Term:
    return Term(jnp.where(logits.argmax(-1) == labels, weights, 0.0).sum(), weights.sum())
