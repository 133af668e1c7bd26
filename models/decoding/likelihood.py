"""The likelihood of given targets, as for choosing among answers by rank (Brown et al. 2020, arXiv 2005.14165, section 2.4).

log p(target | inputs) = sum over its tokens of log p(token_t | inputs, token_<t)
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from rootstock.models.decoding.protocol import Generative


@struct.dataclass
class Likelihood:
    """Of every choice: the log-likelihood of all its tokens, and how many they are."""

    total: Float[Array | np.ndarray, "B choices"]
    tokens: Int[Array | np.ndarray, "B choices"]

    @property
    def mean(self) -> Float[Array | np.ndarray, "B choices"]:
        """A token, so that long choices are not at a disadvantage."""
        return self.total / jnp.maximum(self.tokens, 1).astype(self.total.dtype)


def likelihood(
    model: Generative,
    input_ids: Int[Array, "B L"],
    segment_ids: Int[Array, "B L"],
    target_ids: Int[Array, "B choices T"],
    target_segment_ids: Int[Array, "B choices T"],
) -> Likelihood:
    """Inputs are read once for all choices. Segment 0 is padding; targets carry their own end token if it is to count."""
    batch, choices, length = target_ids.shape
    targets, real = (x.reshape(-1, length) for x in (target_ids, target_segment_ids > 0))
    state = model.start(input_ids, segment_ids, length).spread(choices)
    read = jnp.concatenate([state.first_ids, targets[:, :-1]], axis=1)
    logits, _ = model.step(read, jnp.zeros((), jnp.int32), state)
    found = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0] - jax.nn.logsumexp(logits, axis=-1)
    sums = (jnp.where(real, found, 0.0).sum(-1), real.sum(-1).astype(jnp.int32))
    return Likelihood(*(x.reshape(batch, choices) for x in sums))
