"""DeBERTa (He et al. 2020, arXiv 2006.03654), v2 and v3 (He et al. 2021, arXiv 2111.09543): BERT with disentangled attention.

Absolute positions stay out of the input (`position_biased` off) and of the layers. v1 has projections of its own for positions; v2 and v3
share the content's, take logarithmic buckets and normalise the table of relative positions; the largest v2 add a convolution beside the
first layer. Outputs equal those of `DebertaModel` and `DebertaV2Model` of transformers, and of their masked-LM classes, which lack the
paper's enhanced mask decoder: `enhanced` adds it (the last layer is applied twice more over the layer below it, the queries starting from
absolute positions, as in the released code).
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from rootstock.models import bert
from rootstock.models.layers import activations, stack
from rootstock.models.layers.axes import constrain
from rootstock.models.layers.conv import Convolution
from rootstock.models.layers.dense import Dense, truncated_normal
from rootstock.models.layers.disentangled import DisentangledAttention
from rootstock.models.layers.dropout import dropout, split
from rootstock.models.layers.embed import Embedding
from rootstock.models.layers.mlp import MLP, at_layer, unlike
from rootstock.models.layers.norm import LayerNorm
from rootstock.models.layers.tap import tap
from rootstock.models.outputs import Output


@dataclasses.dataclass(frozen=True)
class Config:
    """DeBERTa-v3-base by default. `span`: half of the rows of the relative table, the number of buckets where `buckets` is set, otherwise
    `max_distance`. `conv_kernel` 0 is no convolution. `embedding_width`, `dtype`, `remat`: as in `bert.Config`.
    """

    vocab_size: int = 128100
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    max_length: int = 512
    token_types: int = 0
    embedding_width: int | None = None
    position_biased: bool = False
    max_distance: int = 512
    buckets: int = 256
    share_key: bool = True
    key_bias: bool = True
    position_key_bias: bool = True
    terms: tuple[str, ...] = ("c2p", "p2c")
    norm_table: bool = True
    conv_kernel: int = 0
    conv_activation: Callable = activations.gelu
    dropout: float = 0.1
    attention_dropout: float = 0.1
    norm_eps: float = 1e-7
    init_std: float = 0.02
    pooler: bool = False
    pooler_activation: Callable = activations.gelu
    activation: Callable = activations.gelu
    mlp: Callable = MLP
    dtype: str = "float32"
    scan: bool = True
    remat: Callable | None = None

    @property
    def span(self) -> int:
        return self.buckets or self.max_distance


def v1(**changes) -> Config:
    """DeBERTa-base of 2020 (byte-level BPE), with `changes`."""
    old = dict(vocab_size=50265, buckets=0, share_key=False, key_bias=False, position_key_bias=False, norm_table=False)
    return Config(**old | changes)


class Embeddings(nnx.Module):
    """Token vectors, with positions and segments where the configuration has them, projected, normalised, and zero at padding."""

    def __init__(self, config: Config, key: Key[Array, ""]):
        keys = jax.random.split(key, 4)
        width = config.embedding_width or config.width
        how = dict(init=truncated_normal(config.init_std), dtype=config.dtype)
        self.token = Embedding(keys[0], config.vocab_size, width, axis="vocab", **how)
        self.position = Embedding(keys[1], config.max_length, width, **how) if config.position_biased else None
        self.token_type = Embedding(keys[2], config.token_types, width, **how) if config.token_types else None
        narrow = config.embedding_width is not None
        self.project = Dense(keys[3], width, config.width, axes=("embed", None), bias=False, **how) if narrow else None
        self.norm = LayerNorm(config.width, eps=config.norm_eps)
        self.rate = config.dropout

    def __call__(
        self,
        input_ids: Int[Array, "B L"],
        token_type_ids: Int[Array, "B L"] | None,
        positions: Int[Array, "B L"] | None,
        real: Bool[Array, "B L 1"] | None,
        key: Key[Array, ""] | None,
    ) -> Float[Array, "B L width"]:
        x = self.token(input_ids)
        if self.position is not None:
            x = x + self.position(jnp.arange(input_ids.shape[1])[None] if positions is None else positions)
        if self.token_type is not None:
            x = x + self.token_type(jnp.zeros_like(input_ids) if token_type_ids is None else token_type_ids)
        x = self.norm(x if self.project is None else self.project(x))
        x = x if real is None else x * real.astype(x.dtype)
        return tap("embeddings", dropout(x, self.rate, key))


class Layer(nnx.Module):
    """One post-LN block."""

    def __init__(self, config: Config, key: Key[Array, ""]):
        key_attention, key_mlp = jax.random.split(key)
        init = truncated_normal(config.init_std)
        self.attention = DisentangledAttention(
            key_attention,
            config.width,
            config.heads,
            rate=config.attention_dropout,
            position_rate=config.dropout,
            init=init,
            dtype=config.dtype,
            span=config.span,
            buckets=config.buckets,
            max_distance=config.max_distance,
            share_key=config.share_key,
            key_bias=config.key_bias,
            position_key_bias=config.position_key_bias,
            terms=config.terms,
        )
        self.attention_norm = LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = config.mlp(key_mlp, config.width, config.mlp_width, activation=config.activation, init=init, dtype=config.dtype)
        self.mlp_norm = LayerNorm(config.width, eps=config.norm_eps)
        self.rate = config.dropout

    def __call__(
        self,
        x: Float[Array, "B L width"],
        *,
        table: Float[Array, "rows width"],
        queries: Float[Array, "B L width"] | None = None,
        segment_ids: Int[Array, "B L"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "B L width"]:
        """`queries` (the mask decoder's) take the place of `x` where it asks and is added, not where it answers."""
        keys = split(key, 4)
        attended = self.attention(x, table=table, queries=queries, segment_ids=segment_ids, key=keys[0])
        h = self.attention_norm((x if queries is None else queries) + dropout(attended, self.rate, keys[1]))
        y = self.mlp_norm(h + dropout(self.mlp(h, keys[3], segment_ids), self.rate, keys[2]))
        return tap("hidden", constrain(y, "batch", "length", "activation"))


class ConvolvedLayer(Layer):
    """The first layer of the largest v2: a convolution of its input is added to its output."""

    def __init__(self, config: Config, key: Key[Array, ""]):
        super().__init__(config, key)
        init = truncated_normal(config.init_std)
        key = jax.random.fold_in(key, 2)
        self.conv = Convolution(key, config.width, config.conv_kernel, init=init, dtype=config.dtype)
        self.conv_activation = config.conv_activation
        self.conv_norm = LayerNorm(config.width, eps=config.norm_eps)

    def __call__(
        self,
        x: Float[Array, "B L width"],
        *,
        table: Float[Array, "rows width"],
        segment_ids: Int[Array, "B L"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "B L width"]:
        keys = split(key, 2)
        y = super().__call__(x, table=table, segment_ids=segment_ids, key=keys[0])
        near = self.conv_activation(dropout(self.conv(x, segment_ids), self.rate, keys[1]))
        real = jnp.ones((), y.dtype) if segment_ids is None else (segment_ids > 0).astype(y.dtype)[..., None]
        return self.conv_norm(y + near * real) * real


class Encoder(nnx.Module):
    """`DebertaModel`, `DebertaV2Model`; with `Config.pooler` the context pooler of their classification heads."""

    def __init__(self, config: Config, key: Key[Array, ""], embeddings: Embeddings | None = None, suffix: int = 0):
        """`embeddings`: those of another encoder, to share them. `suffix`: last layers that stand alone."""
        keys = jax.random.split(key, 4)
        self.config = config
        self.embeddings = Embeddings(config, keys[0]) if embeddings is None else embeddings
        self.relative = Embedding(keys[1], 2 * config.span, config.width, init=truncated_normal(config.init_std), dtype=config.dtype)
        self.relative_norm = LayerNorm(config.width, eps=config.norm_eps) if config.norm_table else None
        first = ConvolvedLayer if config.conv_kernel else Layer
        layers, prefix = config.layers, 1 if config.conv_kernel else 0
        runs = stack.layout(layers, prefix=prefix, suffix=suffix, scan=config.scan, unlike=unlike(config, layers))
        make = lambda key, index: (Layer if index else first)(at_layer(config, index, layers), key)
        self.layers = stack.Stack(keys[2], make, runs, config.remat)
        self.pooler = bert.dense(config, keys[3]) if config.pooler else None

    def __call__(
        self,
        input_ids: Int[Array, "B L"],
        *,
        token_type_ids: Int[Array, "B L"] | None = None,
        segment_ids: Int[Array, "B L"] | None = None,
        positions: Int[Array, "B L"] | None = None,
        key: Key[Array, ""] | None = None,
        stop: int | None = None,
    ) -> Float[Array, "B L width"]:
        """Hidden states. `segment_ids`: 0 is padding, equal numbers see each other (packed rows hold several); None: no padding at all.

        `key` turns dropout on; `stop` is the layer before which to end.
        """
        if self.config.position_biased and input_ids.shape[1] > self.config.max_length:
            raise ValueError(f"{input_ids.shape[1]} tokens are more than the {self.config.max_length} positions of this DeBERTa")
        key_embeddings, key_layers = split(key, 2)
        real = None if segment_ids is None else (segment_ids > 0)[..., None]
        x = constrain(self.embeddings(input_ids, token_type_ids, positions, real, key_embeddings), "batch", "length", "activation")
        per_layer = {} if key is None else {"key": jax.random.split(key_layers, self.config.layers)}
        return self.layers.run(x, {"segment_ids": segment_ids, "table": self.table()}, per_layer, stop=stop)

    def table(self) -> Float[Array, "rows width"]:
        """The vectors of relative positions, normalised where the configuration says so."""
        table = self.relative.table[...].astype(self.config.dtype)
        return table if self.relative_norm is None else self.relative_norm(table)

    def pool(self, hidden: Float[Array, "B L width"], segment_ids: Int[Array, "B L"] | None = None) -> Float[Array, "B width"]:
        """activation(W h_[CLS] + b); who is padding does not matter here."""
        if self.pooler is None:
            raise ValueError("this DeBERTa has no pooler (models.deberta.Config.pooler is False), and a sentence-level head asks for it")
        return self.config.pooler_activation(self.pooler(hidden[:, 0]))

    def read_tokens(self, hidden: Float[Array, "B L width"]) -> Float[Array, "B L width"]:
        """What a head over the tokens reads."""
        return hidden


class MaskedLM(bert.MaskedLM):
    """`DebertaForMaskedLM`, `DebertaV2ForMaskedLM`."""

    encoder_class = Encoder


class DetectionHead(nnx.Module):
    """v3's logit of "replaced" for each token, which sees [CLS] too: w . activation(W LN(h_[CLS] + h) + b) + c.

    In packed rows that is the [CLS] of the token's own piece.
    """

    def __init__(self, config: Config, key: Key[Array, ""]):
        keys = jax.random.split(key)
        self.norm = LayerNorm(config.width, eps=config.norm_eps)
        self.transform = bert.dense(config, keys[0])
        self.activation = nnx.data(activations.build(config.activation)) if isinstance(config.activation, type) else config.activation
        self.output = bert.dense(config, keys[1], features_out=1)

    def __call__(self, hidden: Float[Array, "B L width"], segment_ids: Int[Array, "B L"] | None = None) -> Float[Array, "B L"]:
        read = self.norm(_first(hidden, segment_ids) + hidden)
        return self.output(self.activation(self.transform(read)))[..., 0].astype(jnp.float32)


def _first(hidden: Float[Array, "B L width"], segment_ids: Int[Array, "B L"] | None) -> Float[Array, "B #L width"]:
    """For each token the first one of its piece; padding belongs to the piece before it."""
    if segment_ids is None:
        return hidden[:, :1]
    another = (segment_ids[:, 1:] != segment_ids[:, :-1]) & (segment_ids[:, 1:] > 0)
    starts = jnp.pad(another, ((0, 0), (1, 0)), constant_values=True)
    places = jax.lax.cummax(jnp.where(starts, jnp.arange(starts.shape[1])[None], 0), axis=1)
    return jnp.take_along_axis(hidden, places[..., None], axis=1)


class Discriminator(nnx.Module):
    """`ReplacedTokenDetectionModel` of the released code: what is kept of v3's pair."""

    encoder_class = Encoder

    def __init__(self, config: Config, key: Key[Array, ""]):
        keys = jax.random.split(key)
        self.config = config
        self.encoder = Encoder(config, keys[0])
        self.detection = DetectionHead(config, keys[1])

    def __call__(self, input_ids: Int[Array, "B L"], **inputs) -> Output:
        """Logits [B, L]. Arguments as the encoder's."""
        hidden = self.encoder(input_ids, **inputs)
        return Output(logits=self.detection(hidden, inputs.get("segment_ids")), last_hidden_state=hidden)


class EnhancedMaskedLM(MaskedLM):
    """With the enhanced mask decoder: absolute positions enter after the layers, where the last one is applied twice as a decoder.

    z_0 = H^{L-1} + P;   z_{t+1} = layer_L(queries z_t, keys and values H^{L-1});   logits of z_2
    """

    rounds = 2

    def __init__(self, config: Config, key: Key[Array, ""]):
        keys = jax.random.split(key, 3)
        init = truncated_normal(config.init_std)
        self.config = config
        self.encoder = Encoder(config, keys[0], suffix=1)
        self.mlm = bert.MaskedLMHead(config, keys[1])
        self.position = Embedding(keys[2], config.max_length, config.width, init=init, dtype=config.dtype)

    def hidden(
        self,
        input_ids: Int[Array, "B L"],
        *,
        segment_ids: Int[Array, "B L"] | None = None,
        positions: Int[Array, "B L"] | None = None,
        key: Key[Array, ""] | None = None,
        **inputs,
    ) -> Float[Array, "B L width"]:
        if input_ids.shape[1] > self.config.max_length:
            raise ValueError(
                f"{input_ids.shape[1]} tokens are more than the {self.config.max_length} positions of this DeBERTa's mask decoder"
            )
        last = self.config.layers - 1
        keys = split(key, 1 + self.rounds)
        below = self.encoder(input_ids, segment_ids=segment_ids, positions=positions, key=keys[0], stop=last, **inputs)
        queries = below + self.position(jnp.arange(input_ids.shape[1])[None] if positions is None else positions)
        for key in keys[1:]:
            shared = dict(table=self.encoder.table(), segment_ids=segment_ids, key=key)
            queries = self.encoder.layers.alone(last)(below, queries=queries, **shared)
        return queries
