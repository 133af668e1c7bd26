"""ModernBERT (Warner et al. 2024, arXiv 2412.13663): a pre-LN encoder with rotary positions, GeGLU, no biases, and mostly local attention.

Layer i attends globally when i is a multiple of `global_every`, otherwise to at most `window` positions on either side; the two kinds
rotate by different bases. The first layer has no norm before its attention, since the embeddings end with one. Outputs equal those of
`ModernBertModel` and `ModernBertForMaskedLM` of transformers.
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
from rootstock.models.layers.mlp import GatedMLP, at_layer, unlike
from rootstock.models.layers.norm import LayerNorm
from rootstock.models.layers.parameters import parameter
from rootstock.models.layers.positions import Rotary
from rootstock.models.layers.tap import tap
from rootstock.models.outputs import Output


def first_token(hidden: Float[Array, "B L width"], segment_ids: Int[Array, "B L"] | None) -> Float[Array, "B width"]:
    return hidden[:, 0]


def mean_of_tokens(hidden: Float[Array, "B L width"], segment_ids: Int[Array, "B L"] | None) -> Float[Array, "B width"]:
    """Of those that are no padding."""
    real = jnp.ones(hidden.shape[:2], hidden.dtype) if segment_ids is None else (segment_ids > 0).astype(hidden.dtype)
    return jnp.einsum("bl,bld->bd", real, hidden) / jnp.maximum(real.sum(1, keepdims=True), 1)


@dataclasses.dataclass(frozen=True)
class Config:
    """ModernBERT-base by default. `window` counts positions on one side, so 64 is what the paper calls 128. `dtype`: compute type.

    `pooler`: the prediction head, which stands before the masked-LM scores and before every other head; `pooling` says over what a
    sentence-level head has it (`first_token`, `mean_of_tokens`).
    """

    vocab_size: int = 50368
    width: int = 768
    layers: int = 22
    heads: int = 12
    mlp_width: int = 1152
    max_length: int = 8192
    global_every: int = 3
    window: int = 64
    global_theta: float = 160_000.0
    local_theta: float = 10_000.0
    dropout: float = 0.0
    attention_dropout: float = 0.0
    norm_eps: float = 1e-5
    init_std: float = 0.02
    pooler: bool = True
    pooler_activation: Callable = activations.gelu
    pooling: Callable = first_token
    activation: Callable = activations.gelu
    attention: Callable = Attention
    mlp: Callable = GatedMLP
    dtype: str = "float32"
    scan: bool = True
    remat: Callable | None = None


class Layer(nnx.Module):
    """One pre-LN block, global or local by its number."""

    def __init__(self, config: Config, key: Key[Array, ""], index: int):
        key_attention, key_mlp = jax.random.split(key)
        shared = dict(init=truncated_normal(config.init_std), bias=False, dtype=config.dtype)
        everywhere = index % config.global_every == 0
        self.attention_norm = _norm(config) if index else None
        self.attention = config.attention(
            key_attention,
            config.width,
            config.heads,
            rate=config.attention_dropout,
            rotation=Rotary(config.global_theta if everywhere else config.local_theta),
            window=None if everywhere else config.window,
            **shared,
        )
        self.mlp_norm = _norm(config)
        self.mlp = config.mlp(key_mlp, config.width, config.mlp_width, activation=config.activation, rate=config.dropout, **shared)
        self.rate = config.attention_dropout

    def __call__(
        self,
        x: Float[Array, "B L width"],
        *,
        segment_ids: Int[Array, "B L"] | None = None,
        positions: Int[Array, "B L"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "B L width"]:
        keys = split(key, 3)
        normed = x if self.attention_norm is None else self.attention_norm(x)
        attended = self.attention(normed, segment_ids=segment_ids, positions=positions, key=keys[0])
        h = x + dropout(attended, self.rate, keys[1])
        y = h + self.mlp(self.mlp_norm(h), keys[2], segment_ids)
        return tap("hidden", constrain(y, "batch", "length", "activation"))


class Embeddings(nnx.Module):
    """Token vectors, normalised; positions come in the layers."""

    def __init__(self, config: Config, key: Key[Array, ""]):
        init = truncated_normal(config.init_std)
        self.token = Embedding(key, config.vocab_size, config.width, axis="vocab", init=init, dtype=config.dtype)
        self.norm = _norm(config)
        self.rate = config.dropout

    def __call__(self, input_ids: Int[Array, "B L"], key: Key[Array, ""] | None) -> Float[Array, "B L width"]:
        return tap("embeddings", dropout(self.norm(self.token(input_ids)), self.rate, key))


class Encoder(nnx.Module):
    """`ModernBertModel`, with the prediction head that all classes with a head share."""

    def __init__(self, config: Config, key: Key[Array, ""]):
        keys = jax.random.split(key, 3)
        self.config = config
        self.embeddings = Embeddings(config, keys[0])
        layers = config.layers
        runs = stack.layout(layers, prefix=1, period=config.global_every, scan=config.scan, unlike=unlike(config, layers))
        make = lambda key, index: Layer(at_layer(config, index, layers), key, index)
        self.layers = stack.Stack(keys[1], make, runs, config.remat)
        self.norm = _norm(config)
        self.pooler = PredictionHead(config, keys[2]) if config.pooler else None

    def __call__(
        self,
        input_ids: Int[Array, "B L"],
        *,
        token_type_ids: Int[Array, "B L"] | None = None,
        segment_ids: Int[Array, "B L"] | None = None,
        positions: Int[Array, "B L"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "B L width"]:
        """Hidden states; `token_type_ids` say nothing here. `segment_ids`: 0 is padding, equal numbers see each other (packed rows hold
        several); None: no padding at all. `key` turns dropout on.
        """
        if input_ids.shape[1] > self.config.max_length:
            raise ValueError(f"{input_ids.shape[1]} tokens are more than the {self.config.max_length} positions of this ModernBERT")
        key_embeddings, key_layers = split(key, 2)
        x = constrain(self.embeddings(input_ids, key_embeddings), "batch", "length", "activation")
        per_layer = {} if key is None else {"key": jax.random.split(key_layers, self.config.layers)}
        return self.norm(self.layers.run(x, {"segment_ids": segment_ids, "positions": positions}, per_layer))

    def pool(self, hidden: Float[Array, "B L width"], segment_ids: Int[Array, "B L"] | None = None) -> Float[Array, "B width"]:
        """The prediction head over the first token, or whatever `Config.pooling` says."""
        if self.pooler is None:
            raise ValueError("this ModernBERT has no pooler (models.modernbert.Config.pooler is False), and a sentence-level head wants it")
        return self.pooler(self.config.pooling(hidden, segment_ids))

    def read_tokens(self, hidden: Float[Array, "B L width"]) -> Float[Array, "B L width"]:
        """What a head over the tokens reads: the prediction head's, where there is one."""
        return hidden if self.pooler is None else self.pooler(hidden)


