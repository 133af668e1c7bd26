"""ALBERT (Lan et al. 2019, arXiv 1909.11942): BERT with narrow embeddings and one set of parameters for all layers of a group.

Embeddings of width E with their norm, one projection E to d, then the layers; the masked-LM head goes back to E and multiplies by the token
table. Sentence-order prediction takes the place of next-sentence prediction and reads the pooler as that did. Outputs equal those of
`AlbertForPreTraining` of transformers.
"""

import dataclasses
from collections.abc import Callable

from jaxtyping import Array, Key

from rootstock.models import bert
from rootstock.models.layers import activations, stack
from rootstock.models.layers.mlp import at_layer, unlike


@dataclasses.dataclass(frozen=True)
class Config(bert.Config):
    """ALBERT-base v2 by default: no dropout. `groups` share out the layers, layers / groups in a row to each."""

    vocab_size: int = 30000
    embedding_width: int = 128
    groups: int = 1
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation: Callable = activations.gelu_tanh


class Encoder(bert.Encoder):
    """`AlbertModel`."""

    @staticmethod
    def stacked(config: Config, key: Key[Array, ""]) -> stack.Stack:
        make = lambda key, group: bert.Layer(at_layer(config, group * (config.layers // config.groups), config.layers), key)
        _check_experts(config)
        return stack.Shared(key, make, config.groups, config.layers, config.remat)


def _check_experts(config: Config) -> None:
    """Layers that share their parameters all have experts, or none has."""
    sparse, times = unlike(config, config.layers), config.layers // config.groups
    if not sparse:
        return
    for first in range(0, config.layers, times):
        alike = [layer in sparse for layer in range(first, first + times)]
        if any(alike) and not all(alike):
            raise ValueError(
                f"layers {first} to {first + times - 1} share their parameters (models.albert.Config.groups = {config.groups}), so they "
                f"cannot differ, and Mixture.layers gives experts to {[first + i for i in range(times) if alike[i]]} of them only; "
                "placement.Every(1) gives them to all"
            )


class MaskedLM(bert.MaskedLM):
    """`AlbertForMaskedLM`."""

    encoder_class = Encoder


class PreTraining(bert.PreTraining):
    """`AlbertForPreTraining`: class 0 of the sentence-order head is the right order, class 1 the swapped one."""

    encoder_class = Encoder
