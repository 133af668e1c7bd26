"""Who goes where: the result of routing, in the two shapes that the ways of dispatching need.

Tokens stand in groups [G, N], within which they compete for places. There are `experts` experts with `capacity` places each.
"""

import functools

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int


@struct.dataclass
class Pairs:
    """Every (token, expert) that goes together, one after the other. An expert's number equal to the number of experts is nobody."""

    tokens: Int[Array, "G P"]
    experts: Int[Array, "G P"]
    weights: Float[Array, "G P"]


@struct.dataclass
class ByTokens:
    """Tokens have chosen: the experts of each by preference, its place in their buffers, and whether it got one."""

    chosen: Int[Array, "G N K"]
    weights: Float[Array, "G N K"]
    places: Int[Array, "G N K"]
    kept: Bool[Array, "G N K"]
    experts: int = struct.field(pytree_node=False)
    capacity: int = struct.field(pytree_node=False)

    def masks(self) -> tuple[Bool[Array, "G N E C"], Float[Array, "G N E C"]]:
        """Which token stands in which place, and with what weight its answer comes back."""
        here = []
        for k in range(self.chosen.shape[-1]):
            expert = jax.nn.one_hot(self.chosen[..., k], self.experts, dtype=bool)
            place = jax.nn.one_hot(jnp.where(self.kept[..., k], self.places[..., k], -1), self.capacity, dtype=bool)
            here.append(expert[..., :, None] & place[..., None, :])
        weights = [jnp.where(mask, self.weights[..., k, None, None], 0.0) for k, mask in enumerate(here)]
        return functools.reduce(jnp.logical_or, here), sum(weights)

    def pairs(self) -> Pairs:
        groups, tokens, times = self.chosen.shape
        numbers = jnp.broadcast_to(jnp.arange(tokens)[None, :, None], self.chosen.shape)
        experts, weights = jnp.where(self.kept, self.chosen, self.experts), jnp.where(self.kept, self.weights, 0.0)
        return Pairs(*(x.reshape(groups, tokens * times) for x in (numbers, experts, weights)))


@struct.dataclass
class ByExperts:
    """Experts have chosen: the tokens of each. A token may have several experts, or none."""

    chosen: Int[Array, "G E C"]
    weights: Float[Array, "G E C"]
    tokens: int = struct.field(pytree_node=False)

    @property
    def experts(self) -> int:
        return self.chosen.shape[1]

    def masks(self) -> tuple[Bool[Array, "G N E C"], Float[Array, "G N E C"]]:
        mask = jnp.moveaxis(jax.nn.one_hot(self.chosen, self.tokens, dtype=bool), -1, 1)
        return mask, jnp.where(mask, self.weights[:, None], 0.0)

    def pairs(self) -> Pairs:
        groups, experts, capacity = self.chosen.shape
        numbers = jnp.broadcast_to(jnp.arange(experts)[None, :, None], self.chosen.shape)
        return Pairs(*(x.reshape(groups, experts * capacity) for x in (self.chosen, numbers, self.weights)))
