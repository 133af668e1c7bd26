"""A pretrained encoder with one head a task: one model, trained on one task or on several at once; without heads, the encoder alone."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Key

from rootstock.engine.describe import rebuild
from rootstock.engine.errors import UserError
from rootstock.engine.model_dir import read_config
from rootstock.finetune import heads
from rootstock.models.outputs import Output


@dataclasses.dataclass(frozen=True)
class Encoder:
    """The class of an encoder and its configuration."""

    kind: type
    config: Any


def encoder_of(directory: str, **changes) -> Encoder:
    """The encoder of the checkpoint in `directory`, of a pair the discriminator's; `changes` replaces fields of its configuration
    (`dropout=0.1`).
    """
    config = read_config(directory)
    family = rebuild(config.family)
    found = rebuild(config.model)
    kind, inner = (found.encoder.kind, found.encoder.config) if family is Finetuned else (getattr(family, "encoder_class", None), found)
    if kind is None:
        raise UserError(f"{directory} holds a {config.family[1:]}, which has no encoder to fine-tune")
    inner = getattr(inner, "discriminator", inner)
    unknown = changes.keys() - {field.name for field in dataclasses.fields(inner)}
    if unknown:
        raise UserError(
            f"{type(inner).__name__} of {directory} has no {', '.join(sorted(unknown))}; "
            f"it has {[f.name for f in dataclasses.fields(inner)]}"
        )
    return Encoder(kind, dataclasses.replace(inner, **changes))


@dataclasses.dataclass(frozen=True)
class Config:
    """What a fine-tuned model is made of; `heads` by task name, none for an encoder alone."""

    encoder: Encoder
    heads: Mapping[str, heads.Head]


class Finetuned(nnx.Module):
    """Parameters are named `encoder/...` and `heads/{task}/...`."""

    def __init__(self, config: Config, key: Key[Array, ""]):
        key_encoder, *keys = jax.random.split(key, 1 + len(config.heads))
        _check_pooler(config)
        self.config = config
        self.encoder = config.encoder.kind(config.encoder.config, key_encoder)
        width = config.encoder.config.width
        self.heads = nnx.Dict({name: heads.build(head, width, k) for (name, head), k in zip(config.heads.items(), keys, strict=True)})

    def __call__(self, input_ids: Array, *, task: str | None = None, **inputs) -> Output:
        """Logits of one task's head (of the only one by default; None if there is none) and the encoder's hidden states."""
        if task is None and len(self.heads) > 1:
            raise UserError(f"this model has heads for {', '.join(self.heads)}: say which")
        if task is not None and task not in self.heads:
            raise UserError(
                f"this model has no head for {task}; it has heads for {', '.join(self.heads) or 'no task: it is an encoder alone'}"
            )
        batch = {"input_ids": input_ids, **inputs}
        flat = {name: x.reshape(-1, x.shape[-1]) for name, x in batch.items() if name in heads.INPUTS}
        logits = self.heads[task or next(iter(self.heads))](self.encoder, batch) if self.heads else None
        return Output(logits=logits, last_hidden_state=heads.encode(self.encoder, flat, None))


def _check_pooler(config: Config) -> None:
    asking = [name for name, head in config.heads.items() if head.kind.needs_pooler]
    if asking and not getattr(config.encoder.config, "pooler", True):
        raise UserError(
            f"the {config.heads[asking[0]].kind.__name__} head for {asking[0]} reads the pooler, and this encoder has none: it was trained "
            "without sentence-level heads. To begin with a random pooler, set finetuned.encoder_of.pooler = True and "
            "train.Run.skip = '^heads/|^encoder/pooler/'"
        )
