"""T5 (Raffel et al. 2019, arXiv 1910.10683): an encoder-decoder, pre-LN, with relative-position buckets; 1.0, 1.1, mT5 and UMT5.

    h = x + attention(norm(x));   y = h + mlp(norm(h));   in the decoder, attention to the encoder's output between the two

RMSNorm without bias, no bias anywhere, no scaling of the scores (folded into the initialisation). One table of position buckets a stack,
used by all its layers, or one a layer (`per_layer_bias`, UMT5); none towards the encoder. 1.0: ReLU, embeddings tied to the output, which
is then scaled by width^-0.5. 1.1: gated GELU, untied, no dropout in pretraining; mT5 is 1.1 with its own vocabulary.
Outputs equal those of `T5ForConditionalGeneration` of transformers.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx, struct
from jaxtyping import Array, Bool, Float, Int, Key

from rootstock.models.layers import activations, stack
from rootstock.models.layers.attention import Attention
from rootstock.models.layers.axes import constrain
from rootstock.models.layers.cache import Cache
from rootstock.models.layers.dense import Dense, fan_in_normal, normal
from rootstock.models.layers.dropout import dropout, split
from rootstock.models.layers.embed import Embedding
from rootstock.models.layers.mlp import MLP, at_layer, unlike
from rootstock.models.layers.norm import RMSNorm
from rootstock.models.layers.positions import RelativeBias
from rootstock.models.layers.tap import tap
from rootstock.models.outputs import Output


@dataclasses.dataclass(frozen=True)
class Config:
    """T5-small 1.0 by default. `decoder_layers`: as many as in the encoder where None. `init_scale` multiplies every initial deviation.
    `dtype` is the compute type; parameters are float32. `remat`: see `stack.Stack`.
    """

    vocab_size: int = 32128
    width: int = 512
    layers: int = 6
    decoder_layers: int | None = None
    heads: int = 8
    head_dim: int = 64
    mlp_width: int = 2048
    mlp: Callable = MLP
    activation: Callable = activations.relu
    buckets: int = 32
    max_distance: int = 128
    per_layer_bias: bool = False
    tied: bool = True
    dropout: float = 0.1
    norm_eps: float = 1e-6
    init_scale: float = 1.0
    start_id: int = 0
    attention: Callable = Attention
    dtype: str = "float32"
    scan: bool = True
    remat: Callable | None = None


class Layer(nnx.Module):
    """One block of the encoder or, with `causal`, of the decoder, which attends to a memory too."""

    def __init__(self, config: Config, key: Key[Array, ""], causal: bool):
        keys = jax.random.split(key, 4)
        init = fan_in_normal(config.init_scale)
        how = dict(
            head_dim=config.head_dim,
            bias=False,
            scale=1.0,
            rate=config.dropout,
            init=init,
            query_init=fan_in_normal(config.init_scale * config.head_dim**-0.5),
            dtype=config.dtype,
        )
        self.attention_norm = RMSNorm(config.width, eps=config.norm_eps)
        self.attention = config.attention(keys[0], config.width, config.heads, causal=causal, **how)
        self.relative = _relative(config, keys[3], causal) if config.per_layer_bias else None
        self.cross_norm = RMSNorm(config.width, eps=config.norm_eps) if causal else None
        self.cross = config.attention(keys[1], config.width, config.heads, **how) if causal else None
        self.mlp_norm = RMSNorm(config.width, eps=config.norm_eps)
        self.mlp = config.mlp(
            keys[2],
            config.width,
            config.mlp_width,
            activation=config.activation,
            init=init,
            bias=False,
            rate=config.dropout,
            dtype=config.dtype,
        )
        self.rate = config.dropout

    def __call__(
        self,
        x: Float[Array, "B L width"],
        *,
        bias: Float[Array, "..."] | None,
        segment_ids: Int[Array, "B L"] | None = None,
        memory: Float[Array, "B M width"] | None = None,
        memory_segment_ids: Int[Array, "B M"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "B L width"]:
        keys = split(key, 6)
        places = jnp.arange(x.shape[1])
        bias = bias if self.relative is None else self.relative(places, places)
        x = x + dropout(self.attention(self.attention_norm(x), bias=bias, segment_ids=segment_ids, key=keys[0]), self.rate, keys[1])
        if self.cross is not None:
            k, v = self.cross.keys_values(memory)
            segments = {"segment_ids": segment_ids, "key_segment_ids": memory_segment_ids}
            x = x + dropout(self.cross.over(self.cross_norm(x), k, v, key=keys[2], **segments), self.rate, keys[3])
        x = x + dropout(self.mlp(self.mlp_norm(x), keys[4], segment_ids), self.rate, keys[5])
        return tap("hidden", constrain(x, "batch", "length", "activation"))

    def remember(self, memory_cache: Cache, *, memory: Float[Array, "B M width"], layer: Int[Array, ""]) -> Cache:
        """Keeps this layer's keys and values of the encoder's output."""
        return memory_cache.write(layer, 0, *self.cross.keys_values(memory))

    def step(
        self,
        carry: tuple[Float[Array, "B T width"], Cache],
        *,
        index: Int[Array, ""],
        bias: Float[Array, "..."] | None,
        mask: Bool[Array, "..."],
        memory: Cache,
        memory_mask: Bool[Array, "..."],
        layer: Int[Array, ""],
    ) -> tuple[Float[Array, "B T width"], Cache]:
        """The targets at `index` and after it; those before are in the cache."""
        x, past = carry
        bias = bias if self.relative is None else self.relative(index + jnp.arange(x.shape[1]), jnp.arange(past.length))
        normed = self.attention_norm(x)
        past = past.write(layer, index, *self.attention.keys_values(normed))
        x = x + self.attention.over(normed, *past.read(layer), bias=bias, mask=mask)
        asked = self.cross_norm(x).reshape(len(memory_mask), -1, x.shape[-1])  # rows that share a memory ask it together
        x = x + self.cross.over(asked, *memory.read(layer), mask=memory_mask).reshape(x.shape)
        return x + self.mlp(self.mlp_norm(x)), past


@struct.dataclass
class Decoding:
    """Where a generation stands: what the decoder keeps of the targets so far and of the inputs, and which inputs are real. There may be
    several targets for each of the inputs, one beside the other.
    """

    past: Cache
    memory: Cache
    memory_mask: Bool[Array, "B 1 1 M"]
    first_ids: Int[Array, "R 1"]

    def spread(self, times: int) -> "Decoding":
        """For `times` targets of each input; the memory is shared."""
        return self.replace(past=self.past.spread(times), first_ids=jnp.repeat(self.first_ids, times, axis=0))


class Encoder(nnx.Module):
    """`T5EncoderModel`: bidirectional layers over the token vectors it is given."""

    def __init__(self, config: Config, key: Key[Array, ""]):
        self.config = config
        _build(self, config, key, config.layers, causal=False)

    def __call__(
        self, x: Float[Array, "B L width"], *, segment_ids: Int[Array, "B L"] | None = None, key: Key[Array, ""] | None = None
    ) -> Float[Array, "B L width"]:
        """Hidden states. `segment_ids`: 0 is padding, equal numbers see each other (packed rows hold several); None: no padding at all."""
        return _run(self, x, {"segment_ids": segment_ids}, key)


class Decoder(nnx.Module):
    """Causal layers over token vectors, with attention to the encoder's output."""

    def __init__(self, config: Config, key: Key[Array, ""]):
        self.config = config
        _build(self, config, key, config.layers if config.decoder_layers is None else config.decoder_layers, causal=True)

    def __call__(
        self,
        x: Float[Array, "B T width"],
        memory: Float[Array, "B L width"],
        *,
        segment_ids: Int[Array, "B T"] | None = None,
        memory_segment_ids: Int[Array, "B L"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "B T width"]:
        """Hidden states. A target sees the inputs of its own segment."""
        shared = {"segment_ids": segment_ids, "memory": memory, "memory_segment_ids": memory_segment_ids}
        return _run(self, x, shared, key)

    def start(
        self, memory: Float[Array, "B M width"], memory_mask: Bool[Array, "B M"], first_ids: Int[Array, "B 1"], length: int
    ) -> Decoding:
        """Before the first of at most `length` targets, of which `first_ids` are the inputs."""
        config = self.config

        def room(positions: int) -> Cache:
            return Cache.zeros(self.count, len(memory), positions, config.heads, config.head_dim, config.dtype)

        kept = self.layers.run(room(memory.shape[1]), {"memory": memory}, {"layer": jnp.arange(self.count)}, method="remember")
        return Decoding(room(length), kept, memory_mask[:, None, None, :], first_ids)

    def step(self, x: Float[Array, "B T width"], index: Int[Array, ""], state: Decoding) -> tuple[Float[Array, "B T width"], Decoding]:
        """Hidden states of the targets at `index` and after it."""
        queries, keys = index + jnp.arange(x.shape[1]), jnp.arange(state.past.length)
        shared = {
            "index": index,
            "bias": None if self.relative is None else self.relative(queries, keys),
            "mask": (keys[None, :] <= queries[:, None])[None, None],
            "memory": state.memory,
            "memory_mask": state.memory_mask,
        }
        x, past = self.layers.run((x, state.past), shared, {"layer": jnp.arange(self.count)}, method="step")
        return self.norm(x), state.replace(past=past)


class T5(nnx.Module):
    """`T5ForConditionalGeneration`: inputs and targets to logits."""

    continues_inputs = False  # what it generates answers its inputs

    def __init__(self, config: Config, key: Key[Array, ""]):
        keys = jax.random.split(key, 4)
        self.config = config
        self.token = Embedding(keys[0], config.vocab_size, config.width, axis="vocab", init=normal(config.init_scale), dtype=config.dtype)
        self.encoder = Encoder(config, keys[1])
        self.decoder = Decoder(config, keys[2])
        init = fan_in_normal(config.init_scale)
        head = None if config.tied else Dense(keys[3], config.width, config.vocab_size, axes=("embed", "vocab"), bias=False, init=init)
        self.head = head

    def __call__(
        self,
        input_ids: Int[Array, "B L"],
        decoder_input_ids: Int[Array, "B T"],
        *,
        segment_ids: Int[Array, "B L"] | None = None,
        decoder_segment_ids: Int[Array, "B T"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Output:
        """Logits [B, T, vocab_size] of the next target at every place; `last_hidden_state` is the decoder's. `key` turns dropout on."""
        key_encoder, key_decoder = split(key, 2)
        memory = self.encode(input_ids, segment_ids=segment_ids, key=key_encoder)
        segments = {"segment_ids": decoder_segment_ids, "memory_segment_ids": segment_ids}
        if segment_ids is not None and decoder_segment_ids is None:
            segments["segment_ids"] = jnp.ones_like(decoder_input_ids)
        hidden = self.decode(decoder_input_ids, memory, key=key_decoder, **segments)
        return Output(logits=self.logits(hidden), last_hidden_state=hidden)

    def encode(
        self, input_ids: Int[Array, "B L"], *, segment_ids: Int[Array, "B L"] | None = None, key: Key[Array, ""] | None = None
    ) -> Float[Array, "B L width"]:
        return self.encoder(self.token(input_ids), segment_ids=segment_ids, key=key)

    def decode(self, decoder_input_ids: Int[Array, "B T"], memory: Float[Array, "B L width"], **segments) -> Float[Array, "B T width"]:
        """Hidden states of the decoder, for `logits`."""
        return self.decoder(self.token(decoder_input_ids), memory, **segments)

    def start(self, input_ids: Int[Array, "B L"], segment_ids: Int[Array, "B L"] | None, length: int) -> Decoding:
        """Reads the inputs, for the generation of at most `length` targets."""
        memory = self.encode(input_ids, segment_ids=segment_ids)
        real = jnp.ones_like(input_ids, bool) if segment_ids is None else segment_ids > 0
        return self.decoder.start(memory, real, jnp.full((len(input_ids), 1), self.config.start_id, jnp.int32), length)

    def step(
        self, decoder_input_ids: Int[Array, "B T"], index: Int[Array, ""], state: Decoding
    ) -> tuple[Float[Array, "B T vocab_size"], Decoding]:
        """Logits of what comes after each of the decoder's inputs, of which the first stands at `index`."""
        hidden, state = self.decoder.step(self.token(decoder_input_ids), index, state)
        return self.logits(hidden), state

    def logits(self, hidden: Float[Array, "*batch width"]) -> Float[Array, "*batch vocab_size"]:
        """In float32."""
        if self.head is not None:
            return self.head(hidden.astype(jnp.float32))
        return self.token.attend(hidden * jnp.asarray(self.config.width**-0.5, hidden.dtype))


def shift_right(target_ids: Int[Array, "B T"], start_id: int, segment_ids: Int[Array, "B T"] | None = None) -> Int[Array, "B T"]:
    """The decoder's inputs: what came before each target, `start_id` before the first of every segment."""
    before = jnp.pad(target_ids[:, :-1], ((0, 0), (1, 0)), constant_values=start_id)
    if segment_ids is None:
        return before
    first = segment_ids != jnp.pad(segment_ids[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    return jnp.where(first, start_id, before)


def _relative(config: Config, key: Key[Array, ""], causal: bool) -> RelativeBias:
    init = normal(config.init_scale * config.width**-0.5)
    return RelativeBias(key, config.heads, bidirectional=not causal, buckets=config.buckets, max_distance=config.max_distance, init=init)


def _build(half: Encoder | Decoder, config: Config, key: Key[Array, ""], layers: int, causal: bool) -> None:
    key_layers, key_bias = jax.random.split(key)
    half.relative = None if config.per_layer_bias else _relative(config, key_bias, causal)
    runs = stack.layout(layers, scan=config.scan, unlike=unlike(config, layers))
    make = lambda key, index: Layer(at_layer(config, index, layers, causal), key, causal)
    half.layers = stack.Stack(key_layers, make, runs, config.remat)
    half.norm = RMSNorm(config.width, eps=config.norm_eps)
    half.count = layers


def _run(half: Encoder | Decoder, x: Float[Array, "B L width"], shared: dict, key: Key[Array, ""] | None) -> Float[Array, "B L width"]:
    key_in, key_layers, key_out = split(key, 3)
    rate = half.config.dropout
    places = jnp.arange(x.shape[1])
    bias = None if half.relative is None else half.relative(places, places)
    per_layer = {} if key is None else {"key": jax.random.split(key_layers, half.count)}
    x = tap("embeddings", dropout(x, rate, key_in))
    return dropout(half.norm(half.layers.run(x, {"bias": bias, **shared}, per_layer)), rate, key_out)
