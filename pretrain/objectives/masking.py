"""Which positions are predicted, and what stands there instead: on the device, with static shapes.

A row of L slots has S = round(rate L) places for predictions. A row with n tokens uses max(1, round(rate n)) of them (n counts special
tokens, as in BERT's released code, and special tokens are never picked), the other places have weight 0.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key


@struct.dataclass
class Masked:
    """Inputs with holes, and per place its position in the row, the token that belongs there and 1 or 0 as weight."""

    input_ids: Int[Array, "B L"]
    positions: Int[Array, "B S"]
    labels: Int[Array, "B S"]
    weights: Float[Array, "B S"]


Corruption = Callable[[Key[Array, ""], Int[Array, "B S"], int, int], Int[Array, "B S"]]


def bert_corruption(key: Key[Array, ""], labels: Int[Array, "B S"], mask_id: int, vocab_size: int) -> Int[Array, "B S"]:
    """80% [MASK], 10% any entry of the vocabulary (special ones included), 10% unchanged (Devlin et al. 2018, section 3.1)."""
    which, what = jax.random.split(key)
    u = jax.random.uniform(which, labels.shape)
    anything = jax.random.randint(what, labels.shape, 0, vocab_size, labels.dtype)
    return jnp.where(u < 0.8, jnp.asarray(mask_id, labels.dtype), jnp.where(u < 0.9, anything, labels))


def all_mask(key: Key[Array, ""], labels: Int[Array, "B S"], mask_id: int, vocab_size: int) -> Int[Array, "B S"]:
    """[MASK] at every chosen position."""
    return jnp.full_like(labels, mask_id)


def places(length: int, rate: float) -> int:
    """Predictions a row has room for."""
    return max(1, round(rate * length))


def mask(
    key: Key[Array, ""],
    input_ids: Int[Array, "B L"],
    present: Bool[Array, "B L"],
    *,
    rate: float,
    mask_id: int,
    vocab_size: int,
    special_ids: Sequence[int],
    corruption: Corruption = bert_corruption,
) -> Masked:
    """Draws positions without replacement among present, ordinary tokens and puts `corruption` of the tokens there."""
    choose, change = jax.random.split(key)
    eligible = present & ~jnp.isin(input_ids, jnp.asarray(special_ids, input_ids.dtype))
    order = jnp.where(eligible, jax.random.uniform(choose, input_ids.shape), -1.0)
    chance, positions = jax.lax.top_k(order, places(input_ids.shape[1], rate))
    tokens = present.sum(-1)
    wanted = jnp.asarray([places(n, rate) for n in range(input_ids.shape[1] + 1)])[tokens]
    used = (jnp.arange(positions.shape[1])[None] < wanted[:, None]) & (chance >= 0)
    labels = jnp.take_along_axis(input_ids, positions, axis=1)
    holes = jnp.where(used, corruption(change, labels, mask_id, vocab_size), labels)
    rows = jnp.arange(input_ids.shape[0])[:, None]
    return Masked(input_ids.at[rows, positions].set(holes), positions, labels, used.astype(jnp.float32))
