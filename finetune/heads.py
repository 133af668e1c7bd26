"""What stands on the encoder for a task: from hidden states to logits, and from logits and labels to a loss for each row.

A head is described by a `Head` (kept in config.json) and built as one of the modules below. Dropout before the last projection, as in
BERT's `run_classifier.py`.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key, Shaped

from rootstock.data.fields import Field
from rootstock.engine.sockets import Batch
from rootstock.models.layers.dense import BERT_INIT, Dense
from rootstock.models.layers.dropout import dropout, split

INPUTS = ("input_ids", "token_type_ids", "segment_ids", "positions")


@dataclasses.dataclass(frozen=True)
class Head:
    """The class of a head, how many numbers it gives (classes; 1 for a regression), its dropout, and the names of the classes in order
    where they are known.
    """

    kind: type
    outputs: int
    dropout: float = 0.1
    labels: tuple[str, ...] = ()


class Answers(NamedTuple):
    """What a head says of some rows: classes or numbers, and the probability of each class where it gives one class a row."""

    values: Shaped[np.ndarray, "N ..."]
    probabilities: Float[np.ndarray, "N classes"] | None = None


def encode(encoder: nnx.Module, batch: Batch, key: Key[Array, ""] | None) -> Float[Array, "B L width"]:
    """Hidden states of a batch's rows."""
    return encoder(**{name: batch[name] for name in INPUTS if name in batch}, key=key)


def pool(encoder: nnx.Module, batch: Batch, key: Key[Array, ""] | None) -> Float[Array, "B width"]:
    """A vector for each of a batch's rows, as the encoder's family makes it."""
    return encoder.pool(encode(encoder, batch, key), batch.get("segment_ids"))


class _Projection(nnx.Module):
    """A dense layer of `outputs` over some width, in float32."""

    inputs = 1  # how many vectors of the encoder's width are read at once
    needs_pooler = True
    label_dtype = jnp.int32

    def __init__(self, head: Head, width: int, key: Key[Array, ""]):
        self.rate = head.dropout
        self.output = Dense(key, self.inputs * width, self.outputs_of(head), axes=("embed", None), init=BERT_INIT)

    @staticmethod
    def outputs_of(head: Head) -> int:
        return head.outputs

    def project(self, x: Array, key: Key[Array, ""] | None) -> Float[Array, "..."]:
        return self.output(dropout(x.astype(jnp.float32), self.rate, key))

    @staticmethod
    def weights(batch: Batch) -> Float[Array, "..."]:
        """1 for each row that has a label, 0 for padding rows and for rows without one."""
        return jnp.where(batch["label"] >= 0, batch["weight"], 0.0)

    @staticmethod
    def losses(logits: Array, batch: Batch) -> Float[Array, "..."]:
        """Cross-entropy of each row."""
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(batch["label"], 0))

    @staticmethod
    def kept(logits: Array) -> Array:
        """What evaluation brings to the host: the logits of a row, or the most probable class of a token."""
        return logits

    @staticmethod
    def kept_shape(head: Head, fields: Mapping[str, Field]) -> tuple[int, ...]:
        """The shape of that for one row."""
        return (head.outputs,)

    @staticmethod
    def answers(kept: Float[np.ndarray, "N ..."]) -> Answers:
        """What it says, on the host."""
        shares = np.exp(kept.astype(np.float64) - kept.max(-1, keepdims=True))
        return Answers(kept.argmax(-1), shares / shares.sum(-1, keepdims=True))


class Classification(_Projection):
    """A sequence or a pair: the pooled row, logits [B, classes]."""

    def __call__(self, encoder: nnx.Module, batch: Batch, key: Key[Array, ""] | None = None) -> Float[Array, "B classes"]:
        key_encoder, key_head = split(key, 2)
        return self.project(pool(encoder, batch, key_encoder), key_head)


class Regression(Classification):
    """One number for a sequence or a pair, squared error; logits [B, 1], labels float."""

    label_dtype = jnp.float32

    @staticmethod
    def weights(batch: Batch) -> Float[Array, "B"]:
        return jnp.where(jnp.isfinite(batch["label"]), batch["weight"], 0.0)

    @staticmethod
    def losses(logits: Float[Array, "B 1"], batch: Batch) -> Float[Array, "B"]:
        return jnp.square(logits[:, 0] - jnp.where(jnp.isfinite(batch["label"]), batch["label"], 0.0))

    @staticmethod
    def answers(kept: Float[np.ndarray, "N 1"]) -> Answers:
        return Answers(kept[:, 0])


