"""A decoder-only language model: pre-LN, causal, with rotary positions or T5's relative buckets, and a gated or plain MLP.

    h = x + attention(norm(x));   y = h + mlp(norm(h));   logits = norm(x_L) E^T, or a projection of its own (`tied` off)

With its defaults (RMSNorm, rotary positions, SwiGLU, no bias) outputs equal those of `LlamaForCausalLM` of transformers.
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
from rootstock.models.layers.dense import Dense, truncated_normal
from rootstock.models.layers.dropout import dropout, split
from rootstock.models.layers.embed import Embedding
from rootstock.models.layers.mlp import GatedMLP, at_layer, unlike
from rootstock.models.layers.norm import RMSNorm
from rootstock.models.layers.positions import RelativeBias, Rotary
from rootstock.models.layers.tap import tap
from rootstock.models.outputs import Output


@dataclasses.dataclass(frozen=True)
class Config:
    """`rotation` None and `buckets` above 0 give T5's bias, one table for all layers. `kv_heads`: fewer heads for keys and values, None for
    as many. `norm` is built from the width and `eps`. `dtype` is the compute type; parameters are float32. `remat`: see `stack.Stack`.
    """

    vocab_size: int = 32000
    width: int = 512
    layers: int = 8
    heads: int = 8
    kv_heads: int | None = None
    head_dim: int | None = None
    mlp_width: int = 1376
    mlp: Callable = GatedMLP
    activation: Callable = activations.silu
    norm: Callable = RMSNorm
    norm_eps: float = 1e-6
    rotation: Rotary | None = dataclasses.field(default_factory=Rotary)
    buckets: int = 0
    max_distance: int = 128
    bias: bool = False
    tied: bool = True
    dropout: float = 0.0
    init_std: float = 0.02
    attention: Callable = Attention
    dtype: str = "float32"
    scan: bool = True
    remat: Callable | None = None


class Layer(nnx.Module):
    """One pre-LN block."""

    def __init__(self, config: Config, key: Key[Array, ""]):
        key_attention, key_mlp = jax.random.split(key)
        shared = dict(init=truncated_normal(config.init_std), bias=config.bias, rate=config.dropout, dtype=config.dtype)
        self.attention_norm = config.norm(config.width, eps=config.norm_eps)
        self.attention = config.attention(
            key_attention,
            config.width,
            config.heads,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            rotation=config.rotation,
            causal=True,
            **shared,
        )
        self.mlp_norm = config.norm(config.width, eps=config.norm_eps)
        self.mlp = config.mlp(key_mlp, config.width, config.mlp_width, activation=config.activation, **shared)
        self.rate = config.dropout

    def __call__(
        self,
        x: Float[Array, "B L width"],
        *,
        bias: Float[Array, "..."] | None,
        segment_ids: Int[Array, "B L"] | None = None,
        positions: Int[Array, "B L"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "B L width"]:
        keys = split(key, 4)
        seen = {"bias": bias, "segment_ids": segment_ids, "positions": positions}
        x = x + dropout(self.attention(self.attention_norm(x), key=keys[0], **seen), self.rate, keys[1])
        x = x + dropout(self.mlp(self.mlp_norm(x), keys[2], segment_ids), self.rate, keys[3])
        return tap("hidden", constrain(x, "batch", "length", "activation"))

    def step(
        self,
        carry: tuple[Float[Array, "B T width"], Cache],
        *,
        index: Int[Array, ""],
        bias: Float[Array, "..."] | None,
        mask: Bool[Array, "..."],
        positions: Int[Array, "B T"],
        layer: Int[Array, ""],
    ) -> tuple[Float[Array, "B T width"], Cache]:
        """The tokens at `index` of the cache and after it; those before are in it."""
        x, past = carry
        normed = self.attention_norm(x)
        past = past.write(layer, index, *self.attention.keys_values(normed, positions))
        x = x + self.attention.over(normed, *past.read(layer), bias=bias, mask=mask, positions=positions)
        return x + self.mlp(self.mlp_norm(x)), past


@struct.dataclass
class Decoding:
    """Where a generation stands. Prompts are padded on the left, so that all of them end at one place of the cache: what is generated goes
    to `offset` and after it. `real` says which places before that hold a prompt.
    """

    past: Cache
    real: Bool[Array, "B S"]
    first_ids: Int[Array, "B 1"]
    offset: int = struct.field(pytree_node=False)

    def spread(self, times: int) -> "Decoding":
        """For `times` continuations of each prompt, one beside the other."""
        real, first_ids = (jnp.repeat(x, times, axis=0) for x in (self.real, self.first_ids))
        return self.replace(past=self.past.spread(times), real=real, first_ids=first_ids)


class Decoder(nnx.Module):
    """Tokens to logits of the next ones."""

    continues_inputs = True  # what it generates comes after its inputs

    def __init__(self, config: Config, key: Key[Array, ""]):
        keys = jax.random.split(key, 4)
        init = truncated_normal(config.init_std)
        self.config = config
        self.token = Embedding(keys[0], config.vocab_size, config.width, axis="vocab", init=init, dtype=config.dtype)
        bucketed = dict(bidirectional=False, buckets=config.buckets, max_distance=config.max_distance, init=init)
        self.relative = RelativeBias(keys[1], config.heads, **bucketed) if config.buckets else None
        runs = stack.layout(config.layers, scan=config.scan, unlike=unlike(config, config.layers))
        make = lambda key, index: Layer(at_layer(config, index, config.layers, causal=True), key)
        self.layers = stack.Stack(keys[2], make, runs, config.remat)
        self.norm = config.norm(config.width, eps=config.norm_eps)
        head = None if config.tied else Dense(keys[3], config.width, config.vocab_size, axes=("embed", "vocab"), bias=False, init=init)
        self.head = head

    def __call__(
        self,
        input_ids: Int[Array, "B L"],
        *,
        segment_ids: Int[Array, "B L"] | None = None,
        positions: Int[Array, "B L"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Output:
        """Logits [B, L, vocab_size] of what comes after each token. `segment_ids`: 0 is padding, equal numbers see each other; `positions`
        count within a segment. `key` turns dropout on.
        """
        hidden = self.hidden(input_ids, segment_ids=segment_ids, positions=positions, key=key)
        return Output(logits=self.logits(hidden), last_hidden_state=hidden)

    def hidden(
        self,
        input_ids: Int[Array, "B L"],
        *,
        segment_ids: Int[Array, "B L"] | None = None,
        positions: Int[Array, "B L"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "B L width"]:
        """The last hidden states, normalised, for `logits`."""
        key_in, key_layers = split(key, 2)
        places = jnp.arange(input_ids.shape[1])
        shared = {
            "bias": None if self.relative is None else self.relative(places, places),
            "segment_ids": segment_ids,
            "positions": positions,
        }
        per_layer = {} if key is None else {"key": jax.random.split(key_layers, self.config.layers)}
        x = tap("embeddings", dropout(self.token(input_ids), self.config.dropout, key_in))
        return self.norm(self.layers.run(constrain(x, "batch", "length", "activation"), shared, per_layer))

    def start(self, input_ids: Int[Array, "B P"], segment_ids: Int[Array, "B P"] | None, length: int) -> Decoding:
        """Reads prompts padded on the left (segment 0), for the generation of at most `length` tokens.

        The last token of each is left for the first step.
        """
        config = self.config
        batch, prompt = input_ids.shape
        real = jnp.ones_like(input_ids, bool) if segment_ids is None else segment_ids > 0
        head_dim = config.head_dim or config.width // config.heads
        room = Cache.zeros(config.layers, batch, prompt - 1 + length, config.kv_heads or config.heads, head_dim, config.dtype)
        real = jnp.pad(real, ((0, 0), (0, length - 1)), constant_values=True)
        state = Decoding(room, real, input_ids[:, -1:], prompt - 1)
        return state if prompt == 1 else self._advance(input_ids[:, :-1], jnp.zeros((), jnp.int32), state)[1]

    def step(self, input_ids: Int[Array, "B T"], index: Int[Array, ""], state: Decoding) -> tuple[Float[Array, "B T vocab_size"], Decoding]:
        """Logits of what comes after each of `input_ids`, of which the first is the `index`-th to be generated from."""
        hidden, state = self._advance(input_ids, state.offset + index, state)
        return self.logits(hidden), state

    def _advance(self, input_ids: Int[Array, "B T"], place: Int[Array, ""], state: Decoding) -> tuple[Float[Array, "B T width"], Decoding]:
        queries, keys = place + jnp.arange(input_ids.shape[1]), jnp.arange(state.past.length)
        counted = jnp.maximum(jnp.cumsum(state.real, axis=1) - 1, 0)
        shared = {
            "index": place,
            "bias": None if self.relative is None else self.relative(queries, keys),
            "mask": (keys[None, :] <= queries[:, None])[None, None] & state.real[:, None, None, :],
            "positions": jnp.take(counted, queries, axis=1),
        }
        carry = self.token(input_ids), state.past
        x, past = self.layers.run(carry, shared, {"layer": jnp.arange(self.config.layers)}, method="step")
        return self.norm(x), state.replace(past=past)

    def logits(self, hidden: Float[Array, "*batch width"]) -> Float[Array, "*batch vocab_size"]:
        """In float32."""
        return self.token.attend(hidden) if self.head is None else self.head(hidden.astype(jnp.float32))
