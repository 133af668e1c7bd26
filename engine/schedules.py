"""Learning rates and batch sizes by step. Rates are optax schedules with the warm-up that language-model recipes share."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import optax

from rootstock.engine.errors import UserError


def linear(peak: float, steps: int, warmup: int = 0, end: float = 0.0) -> optax.Schedule:
    """Linearly from 0 to `peak` over `warmup` steps, then linearly to `end` at `steps`, as fairseq and transformers have it."""
    return _warmed(peak, warmup, optax.linear_schedule(peak, end, max(steps - warmup, 1)))


def bert_linear(peak: float, steps: int, warmup: int = 0) -> optax.Schedule:
    """peak t / warmup, then peak (1 - t / steps): the decay counts from step 0. The released code of BERT, ALBERT and DeBERTa."""
    falling = optax.linear_schedule(peak, 0.0, steps)
    return _warmed(peak, warmup, lambda step: falling(step + warmup))


def electra_linear(peak: float, steps: int, warmup: int = 0) -> optax.Schedule:
    """peak (1 - t / steps) min(1, t / warmup): as `bert_linear`, warmed up on top of the decay. The released code of ELECTRA."""
    rising = optax.linear_schedule(0.0, 1.0, warmup) if warmup else optax.constant_schedule(1.0)
    falling = optax.linear_schedule(peak, 0.0, steps)
    return lambda step: rising(step) * falling(step)


def cosine(peak: float, steps: int, warmup: int = 0, end: float = 0.0) -> optax.Schedule:
    """Linear warm-up, then half a cosine from `peak` to `end` at `steps` (Loshchilov and Hutter 2016, arXiv 1608.03983)."""
    return _warmed(peak, warmup, optax.cosine_decay_schedule(peak, max(steps - warmup, 1), alpha=end / peak if peak else 0.0))


def constant(peak: float, warmup: int = 0) -> optax.Schedule:
    """Linear warm-up, then `peak` for ever."""
    return _warmed(peak, warmup, optax.constant_schedule(peak))


def inverse_sqrt(scale: float = 1.0, warmup: int = 10_000) -> optax.Schedule:
    """scale / sqrt(max(step, warmup)): T5's pretraining schedule (Raffel et al. 2019, arXiv 1910.10683)."""
    return lambda step: scale / jnp.sqrt(jnp.maximum(jnp.asarray(step, jnp.float32), float(warmup)))


def share(fraction: float, steps: int) -> int:
    """`fraction` of `steps`, rounded, for recipes: `schedules.linear.warmup = @warmup/schedules.share()`."""
    return round(fraction * steps)


def _warmed(peak, warmup, after):
    return after if warmup == 0 else optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


@dataclasses.dataclass(frozen=True)
class BatchRamp:
    """A batch size that changes at given steps: `stages` is a sequence of (first step, batch size), the first at step 0.

    Each size is compiled once, before the run begins; with `micro_batch_size` only the number of micro-batches grows.
    """

    stages: Sequence[tuple[int, int]]

    def __post_init__(self):
        steps = [step for step, _ in self.stages]
        if not steps or steps[0] != 0 or steps != sorted(set(steps)) or any(size < 1 for _, size in self.stages):
            raise UserError(f"batch stages must be (step, size) pairs with rising steps from 0 and positive sizes, got {self.stages}")

    def size(self, step: int) -> int:
        """Examples in the batch of that step."""
        return [size for first, size in self.stages if first <= step][-1]

    def position(self, step: int) -> int:
        """Examples consumed before that step: the data's whole state."""
        ends = [first for first, _ in self.stages[1:]] + [step]
        return sum(size * max(min(end, step) - first, 0) for (first, size), end in zip(self.stages, ends, strict=True))

    def sizes(self, steps: int) -> list[int]:
        """Every batch size that a run of so many steps meets."""
        return sorted({size for first, size in self.stages if first < steps})