class PredictionHead(nnx.Module):
    """norm(activation(h W)), before the masked-LM scores as before a classifier."""

    def __init__(self, config: Config, key: Key[Array, ""]):
        init = truncated_normal(config.init_std)
        self.transform = Dense(key, config.width, config.width, axes=("embed", None), bias=False, init=init, dtype=config.dtype)
        self.activation = config.pooler_activation
        self.norm = _norm(config)

    def __call__(self, hidden: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        return self.norm(self.activation(self.transform(hidden)))


class MaskedLM(nnx.Module):
    """`ModernBertForMaskedLM`."""

    encoder_class = Encoder

    def __init__(self, config: Config, key: Key[Array, ""]):
        if not config.pooler:
            raise ValueError("masked-LM scores read the prediction head, and models.modernbert.Config.pooler is False")
        self.config = config
        self.encoder = Encoder(config, key)
        self.bias = parameter(jnp.zeros(config.vocab_size), ("vocab",))

    def __call__(self, input_ids: Int[Array, "B L"], **inputs) -> Output:
        """Masked-LM scores at every position. Arguments as the encoder's."""
        hidden = self.hidden(input_ids, **inputs)
        return Output(logits=self.masked_lm_logits(hidden), last_hidden_state=hidden)

    def hidden(self, input_ids: Int[Array, "B L"], **inputs) -> Float[Array, "B L width"]:
        """What the head reads. Arguments as the encoder's."""
        return self.encoder(input_ids, **inputs)

    def masked_lm_logits(self, hidden: Float[Array, "B S width"]) -> Float[Array, "B S vocab"]:
        """Scores in float32; give it only the positions that the loss needs."""
        scores = self.encoder.embeddings.token.attend(self.encoder.pooler(hidden))
        return constrain(scores + self.bias[...][None, None], "batch", "length", "vocab")


def _norm(config: Config) -> LayerNorm:
    return LayerNorm(config.width, eps=config.norm_eps, bias=False)
