"""How a generator and a discriminator share their embeddings: each function takes both, as drawn, and gives both, as used.

tied           one module for both (ELECTRA)
tokens         the tables of tokens alone; positions, segments and norms are each one's own
disentangled   E_D = stop_gradient(E_G) + delta for tokens and positions: the discriminator's loss moves delta alone, from zero
               (gradient-disentangled embedding sharing, DeBERTa-v3: He et al. 2021, arXiv 2111.09543, section 3.2)
separate       nothing is shared
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from rootstock.models.layers.embed import Embedding

Sharing = Callable[[Any, Any], tuple[Any, Any]]  # (generator's, discriminator's) embeddings


class Offset(nnx.Module):
    """A table as another one sees it, without gradient, plus what is learnt on top of it."""

    def __init__(self, base: Embedding):
        entries, width = base.table.shape
        self.base = base
        self.delta = Embedding(jax.random.key(0), entries, width, axis=base.axis, init=_zeros, dtype=base.dtype)

    def __call__(self, ids: Int[Array, "*batch"]) -> Float[Array, "*batch width"]:
        return jax.lax.stop_gradient(self.base(ids)) + self.delta(ids)


def tied(generator: Any, discriminator: Any) -> tuple[Any, Any]:
    return discriminator, discriminator


def tokens(generator: Any, discriminator: Any) -> tuple[Any, Any]:
    generator.token = discriminator.token
    return generator, discriminator


def disentangled(generator: Any, discriminator: Any) -> tuple[Any, Any]:
    discriminator.token = Offset(generator.token)
    if discriminator.position is not None:
        discriminator.position = Offset(generator.position)
    return generator, discriminator


def separate(generator: Any, discriminator: Any) -> tuple[Any, Any]:
    return generator, discriminator


def _zeros(key, shape):
    return jnp.zeros(shape)
