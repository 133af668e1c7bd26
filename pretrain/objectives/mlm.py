"""Masked language modelling, with next-sentence prediction as an optional second term (BERT: Devlin et al. 2018, arXiv 1810.04805).

    loss = sum_masked CE(token) / #masked  +  nsp_scale * sum_pairs CE(is_random_next) / #pairs

Masks are drawn anew at every step, on the device; only the masked positions reach the vocabulary projection. Options: `rate`,
`choice` (single tokens, or `words.Words`), `corruption` (80/10/10, all [MASK], similar words, ...), `nsp_scale`, 0 by default: data of
sentence pairs is then not needed. BERT's own code draws masks once, when it writes the data.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from rootstock.engine.sockets import Batch, Context, Loss, Term
from rootstock.models import bert
from rootstock.pretrain.objectives import masking
from rootstock.pretrain.objectives.likelihood import accuracy


@runtime_checkable
class Model(Protocol):
    """What the objective asks of a model: hidden states, and scores of those positions that are predicted."""

    def hidden(self, input_ids: Int[Array, "B L"], **inputs) -> Float[Array, "B L width"]: ...

    def masked_lm_logits(self, hidden: Float[Array, "B S width"]) -> Float[Array, "B S vocab"]: ...


@dataclasses.dataclass
class MaskedLM:
    """Over batches with `input_ids`, `segment_ids`, `positions`, `token_type_ids` [B, L], and `is_random_next` [B] where `nsp_scale` is
    not 0.
    """

    vocabulary: masking.Vocabulary
    rate: float = 0.15
    choice: masking.Choice = masking.tokens
    corruption: masking.Corruption = masking.bert_corruption
    nsp_scale: float = 0.0

    def __post_init__(self):
        if not 0 < self.rate <= 1:
            raise ValueError(f"MaskedLM.rate is a share of the tokens in (0, 1], got {self.rate}")
        self.scales = {"mlm": optax.constant_schedule(1.0)}
        if self.nsp_scale:
            self.scales["nsp"] = optax.constant_schedule(self.nsp_scale)

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        how = dict(rate=self.rate, choice=self.choice, corruption=self.corruption)
        masked = masking.mask(ctx.key, batch, self.vocabulary, **how)
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

    def __call__(self, model: Model, batch: Batch, ctx: Context) -> Loss:
        return self.over(model, hidden_states(model, batch, ctx), batch, ctx)

    def over(self, model: Model, hidden: Float[Array, "B L width"], batch: Batch, ctx: Context) -> Loss:
        """The loss given the hidden states."""
        logits = model.masked_lm_logits(jnp.take_along_axis(hidden, batch["masked_positions"][:, :, None], axis=1))
        check_vocabulary(logits, self.vocabulary)
        terms = {"mlm": term(logits, batch["masked_labels"], batch["masked_weights"])}
        metrics = {"mlm_accuracy": accuracy(logits, batch["masked_labels"], batch["masked_weights"])}
        if self.nsp_scale:
            logits = pair_logits(model, hidden, f"MaskedLM.nsp_scale is {self.nsp_scale}")
            terms["nsp"] = term(logits, batch["is_random_next"], batch["weight"])
            metrics["nsp_accuracy"] = accuracy(logits, batch["is_random_next"], batch["weight"])
        return Loss(terms, metrics, ctx.carried)


def hidden_states(model: Model, batch: Batch, ctx: Context) -> Float[Array, "B L width"]:
    """Of a batch's rows."""
    return model.hidden(batch["input_ids"], **places(batch), key=ctx.dropout)


def places(batch: Batch) -> dict[str, Int[Array, "B L"]]:
    """What a model is told of the tokens of a batch beside their ids."""
    return {name: batch[name] for name in ("token_type_ids", "segment_ids", "positions")}


def check_vocabulary(logits: Float[Array, "B S vocab"], vocabulary: masking.Vocabulary) -> None:
    """Raises ValueError for a vocabulary that the model has no room for."""
    if logits.shape[-1] < vocabulary.size:
        raise ValueError(
            f"the vocabulary has {vocabulary.size} entries, the model's vocab_size is {logits.shape[-1]}; make it at least as large"
        )


def pair_logits(model: Model, hidden: Float[Array, "B L width"], asked: str) -> Float[Array, "B 2"]:
    """Of the sentence-level head; `asked` says who wants it."""
    if not isinstance(model, bert.PreTraining):
        raise ValueError(f"{asked}, and {type(model).__name__} has no head for next-sentence prediction; take bert.PreTraining")
    return model.next_sentence_logits(hidden)


def term(logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"], weights: Float[Array, "*batch"]) -> Term:
    """The sum of cross-entropies, and of weights."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return Term((losses * weights).sum(), weights.sum())
