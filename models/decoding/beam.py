"""Beam search, step for step as transformers 5 does it (`_beam_search` with `early_stopping=False`).

    score of a finished row = sum of log p(token) / (number of tokens, the end included)^length_penalty

Every step takes the 2K best continuations of the K running beams. Of these the K best that do not end run on; those among the first K that
end compete for K places of finished ones. A row is done when its best running beam, its score divided by the length so far, is no better
than the worst of K finished ones: a guess, since with a length penalty a longer row may still win. At the last step everything ends.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key

from rootstock.models.decoding.protocol import Generated, Generative

NEVER = -1.0e9  # the score of what is not there; what is ruled out gets it added


@struct.dataclass
class _Candidates:
    """The 2K best continuations of a step, best first."""

    ids: Int[Array, "B C length"]
    scores: Float[Array, "B C"]
    origins: Int[Array, "B C"]  # the beams they continue
    ended: Bool[Array, "B C"]


STEEPEST = 10  # of a length penalty: to a higher power a length of some thousands is beyond float32


@struct.dataclass
class _Beams:
    index: Int[Array, ""]
    ids: Int[Array, "B K length"]
    scores: Float[Array, "B K"]
    finished_ids: Int[Array, "B K length"]
    finished_scores: Float[Array, "B K"]
    finished: Bool[Array, "B K"]
    hopeful: Bool[Array, "B"]  # whether a better row may still come
    last: Int[Array, "R 1"]
    state: Any


@dataclasses.dataclass(frozen=True)
class BeamSearch:
    """A `Search` with `beams` beams; the best finished row is given."""

    beams: int = 4
    length_penalty: float = 1.0

    def __post_init__(self):
        if self.beams < 1:
            raise ValueError(f"beams is {self.beams}; expected 1 or more")
        if not abs(self.length_penalty) <= STEEPEST:
            raise ValueError(f"length_penalty is {self.length_penalty}; expected a number from {-STEEPEST} to {STEEPEST}")

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
        penalties = jnp.asarray(np.arange(1, length + 1) ** float(self.length_penalty), jnp.float32)

        def going_on(beams: _Beams) -> Bool[Array, ""]:
            return (beams.index < length) & beams.hopeful.any()

        def advance(beams: _Beams) -> _Beams:
            logits, state = model.step(beams.last, beams.index, beams.state)
            found = self._continue(beams, logits[:, 0], length, end_id)
            divisor = penalties[beams.index]
            ids, scores, finished = self._finish(beams, found, divisor)
            running_scores, kept = jax.lax.top_k(found.scores + jnp.where(found.ended, NEVER, 0.0), self.beams)
            running_ids, origins = _take(found.ids, kept), _take(found.origins, kept)
            worst = jnp.where(finished, scores.min(-1, keepdims=True), NEVER)
            best = running_scores[:, :1] / divisor
            return _Beams(
                index=beams.index + 1,
                ids=running_ids,
                scores=running_scores,
                finished_ids=ids,
                finished_scores=scores,
                finished=finished,
                hopeful=beams.hopeful & (best > worst).any(-1),
                last=jax.lax.dynamic_slice_in_dim(running_ids, beams.index, 1, axis=2).reshape(-1, 1),
                state=state.replace(past=state.past.reorder(origins)),
            )

        rows = len(input_ids)
        state = model.start(input_ids, segment_ids, length).spread(self.beams)
        nothing = jnp.full((rows, self.beams, length), pad_id, jnp.int32)
        never = jnp.full((rows, self.beams), NEVER, jnp.float32)
        begun = _Beams(
            index=jnp.zeros((), jnp.int32),
            ids=nothing,
            scores=never.at[:, 0].set(0.0),  # all beams are the same: one of them counts
            finished_ids=nothing,
            finished_scores=never,
            finished=jnp.zeros((rows, self.beams), bool),
            hopeful=(segment_ids > 0).any(-1),
            last=state.first_ids,
            state=state,
        )
        done = jax.lax.while_loop(going_on, advance, begun)
        return Generated(done.finished_ids[:, 0], done.finished_scores[:, 0])

    def _continue(self, beams: _Beams, logits: Float[Array, "R vocab"], length: int, end_id: int) -> _Candidates:
        """The best of each beam first, which is a shorter search than over all beams at once."""
        wanted = 2 * self.beams
        values, tokens = jax.lax.top_k(logits, min(wanted, logits.shape[-1]))
        likelihoods = values - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        of_each = values.shape[-1]
        flat = (len(beams.scores), self.beams * of_each)
        totals = (likelihoods.reshape(*beams.scores.shape, of_each) + beams.scores[..., None]).reshape(flat)
        scores, places = jax.lax.top_k(totals, wanted)
        chosen, origins = _take(tokens.reshape(flat), places), places // of_each
        ids = jax.lax.dynamic_update_slice(_take(beams.ids, origins), chosen[..., None], (0, 0, beams.index))
        return _Candidates(ids, scores, origins, (chosen == end_id) | (beams.index + 1 >= length))

    def _finish(
        self, beams: _Beams, found: _Candidates, divisor: Float[Array, ""]
    ) -> tuple[Int[Array, "B K length"], Float[Array, "B K"], Bool[Array, "B K"]]:
        """The finished rows, their scores, and whether there is one at each place, once what has just ended is among them."""
        first = jnp.arange(found.scores.shape[-1]) < self.beams
        ended = found.ended & first[None]
        scores = found.scores / divisor + jnp.where(beams.hopeful[:, None], 0.0, NEVER) + jnp.where(ended, 0.0, NEVER)
        scores, kept = jax.lax.top_k(jnp.concatenate([beams.finished_scores, scores], axis=1), self.beams)
        ids = _take(jnp.concatenate([beams.finished_ids, found.ids], axis=1), kept)
        return ids, scores, _take(jnp.concatenate([beams.finished, ended], axis=1), kept)


def _take(x: Array, places: Int[Array, "B N"]) -> Array:
    """In each row the entries at its places."""
    return jax.vmap(lambda row, at: row[at])(x, places)
