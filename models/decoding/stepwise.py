"""One token after another, each chosen from the logits and never taken back: greedy decoding and sampling."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key

from rootstock.models.decoding.choices import Choice, greedy
from rootstock.models.decoding.protocol import Generated, Generative


@struct.dataclass
class _Rows:
    index: Int[Array, ""]
    last: Int[Array, "B 1"]
    ids: Int[Array, "B length"]
    scores: Float[Array, "B"]
    finished: Bool[Array, "B"]
    state: Any


@dataclasses.dataclass(frozen=True)
class Stepwise:
    """A `Search`. `choose` is `choices.greedy` or `choices.Sampling`; scores are of the model's own distribution in either case."""

    choose: Choice = greedy

    def __call__(
        self,
        model: Generative,
        input_ids: Int[Array, "B L"],
        segment_ids: Int[Array, "B L"],
        keys: Key[Array, "B"],
        *,
        length: int,
        end_id: int,
        pad_id: int,
    ) -> Generated:
        def going_on(rows: _Rows) -> Bool[Array, ""]:
            return (rows.index < length) & ~rows.finished.all()

        def advance(rows: _Rows) -> _Rows:
            logits, state = model.step(rows.last, rows.index, rows.state)
            chosen = self.choose(logits[:, 0], jax.vmap(jax.random.fold_in, (0, None))(keys, rows.index))
            gain = jnp.take_along_axis(logits[:, 0], chosen[:, None], axis=-1)[:, 0] - jax.nn.logsumexp(logits[:, 0], axis=-1)
            chosen = jnp.where(rows.finished, pad_id, chosen)
            return _Rows(
                index=rows.index + 1,
                last=chosen[:, None],
                ids=jax.lax.dynamic_update_slice(rows.ids, chosen[:, None], (0, rows.index)),
                scores=rows.scores + jnp.where(rows.finished, 0.0, gain),
                finished=rows.finished | (chosen == end_id),
                state=state,
            )

        state = model.start(input_ids, segment_ids, length)
        rows = len(input_ids)
        begun = _Rows(
            index=jnp.zeros((), jnp.int32),
            last=state.first_ids,
            ids=jnp.full((rows, length), pad_id, jnp.int32),
            scores=jnp.zeros(rows, jnp.float32),
            finished=~(segment_ids > 0).any(-1),
            state=state,
        )
        done = jax.lax.while_loop(going_on, advance, begun)
        return Generated(done.ids, done.scores)
