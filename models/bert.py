"""BERT (Devlin et al. 2018, arXiv 1810.04805): a bidirectional Transformer encoder, post-LN, with masked-LM and next-sentence heads.

    x = LN(token + position + segment);   h = LN(x + attention(x));   y = LN(h + W2 gelu(W1 h))

Parameter counts and outputs equal those of `BertModel`, `BertForMaskedLM` and `BertForPreTraining` of transformers. The released code's
gelu is the tanh approximation; Hugging Face's "gelu" is the exact one, which is the default here.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from rootstock.models.layers import activations, products, stack
from rootstock.models.layers.attention import Attention
from rootstock.models.layers.axes import constrain
from rootstock.models.layers.dense import Dense, truncated_normal
from rootstock.models.layers.dropout import dropout, split
from rootstock.models.layers.embed import Embedding
from rootstock.models.layers.mlp import MLP, at_layer, unlike
from rootstock.models.layers.norm import LayerNorm
from rootstock.models.layers.parameters import Initializer, parameter
from rootstock.models.layers.tap import tap
from rootstock.models.outputs import Output


@runtime_checkable
class Head(Protocol):
    """What the heads want to know of a configuration; DeBERTa's has it too."""

    vocab_size: int
    width: int
    embedding_width: int | None
    activation: Callable
    norm_eps: float
    init_std: float
    dtype: str


@dataclasses.dataclass(frozen=True)
class Config:
    """BERT-base by default.

    `embedding_width`: of the embeddings, where they are narrower and projected to `width` (ELECTRA, ALBERT). `position_offset`: entries of
    the position table before the first position (RoBERTa). `position_init`: of the position table, where not drawn as the rest
    (`embed.Sinusoids`). `token_types` may be 0. `pooler` is off in encoders that were trained without sentence-level heads. `dtype` is the
    compute type; parameters are float32. `remat`: see `stack.Stack`.
    """

    vocab_size: int = 30522
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    max_length: int = 512
    token_types: int = 2
    dropout: float = 0.1
    attention_dropout: float = 0.1
    norm_eps: float = 1e-12
    init_std: float = 0.02
    position_init: Initializer | None = None
    position_offset: int = 0
    embedding_width: int | None = None
    pooler: bool = True
    activation: Callable = activations.gelu
    attention: Callable = Attention
    mlp: Callable = MLP
    dtype: str = "float32"
    scan: bool = True
    remat: Callable | None = None


class Embeddings(nnx.Module):
    """Token, position and segment vectors, summed and normalised."""

    def __init__(self, config: Config, key: Key[Array, ""]):
        keys = jax.random.split(key, 3)
        width = config.embedding_width or config.width
        how = dict(init=truncated_normal(config.init_std), dtype=config.dtype)
        self.token = Embedding(keys[0], config.vocab_size, width, axis="vocab", **how)
        self.position = Embedding(keys[1], config.max_length, width, **how | dict(init=config.position_init or how["init"]))
        self.token_type = Embedding(keys[2], config.token_types, width, **how) if config.token_types else None
        self.norm = LayerNorm(width, eps=config.norm_eps)
        self.offset, self.rate = config.position_offset, config.dropout

    def __call__(
        self,
        input_ids: Int[Array, "B L"],
        token_type_ids: Int[Array, "B L"] | None,
        positions: Int[Array, "B L"] | None,
        key: Key[Array, ""] | None,
    ) -> Float[Array, "B L width"]:
        if positions is None:
            positions = jnp.arange(input_ids.shape[1])[None]
        x = self.token(input_ids)
        if self.token_type is not None:
            x = x + self.token_type(jnp.zeros_like(input_ids) if token_type_ids is None else token_type_ids)
        x = x + self.position(positions + self.offset)
        return tap("embeddings", dropout(self.norm(x), self.rate, key))


class Layer(nnx.Module):
    """One post-LN block."""

    def __init__(self, config: Config, key: Key[Array, ""]):
        key_attention, key_mlp = jax.random.split(key)
        init = truncated_normal(config.init_std)
        self.attention = config.attention(
            key_attention, config.width, config.heads, rate=config.attention_dropout, init=init, dtype=config.dtype
        )
        self.attention_norm = LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = config.mlp(key_mlp, config.width, config.mlp_width, activation=config.activation, init=init, dtype=config.dtype)
        self.mlp_norm = LayerNorm(config.width, eps=config.norm_eps)
        self.rate = config.dropout

    def __call__(
        self, x: Float[Array, "B L width"], *, segment_ids: Int[Array, "B L"] | None = None, key: Key[Array, ""] | None = None
    ) -> Float[Array, "B L width"]:
        keys = split(key, 4)
        h = self.attention_norm(x + dropout(self.attention(x, segment_ids=segment_ids, key=keys[0]), self.rate, keys[1]))
        y = self.mlp_norm(h + dropout(self.mlp(h, keys[3], segment_ids), self.rate, keys[2]))
        return tap("hidden", constrain(y, "batch", "length", "activation"))


