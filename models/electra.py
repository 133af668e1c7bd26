"""ELECTRA (Clark et al. 2020, arXiv 2003.10555): a discriminator that tells replaced tokens from original ones, and its generator.

    discriminator:  w . gelu(W h + b) + c  a token, the logit of "replaced"
    generator:      a narrower BERT with a masked-LM head, over the discriminator's embeddings

Both are BERT encoders without a pooler; embeddings narrower than an encoder are projected. Outputs equal those of
`ElectraForPreTraining` and `ElectraForMaskedLM` of transformers.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from rootstock.models import bert
from rootstock.models.layers import activations
from rootstock.models.outputs import Output
from rootstock.models.sharing import Sharing, tied


@dataclasses.dataclass(frozen=True)
class Config(bert.Config):
    """ELECTRA-small by default, the discriminator's part. `embedding_width` None: as wide as the encoder (base, large)."""

    embedding_width: int | None = 128
    width: int = 256
    heads: int = 4
    mlp_width: int = 1024
    pooler: bool = False


class Encoder(bert.Encoder):
    """`ElectraModel`; with `Config.pooler` the dense layer of its classification heads, which has GELU where BERT's has tanh."""

    pooler_activation = staticmethod(activations.gelu)


class DetectionHead(nnx.Module):
    """One logit a token: above 0 for "replaced"."""

    def __init__(self, config: Config, key: Key[Array, ""]):
        keys = jax.random.split(key)
        self.transform = bert.dense(config, keys[0])
        self.activation = nnx.data(activations.build(config.activation)) if isinstance(config.activation, type) else config.activation
        self.output = bert.dense(config, keys[1], features_out=1)

    def __call__(self, hidden: Float[Array, "B L width"]) -> Float[Array, "B L"]:
        return self.output(self.activation(self.transform(hidden)))[..., 0].astype(jnp.float32)


class Discriminator(nnx.Module):
    """`ElectraForPreTraining`: what is kept of the pair."""

    encoder_class = Encoder

    def __init__(self, config: Config, key: Key[Array, ""]):
        keys = jax.random.split(key)
        self.config = config
        self.encoder = self.encoder_class(config, keys[0])
        self.detection = DetectionHead(config, keys[1])

    def __call__(self, input_ids: Int[Array, "B L"], **inputs) -> Output:
        """Logits [B, L]. Arguments as the encoder's."""
        hidden = self.encoder(input_ids, **inputs)
        return Output(logits=self.detection(hidden), last_hidden_state=hidden)


class Generator(bert.MaskedLM):
    """`ElectraForMaskedLM`."""

    encoder_class = Encoder


@dataclasses.dataclass(frozen=True)
class PairConfig:
    """A discriminator and the share of its width that its generator has (small 1/4, base 1/3, large 1/4; the released small one 1).

    `sharing`: what they have in common.
    """

    discriminator: Config = dataclasses.field(default_factory=Config)
    generator_size: float = 0.25
    sharing: Sharing = tied

    @property
    def generator(self) -> Config:
        """Heads of the same width, an MLP four times as wide as the generator, and the discriminator's embeddings."""
        whole = self.discriminator
        width = round(whole.width * self.generator_size)
        embedding_width = whole.embedding_width or whole.width
        return dataclasses.replace(
            whole,
            width=width,
            heads=max(1, round(whole.heads * self.generator_size)),
            mlp_width=4 * width,
            embedding_width=None if embedding_width == width else embedding_width,
        )


class Pair(nnx.Module):
    """Generator and discriminator, trained together, by default from one module of embeddings, which stands under the discriminator."""

    encoder_class, discriminator_class, generator_class = Encoder, Discriminator, Generator

    def __init__(self, config: PairConfig, key: Key[Array, ""]):
        keys = jax.random.split(key, 5)
        self.config = config
        shared, own = config.sharing(*(bert.Embeddings(c, k) for c, k in zip((config.generator, config.discriminator), keys, strict=False)))
        self.encoder = Encoder(config.discriminator, keys[2], own)
        self.detection = DetectionHead(config.discriminator, keys[3])
        self.generator = PairedGenerator(config.generator, keys[4], shared)

    def __call__(self, input_ids: Int[Array, "B L"], **inputs) -> Output:
        """As `Discriminator`: logits [B, L]."""
        hidden = self.encoder(input_ids, **inputs)
        return Output(logits=self.detection(hidden), last_hidden_state=hidden)


class PairedGenerator(Generator):
    """A generator over given embeddings, which it may share."""

    def __init__(self, config: Config, key: Key[Array, ""], embeddings: bert.Embeddings):
        keys = jax.random.split(key)
        self.config = config
        self.encoder = Encoder(config, keys[0], embeddings)
        self.mlm = bert.MaskedLMHead(config, keys[1])
