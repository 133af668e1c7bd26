"""Replaced-token detection (ELECTRA: Clark et al. 2020, arXiv 2003.10555).

    x_masked = x with holes at m positions;   x_corrupt = x with  x^_i ~ softmax(g_i(x_masked) / T)  there
    loss = mean over masked positions of -log p_g(x_i | x_masked)
         + 50 * mean over all tokens, [CLS] and [SEP] included, of BCE(D(x_corrupt)_i, x_corrupt_i differs from x_i)

The sample is the arg max of logits plus Gumbel noise and has no gradient; where it is the token that stood there, the label is "original".
Options: `rate` (0.25 for ELECTRA-large), `corruption` (85% [MASK] and 15% unchanged as in the released code, or `masking.all_mask`),
`scale`, `temperature`, `disallow_correct` (the true token is never sampled).

`Generation` and `Detection` are the two halves, for training with two optimizers, one after the other in every step
(`train.Run.then`, DeBERTa-v3: He et al. 2021, arXiv 2111.09543). Each draws its own masks, and the discriminator sees what the generator
makes after its update; the released code takes the samples of the forward pass before it.

Deviation: the released code of ELECTRA draws positions with replacement, so fewer than m; here all m are different.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from rootstock.engine.sockets import Batch, Context, Loss, Term
from rootstock.models.outputs import Output
from rootstock.pretrain.objectives import masking
from rootstock.pretrain.objectives.mlm import MaskedLM, Model, check_vocabulary, hidden_states, places

ORIGINAL = "original_ids"


@runtime_checkable
class Pair(Protocol):
    """A discriminator, whose call gives logits [B, L], and its generator."""

    generator: Model

    def __call__(self, input_ids: Int[Array, "B L"], **inputs) -> Output: ...


@dataclasses.dataclass
class Masking:
    """How both halves mask their batches."""

    vocabulary: masking.Vocabulary
    rate: float = 0.15
    choice: masking.Choice = masking.tokens
    corruption: masking.Corruption = masking.electra_corruption

    def mlm(self) -> MaskedLM:
        return MaskedLM(self.vocabulary, self.rate, self.choice, self.corruption)


@dataclasses.dataclass
class Generation:
    """The generator's masked LM."""

    masking: Masking

    def __post_init__(self):
        self.mlm, self.vocabulary = self.masking.mlm(), self.masking.vocabulary
        self.scales = self.mlm.scales

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        return {**self.mlm.prepare(batch, ctx), ORIGINAL: batch["input_ids"]}

    def weights(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        return self.mlm.weights(batch)

    def __call__(self, model: Pair, batch: Batch, ctx: Context) -> Loss:
        return self.mlm(model.generator, batch, ctx)


@dataclasses.dataclass
class Detection:
    """The discriminator's half; the generator only writes."""

    masking: Masking
    scale: float = 50.0
    temperature: float = 1.0
    disallow_correct: bool = False

    def __post_init__(self):
        self.generation, self.vocabulary = Generation(self.masking), self.masking.vocabulary
        self.scales = {"rtd": optax.constant_schedule(self.scale)}

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        return self.generation.prepare(batch, ctx)

    def weights(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        return {"rtd": (batch["segment_ids"] > 0).sum().astype(jnp.float32)}

    def __call__(self, model: Pair, batch: Batch, ctx: Context) -> Loss:
        hidden = hidden_states(model.generator, batch, ctx.replace(dropout=_other(ctx.dropout)))
        return self.over(model, self.generator_logits(model, hidden, batch), batch, ctx)

    def generator_logits(self, model: Pair, hidden: Float[Array, "B L width"], batch: Batch) -> Float[Array, "B S vocab"]:
        logits = model.generator.masked_lm_logits(jnp.take_along_axis(hidden, batch["masked_positions"][:, :, None], axis=1))
        check_vocabulary(logits, self.masking.vocabulary)
        return logits

    def over(self, model: Pair, logits: Float[Array, "B S vocab"], batch: Batch, ctx: Context) -> Loss:
        """The loss given the generator's logits."""
        corrupt, replaced = self.corrupt(jax.random.fold_in(ctx.key, 1), logits, batch)
        found = model(corrupt, **places(batch), key=ctx.dropout).logits
        real = (batch["segment_ids"] > 0).astype(jnp.float32)
        losses = optax.sigmoid_binary_cross_entropy(found, replaced)
        right = jnp.where((found > 0) == (replaced > 0), real, 0.0)
        count = lambda mask: Term((right * mask).sum(), (real * mask).sum())
        metrics = {"rtd_accuracy": count(1.0), "rtd_recall": count(replaced), "rtd_replaced": Term(replaced.sum(), real.sum())}
        return Loss({"rtd": Term((losses * real).sum(), real.sum())}, metrics, ctx.carried)

    def corrupt(
        self, key: Key[Array, ""], logits: Float[Array, "B S vocab"], batch: Batch
    ) -> tuple[Int[Array, "B L"], Float[Array, "B L"]]:
        """The original rows with the generator's tokens at the masked positions, and 1 where that made a difference."""
        labels, original = batch["masked_labels"], batch[ORIGINAL]
        sampled = sample(key, logits, labels if self.disallow_correct else None, self.temperature)
        filled = jnp.where(batch["masked_weights"] > 0, sampled.astype(labels.dtype), labels)
        corrupt = masking.put(original, batch["masked_positions"], filled)
        return corrupt, (corrupt != original).astype(jnp.float32)


@dataclasses.dataclass
class ReplacedTokens:
    """Both halves at once, with one optimizer: ELECTRA."""

    masking: Masking
    scale: float = 50.0
    temperature: float = 1.0
    disallow_correct: bool = False

    def __post_init__(self):
        self.detection = Detection(self.masking, self.scale, self.temperature, self.disallow_correct)
        self.generation, self.vocabulary = self.detection.generation, self.masking.vocabulary
        self.scales = {**self.generation.scales, **self.detection.scales}

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        return self.generation.prepare(batch, ctx)

    def weights(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        return {**self.generation.weights(batch), **self.detection.weights(batch)}

    def __call__(self, model: Pair, batch: Batch, ctx: Context) -> Loss:
        hidden = hidden_states(model.generator, batch, ctx.replace(dropout=_other(ctx.dropout)))
        masked = self.generation.mlm.over(model.generator, hidden, batch, ctx)
        detected = self.detection.over(model, self.detection.generator_logits(model, hidden, batch), batch, ctx)
        return Loss({**masked.terms, **detected.terms}, {**masked.metrics, **detected.metrics}, ctx.carried)


def sample(
    key: Key[Array, ""], logits: Float[Array, "B S vocab"], but: Int[Array, "B S"] | None = None, temperature: float = 1.0
) -> Int[Array, "B S"]:
    """Tokens from softmax(logits / temperature), never those of `but`; without gradient."""
    logits = jax.lax.stop_gradient(logits) / temperature
    if but is not None:
        logits = jnp.where(jax.nn.one_hot(but, logits.shape[-1], dtype=bool), -jnp.inf, logits)
    return jnp.argmax(logits + jax.random.gumbel(key, logits.shape, logits.dtype), axis=-1)


def _other(dropout: Key[Array, ""] | None) -> Key[Array, ""] | None:
    """The generator's dropout, where the discriminator has the context's own."""
    return None if dropout is None else jax.random.fold_in(dropout, 1)
