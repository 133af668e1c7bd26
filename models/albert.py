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
        return stack.Shared(key, lambda key, _: bert.Layer(config, key), config.groups, config.layers, config.remat)


class MaskedLM(bert.MaskedLM):
    """`AlbertForMaskedLM`."""

    encoder_class = Encoder


class PreTraining(bert.PreTraining):
    """`AlbertForPreTraining`: class 0 of the sentence-order head is the right order, class 1 the swapped one."""

    encoder_class = Encoder
