"""Steps as long as their rows: a batch whose rows are all short is computed at a shorter length, with the same losses and gradients.

Fine-tuning rows are mostly padding: CoLA's hold 11 tokens of 128. What peers do by padding each batch to its longest row, a compiled
step does by choosing, on the device, one of a few lengths that it was compiled for. Nothing is recompiled during a run.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from rootstock.engine.sockets import Batch, GradFn
from rootstock.finetune import heads

LENGTHS = (32, 64, 96)
T = TypeVar("T")


def shortened(grad_fn: GradFn, lengths: Sequence[int] = LENGTHS) -> GradFn:
    """A Gradient method: the gradient at the first of `lengths` that holds the batch's longest row, else at full length."""
    return lambda params, batch, ctx: at_its_length(lambda short: grad_fn(params, short, ctx), batch, lengths)


shortened.skips_padding = True


def at_its_length(function: Callable[[Batch], T], batch: Batch, lengths: Sequence[int] = LENGTHS) -> T:
    """`function` of the batch cut to the first of `lengths` that holds its longest row; it must give the same shapes for every length."""
    whole = max(rows.shape[-1] for rows in _inputs(batch, "input_ids"))
    choices = [length for length in sorted(lengths) if length < whole]
    if not choices:
        return function(batch)
    branches = [lambda batch, length=length: function(cut(batch, length)) for length in choices]
    place = jnp.sum(longest(batch) > jnp.array(choices, jnp.int32), dtype=jnp.int32)
    return jax.lax.switch(place, [*branches, function], batch)


def longest(batch: Batch) -> Int[Array, ""]:
    """The length of the longest row, padding aside."""
    return jnp.stack([jnp.sum(rows > 0, -1, dtype=jnp.int32).max() for rows in _inputs(batch, "segment_ids")]).max()


def cut(batch: Batch, length: int) -> Batch:
    """The first `length` tokens of every row, and of labels that stand at tokens."""

    def short(batch: dict[str, Any]) -> dict[str, Any]:
        tagged = "label" in batch and batch["label"].shape == batch["input_ids"].shape
        return {name: x[..., :length] if name in heads.INPUTS or (tagged and name == "label") else x for name, x in batch.items()}

    return short(batch) if "input_ids" in batch else {task: short(part) for task, part in batch.items()}


def _inputs(batch: Batch, name: str) -> list[Array]:
    """One input of every task of a batch, or of the batch of one task."""
    return [batch[name]] if name in batch else [part[name] for part in batch.values()]
