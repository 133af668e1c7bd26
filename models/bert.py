"""BERT (Devlin et al. 2018, arXiv 1810.04805): a bidirectional Transformer encoder, post-LN, with masked-LM and next-sentence heads.

    x = LN(token + position + segment);   h = LN(x + attention(x));   y = LN(h + W2 gelu(W1 h))

Parameter counts and outputs equal those of `BertModel`, `BertForMaskedLM` and `BertForPreTraining` of transformers. The released code's
gelu is the tanh approximation; Hugging Face's "gelu" is the exact one, which is the default here.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from rootstock.models.layers import activations, stack
from rootstock.models.layers.attention import Attention
from rootstock.models.layers.axes import constrain
from rootstock.models.layers.dense import Dense, truncated_normal
from rootstock.models.layers.dropout import dropout, split
from rootstock.models.layers.embed import Embedding
from rootstock.models.layers.mlp import MLP
from rootstock.models.layers.norm import LayerNorm
from rootstock.models.layers.parameters import Initializer, parameter
from rootstock.models.layers.tap import tap
from rootstock.models.outputs import Output


@dataclasses.dataclass(frozen=True)
class Config:
    """BERT-base by default. `pooler` is off in encoders that were trained without sentence-level heads. `position_init`: of the
    position table, where not drawn as the rest (`embed.Sinusoids`). `dtype` is the compute type; parameters are float32. `remat`: see
    `stack.Stack`.
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
        init = truncated_normal(config.init_std)
        self.token = Embedding(keys[0], config.vocab_size, config.width, axis="vocab", init=init, dtype=config.dtype)
        position_init = config.position_init or init
        self.position = Embedding(keys[1], config.max_length, config.width, init=position_init, dtype=config.dtype)
        self.token_type = Embedding(keys[2], config.token_types, config.width, init=init, dtype=config.dtype)
        self.norm = LayerNorm(config.width, eps=config.norm_eps)
        self.rate = config.dropout

    def __call__(
        self,
        input_ids: Int[Array, "B L"],
        token_type_ids: Int[Array, "B L"] | None,
        positions: Int[Array, "B L"] | None,
        key: Key[Array, ""] | None,
    ) -> Float[Array, "B L width"]:
        if positions is None:
            positions = jnp.arange(input_ids.shape[1])[None]
        if token_type_ids is None:
            token_type_ids = jnp.zeros_like(input_ids)
        x = self.token(input_ids) + self.token_type(token_type_ids) + self.position(positions)
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
        keys = split(key, 3)
        h = self.attention_norm(x + dropout(self.attention(x, segment_ids=segment_ids, key=keys[0]), self.rate, keys[1]))
        y = self.mlp_norm(h + dropout(self.mlp(h), self.rate, keys[2]))
        return tap("hidden", constrain(y, "batch", "length", "activation"))


class Encoder(nnx.Module):
    """`BertModel`: embeddings, layers, and (`Config.pooler`) the tanh pooler over [CLS] for sentence-level heads."""

    def __init__(self, config: Config, key: Key[Array, ""]):
        keys = jax.random.split(key, 3)
        self.config = config
        self.embeddings = Embeddings(config, keys[0])
        runs = stack.layout(config.layers, scan=config.scan)
        self.layers = stack.Stack(keys[1], lambda key, _: Layer(config, key), runs, config.remat)
        self.pooler = _square(config, keys[2]) if config.pooler else None

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
        if input_ids.shape[1] > self.config.max_length:
            raise ValueError(f"{input_ids.shape[1]} tokens are more than the {self.config.max_length} positions of this BERT")
        key_embeddings, key_layers = split(key, 2)
        x = constrain(self.embeddings(input_ids, token_type_ids, positions, key_embeddings), "batch", "length", "activation")
        per_layer = {} if key is None else {"key": jax.random.split(key_layers, self.config.layers)}
        return self.layers.run(x, {"segment_ids": segment_ids}, per_layer)

    def pool(self, hidden: Float[Array, "B L width"]) -> Float[Array, "B width"]:
        """tanh(W h_[CLS] + b)."""
        if self.pooler is None:
            raise ValueError("this BERT has no pooler (models.bert.Config.pooler is False), and a sentence-level head asks for it")
        return jnp.tanh(self.pooler(hidden[:, 0]))


class MaskedLMHead(nnx.Module):
    """LN(gelu(h W + b)) times the token table, plus an output bias: the table is tied, so it is an argument."""

    def __init__(self, config: Config, key: Key[Array, ""]):
        self.transform = _square(config, key)
        self.activation = nnx.data(activations.build(config.activation)) if isinstance(config.activation, type) else config.activation
        self.norm = LayerNorm(config.width, eps=config.norm_eps)
        self.bias = parameter(jnp.zeros(config.vocab_size), ("vocab",))

    def __call__(self, hidden: Float[Array, "B S width"], table: Embedding) -> Float[Array, "B S vocab"]:
        scores = table.attend(self.norm(self.activation(self.transform(hidden))))
        return constrain(scores + self.bias[...][None, None], "batch", "length", "vocab")


class MaskedLM(nnx.Module):
    """`BertForMaskedLM`: the encoder with its masked-LM head."""

    encoder_class = Encoder

    def __init__(self, config: Config, key: Key[Array, ""]):
        key_encoder, key_mlm, _ = jax.random.split(key, 3)
        self.config = config
        self.encoder = Encoder(config, key_encoder)
        self.mlm = MaskedLMHead(config, key_mlm)

    def __call__(self, input_ids: Int[Array, "B L"], **inputs) -> Output:
        """Masked-LM scores at every position. Arguments as the encoder's."""
        hidden = self.encoder(input_ids, **inputs)
        return Output(logits=self.masked_lm_logits(hidden), last_hidden_state=hidden)

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


def _square(config: Config, key: Key[Array, ""]) -> Dense:
    init = truncated_normal(config.init_std)
    return Dense(key, config.width, config.width, axes=("embed", None), init=init, dtype=config.dtype)
