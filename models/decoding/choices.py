"""One token for each row, from its logits: the likeliest, or one that is drawn.

    p = softmax(logits / temperature), of which only the `top_k` likeliest are kept (Fan et al. 2018, arXiv 1805.04833), and of
    those only the fewest likeliest whose sum reaches `top_p` (nucleus sampling: Holtzman et al. 2019, arXiv 1904.09751)

What is left is scaled to sum to one. Tokens of equal probability are kept in the order of their ids.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

Choice = Callable[[Float[Array, "B vocab"], Key[Array, "B"]], Int[Array, "B"]]


def greedy(logits: Float[Array, "B vocab"], keys: Key[Array, "B"]) -> Int[Array, "B"]:
    """The likeliest."""
    return logits.argmax(-1).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Draws, each row with its own key. `top_k` None keeps all."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self):
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}; expected a number above 0")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; expected 1 or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; expected a number above 0, at most 1")

    def __call__(self, logits: Float[Array, "B vocab"], keys: Key[Array, "B"]) -> Int[Array, "B"]:
        kept, ids = self.kept(logits)
        drawn = jax.vmap(jax.random.categorical)(keys, kept)
        return jnp.take_along_axis(ids, drawn[:, None], axis=-1)[:, 0]

    def kept(self, logits: Float[Array, "B vocab"]) -> tuple[Float[Array, "B kept"], Int[Array, "B kept"]]:
        """Logits of what may be drawn, minus infinity where nothing may, and the ids they stand for."""
        vocabulary = logits.shape[-1]
        logits = (logits - logits.max(-1, keepdims=True)) / self.temperature  # the likeliest stays finite however cold it is
        if self.top_k is None and self.top_p == 1:
            return logits, jnp.broadcast_to(jnp.arange(vocabulary, dtype=jnp.int32)[None], logits.shape)
        values, ids = jax.lax.top_k(logits, min(self.top_k or vocabulary, vocabulary))
        probabilities = jax.nn.softmax(values, axis=-1)
        likelier = jnp.cumsum(probabilities, axis=-1) - probabilities
        return jnp.where(likelier < self.top_p, values, -jnp.inf), ids
