"""DeBERTa-v3's pair (He et al. 2021, arXiv 2111.09543): a discriminator, and a generator of the same width with fewer layers.

The generator has the enhanced mask decoder, as in the released code, unless absolute positions are part of the input. Its tables of
tokens and positions serve the discriminator by `PairConfig.sharing`, gradient-disentangled by default; in v3 no absolute positions
enter the discriminator, so there are none to share.
"""

import dataclasses

import jax
from flax import nnx
from jaxtyping import Array, Int, Key

from rootstock.models.deberta import Config, DetectionHead, Discriminator, Embeddings, Encoder, EnhancedMaskedLM, MaskedLM
from rootstock.models.outputs import Output
from rootstock.models.sharing import Sharing, disentangled


@dataclasses.dataclass(frozen=True)
class PairConfig:
    """DeBERTa-v3-base by default: the generator has half of the layers."""

    discriminator: Config = dataclasses.field(default_factory=Config)
    generator_layers: int = 6
    sharing: Sharing = disentangled

    @property
    def generator(self) -> Config:
        return dataclasses.replace(self.discriminator, layers=self.generator_layers)


class Pair(nnx.Module):
    """Generator and discriminator. The call is the discriminator's, as of `deberta.Discriminator`, whose names its own are."""

    encoder_class, discriminator_class = Encoder, Discriminator

    def __init__(self, config: PairConfig, key: Key[Array, ""]):
        keys = jax.random.split(key, 4)
        self.config = config
        whole = config.discriminator
        family = MaskedLM if whole.position_biased else EnhancedMaskedLM
        self.generator = family(config.generator, keys[0])
        self.generator_class = family
        shared, own = config.sharing(self.generator.encoder.embeddings, Embeddings(whole, keys[1]))
        self.generator.encoder.embeddings = shared
        self.encoder = Encoder(whole, keys[2], own)
        self.detection = DetectionHead(whole, keys[3])

    def __call__(self, input_ids: Int[Array, "B L"], **inputs) -> Output:
        """Logits [B, L]: above 0 for "replaced". Arguments as the encoder's."""
        hidden = self.encoder(input_ids, **inputs)
        return Output(logits=self.detection(hidden, inputs.get("segment_ids")), last_hidden_state=hidden)