class MultipleChoice(_Projection):
    """Inputs [B, choices, L]: one score for each choice, softmax over the choices; logits [B, choices]."""

    @staticmethod
    def outputs_of(head: Head) -> int:
        return 1

    def __call__(self, encoder: nnx.Module, batch: Batch, key: Key[Array, ""] | None = None) -> Float[Array, "B choices"]:
        key_encoder, key_head = split(key, 2)
        rows, choices = batch["input_ids"].shape[:2]
        flat = {name: batch[name].reshape(rows * choices, -1) for name in INPUTS if name in batch}
        return self.project(pool(encoder, flat, key_encoder), key_head).reshape(rows, choices)

    @staticmethod
    def kept_shape(head: Head, fields: Mapping[str, Field]) -> tuple[int, ...]:
        return fields["input_ids"].shape[:1]


class SpanClassification(_Projection):
    """A class for two spans of a row (WiC, WSC): the pooled row beside the mean hidden state of each; `spans` [B, 2, 2] are token ranges
    [start, end).
    """

    inputs = 3

    def __call__(self, encoder: nnx.Module, batch: Batch, key: Key[Array, ""] | None = None) -> Float[Array, "B classes"]:
        key_encoder, key_head = split(key, 2)
        hidden = encode(encoder, batch, key_encoder)
        place = jnp.arange(hidden.shape[1])[None, None]
        inside = ((place >= batch["spans"][:, :, :1]) & (place < batch["spans"][:, :, 1:])).astype(hidden.dtype)
        sums = jnp.einsum("bsl,bld->bsd", inside, hidden)
        means = sums / jnp.maximum(inside.sum(-1, keepdims=True), 1)
        pooled = encoder.pool(hidden, batch.get("segment_ids"))
        return self.project(jnp.concatenate([pooled, means[:, 0], means[:, 1]], -1), key_head)


class TokenClassification(_Projection):
    """A class for every token: logits [B, L, classes]; `label` [B, L] is -1 (or -100) where there is none."""

    needs_pooler = False

    def __call__(self, encoder: nnx.Module, batch: Batch, key: Key[Array, ""] | None = None) -> Float[Array, "B L classes"]:
        key_encoder, key_head = split(key, 2)
        return self.project(encoder.read_tokens(encode(encoder, batch, key_encoder)), key_head)

    @staticmethod
    def weights(batch: Batch) -> Float[Array, "B L"]:
        return jnp.where(batch["label"] >= 0, batch["weight"][:, None], 0.0)

    @staticmethod
    def kept(logits: Float[Array, "B L classes"]) -> Int[Array, "B L"]:
        return predictions(logits)

    @staticmethod
    def kept_shape(head: Head, fields: Mapping[str, Field]) -> tuple[int, ...]:
        return fields["label"].shape

    @staticmethod
    def answers(kept: Float[np.ndarray, "N ..."]) -> Answers:
        return Answers(kept.astype(np.int32))


class SpanExtraction(_Projection):
    """Where an answer begins and where its last token is: logits [B, L, 2], `label` [B, 2], -1 where there is no answer. The loss is the
    mean of both.
    """

    needs_pooler = False

    @staticmethod
    def outputs_of(head: Head) -> int:
        return 2

    def __call__(self, encoder: nnx.Module, batch: Batch, key: Key[Array, ""] | None = None) -> Float[Array, "B L 2"]:
        key_encoder, key_head = split(key, 2)
        logits = self.project(encoder.read_tokens(encode(encoder, batch, key_encoder)), key_head)
        return jnp.where((batch["segment_ids"] > 0)[..., None], logits, -1e9) if "segment_ids" in batch else logits

    @staticmethod
    def weights(batch: Batch) -> Float[Array, "B"]:
        return jnp.where((batch["label"] >= 0).all(-1), batch["weight"], 0.0)

    @staticmethod
    def losses(logits: Float[Array, "B L 2"], batch: Batch) -> Float[Array, "B"]:
        labels = jnp.maximum(batch["label"], 0)
        return optax.softmax_cross_entropy_with_integer_labels(jnp.swapaxes(logits, 1, 2), labels).mean(-1)

    @staticmethod
    def kept(logits: Float[Array, "B L 2"]) -> Int[Array, "B 2"]:
        return predictions(jnp.swapaxes(logits, 1, 2))

    kept_shape = TokenClassification.kept_shape
    answers = TokenClassification.answers


def build(head: Head, width: int, key: Key[Array, ""]) -> _Projection:
    """The module that a description stands for."""
    return head.kind(head, width, key)


def predictions(logits: Array) -> Int[Array, "..."]:
    """The most probable class."""
    return jax.lax.argmax(logits, logits.ndim - 1, jnp.int32)