class Encoder(nnx.Module):
    """`BertModel`: embeddings, layers, and (`Config.pooler`) the pooler over [CLS] for sentence-level heads."""

    pooler_activation = staticmethod(activations.tanh)

    def __init__(self, config: Config, key: Key[Array, ""], embeddings: Embeddings | None = None):
        """`embeddings`: those of another encoder, to share them."""
        keys = jax.random.split(key, 3)
        self.config = config
        self.embeddings = Embeddings(config, keys[0]) if embeddings is None else embeddings
        self.project = None if config.embedding_width is None else dense(config, jax.random.fold_in(key, 3), config.embedding_width)
        self.layers = self.stacked(config, keys[1])
        self.pooler = dense(config, keys[2]) if config.pooler else None

    @staticmethod
    def stacked(config: Config, key: Key[Array, ""]) -> stack.Stack:
        """The layers; families that share them differ here."""
        runs = stack.layout(config.layers, scan=config.scan, unlike=unlike(config, config.layers))
        return stack.Stack(key, lambda key, index: Layer(at_layer(config, index, config.layers), key), runs, config.remat)

    def __call__(
        self,
        input_ids: Int[Array, "B L"],
        *,
        token_type_ids: Int[Array, "B L"] | None = None,
        segment_ids: Int[Array, "B L"] | None = None,
        positions: Int[Array, "B L"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "B L width"]:
        """Hidden states. `segment_ids`: 0 is padding, equal numbers see each other (packed rows hold several); None: no padding at all.

        `key` turns dropout on.
        """
        if input_ids.shape[1] > (places := self.config.max_length - self.config.position_offset):
            raise ValueError(f"{input_ids.shape[1]} tokens are more than the {places} positions of this BERT")
        key_embeddings, key_layers = split(key, 2)
        x = self.embeddings(input_ids, token_type_ids, positions, key_embeddings)
        x = constrain(x if self.project is None else self.project(x), "batch", "length", "activation")
        per_layer = {} if key is None else {"key": jax.random.split(key_layers, self.config.layers)}
        return self.layers.run(x, {"segment_ids": segment_ids}, per_layer)

    def pool(self, hidden: Float[Array, "B L width"], segment_ids: Int[Array, "B L"] | None = None) -> Float[Array, "B width"]:
        """tanh(W h_[CLS] + b), with the family's function in the place of tanh; who is padding does not matter here."""
        if self.pooler is None:
            raise ValueError("this BERT has no pooler (models.bert.Config.pooler is False), and a sentence-level head asks for it")
        return self.pooler_activation(self.pooler(hidden[:, 0]))

    def read_tokens(self, hidden: Float[Array, "B L width"]) -> Float[Array, "B L width"]:
        """What a head over the tokens reads."""
        return hidden


class MaskedLMHead(nnx.Module):
    """LN(gelu(h W + b)) times the token table, plus an output bias: the table is tied, so it is an argument."""

    def __init__(self, config: Head, key: Key[Array, ""]):
        width = config.embedding_width or config.width
        self.transform = dense(config, key, config.width, width)
        self.activation = nnx.data(activations.build(config.activation)) if isinstance(config.activation, type) else config.activation
        self.norm = LayerNorm(width, eps=config.norm_eps)
        self.bias = parameter(jnp.zeros(config.vocab_size), ("vocab",))

    def __call__(self, hidden: Float[Array, "B S width"], table: Embedding) -> Float[Array, "B S vocab"]:
        scores = table.attend(self.norm(self.activation(self.transform(hidden))))
        return constrain(products.plus(scores, self.bias[...]), "batch", "length", "vocab")


class MaskedLM(nnx.Module):
    """`BertForMaskedLM`: the encoder with its masked-LM head."""

    encoder_class = Encoder

    def __init__(self, config: Head, key: Key[Array, ""]):
        key_encoder, key_mlm, _ = jax.random.split(key, 3)
        self.config = config
        self.encoder = self.encoder_class(config, key_encoder)
        self.mlm = MaskedLMHead(config, key_mlm)

    def __call__(self, input_ids: Int[Array, "B L"], **inputs) -> Output:
        """Masked-LM scores at every position. Arguments as the encoder's."""
        hidden = self.hidden(input_ids, **inputs)
        return Output(logits=self.masked_lm_logits(hidden), last_hidden_state=hidden)

    def hidden(self, input_ids: Int[Array, "B L"], **inputs) -> Float[Array, "B L width"]:
        """What the head reads. Arguments as the encoder's."""
        return self.encoder(input_ids, **inputs)

    def masked_lm_logits(self, hidden: Float[Array, "B S width"]) -> Float[Array, "B S vocab"]:
        """Scores in float32; give it only the positions that the loss needs."""
        return self.mlm(hidden, self.encoder.embeddings.token)


class PreTraining(MaskedLM):
    """`BertForPreTraining`: a next-sentence head over the pooler beside the masked-LM head."""

    def __init__(self, config: Config, key: Key[Array, ""]):
        super().__init__(config, key)
        if not config.pooler:
            raise ValueError(
                "next-sentence prediction reads the pooler, and models.bert.Config.pooler is False; models.bert.MaskedLM has none"
            )
        key_nsp = jax.random.split(key, 3)[2]
        self.nsp = Dense(key_nsp, config.width, 2, axes=("embed", None), init=truncated_normal(config.init_std), dtype=config.dtype)

    def next_sentence_logits(self, hidden: Float[Array, "B L width"]) -> Float[Array, "B 2"]:
        """Class 0: the second sentence follows the first; class 1: it is random."""
        return self.nsp(self.encoder.pool(hidden)).astype(jnp.float32)


def dense(config: Head, key: Key[Array, ""], features_in: int | None = None, features_out: int | None = None) -> Dense:
    """A projection beside the layers, by default of the model's width to itself."""
    init = truncated_normal(config.init_std)
    into, out_of = features_in or config.width, features_out or config.width
    return Dense(key, into, out_of, axes=("embed", None), init=init, dtype=config.dtype)
