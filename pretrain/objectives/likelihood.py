"""Mean negative log-likelihood of target tokens, with T5's z-loss as an option, for the text-to-text and the causal objective; and how
often a prediction is right, for all objectives.
"""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rootstock.engine.sockets import Term


@runtime_checkable
class Vocabulary(Protocol):
    """What the objectives want to know of the vocabulary; `rootstock.data.vocabularies.load` gives one."""

    size: int


def check_vocabulary(vocabulary: Vocabulary | None, vocab_size: int) -> None:
    """Refuses a model that has no vector for some of the ids."""
    if vocabulary is not None and vocabulary.size > vocab_size:
        raise ValueError(
            f"the vocabulary has {vocabulary.size} ids, sentinels included, the model's vocab_size is {vocab_size}; "
            "make it at least as large"
        )


def token_terms(
    logits: Float[Array, "B T vocab"], labels: Int[Array, "B T"], weights: Float[Array, "B T"], z_loss: float
) -> tuple[Term, dict[str, Term]]:
    """The loss, -log p(label) + z_loss * log(Z)^2 with Z the sum of exponentials (Mesh TensorFlow, T5X: 1e-4), and metrics."""
    log_z = jax.nn.logsumexp(logits, axis=-1)
    likelihood = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0] - log_z
    losses = z_loss * jnp.square(log_z) - likelihood
    total = weights.sum()
    metrics = {"token_accuracy": accuracy(logits, labels, weights)}
    metrics |= {"nll": Term(-(likelihood * weights).sum(), total)} if z_loss else {}
    return Term((losses * weights).sum(), total), metrics


def accuracy(logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"], weights: Float[Array, "*batch"]) -> Term:
    """How often no class is better than the right one (on a CPU the maximum costs a tenth of its place)."""
    right = jnp.take_along_axis(logits, labels[..., None], -1)[..., 0] >= logits.max(-1)
    return Term(jnp.where(right, weights, 0.0).sum(), weights.sum())
