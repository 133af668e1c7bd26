"""Generates from rows of ids and scores given targets, under the mesh and rules of training.

    Generator(blueprint, BeamSearch(4), length=64, end_id=1, pad_id=0)(params, inputs) -> [Answer(ids, score), ...]
    Scorer(blueprint, pad_id=0)(params, inputs, choices) -> [Scored(total, tokens), ...]

Rows of like length go into one batch, padded to a power of two, so that few programs are compiled; what comes back stands in the order of
the inputs. What a row gets depends on its inputs, and where something is drawn on the seed and its number, but not on its batch.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from rootstock.engine.errors import UserError
from rootstock.engine.state import Blueprint
from rootstock.models.decoding.likelihood import Likelihood, likelihood
from rootstock.models.decoding.protocol import Generated, Generative, Search
from rootstock.models.decoding.stepwise import Stepwise
from rootstock.models.layers import stack
from rootstock.models.layers.axes import constrained_by
from rootstock.models.layers.parameters import Params

Ids = Sequence[int]
Heard = Callable[[int], object]
GREEDY = Stepwise()
SHORTEST, SHORTEST_TARGET = 16, 8  # nothing is padded to less


@dataclasses.dataclass(frozen=True)
class Answer:
    """What was generated, up to the end token and without it, and its score (see `protocol.Generated`)."""

    ids: list[int]
    score: float


@dataclasses.dataclass(frozen=True)
class Scored:
    """Log-likelihoods of the choices of a row and their numbers of tokens; divide for means a token."""

    total: Float[np.ndarray, "N"]
    tokens: Int[np.ndarray, "N"]


class Generator:
    """One way of generating, compiled once for each padded length of inputs; call it with the parameters of any step."""

    def __init__(
        self,
        blueprint: Blueprint,
        search: Search = GREEDY,
        *,
        length: int,
        end_id: int,
        pad_id: int,
        batch_size: int = 32,
        seed: int = 0,
    ):
        check_generative(blueprint)
        if length < 1:
            raise ValueError(f"length is {length}; expected at least one token to generate")
        self.blueprint, self.search, self.length, self.end_id, self.pad_id = blueprint, search, length, end_id, pad_id
        self.batch_size = _whole(blueprint, batch_size)

        def run(params: Params, ids: Int[Array, "B L"], segments: Int[Array, "B L"], numbers: Int[Array, "B"]) -> Generated:
            keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), numbers)
            model = blueprint.merge(params)
            model = stack.unrolled(model) if jax.default_backend() == "cpu" else model
            return search(model, ids, segments, keys, length=length, end_id=end_id, pad_id=pad_id)

        self._run = jax.jit(run, out_shardings=blueprint.partitioner.replicated)

    def __call__(self, params: Params, inputs: Sequence[Ids], first: int = 0, heard: Heard = lambda rows: None) -> list[Answer]:
        """At most `length` tokens for each of the inputs, which have the numbers from `first` on. `heard` is told of finished rows."""
        answers: dict[int, Answer] = {}
        for rows in _alike([len(ids) for ids in inputs], self.batch_size):
            ids, segments = _padded(self.blueprint, [inputs[row] for row in rows], self.batch_size, self.pad_id)
            numbers = np.zeros(self.batch_size, np.int32)
            numbers[: len(rows)] = first + np.asarray(rows)
            found = _under(self.blueprint, self._run, params, ids, segments, numbers)
            for row, tokens, value in zip(rows, found.ids.tolist(), found.scores.tolist(), strict=False):
                answers[row] = Answer(tokens[: tokens.index(self.end_id)] if self.end_id in tokens else tokens, value)
            heard(len(rows))
        return [answers[row] for row in range(len(inputs))]


class Scorer:
    """The log-likelihood of given targets, for choosing among them by rank. About `batch_size` targets are looked at at once."""

    def __init__(self, blueprint: Blueprint, *, pad_id: int, batch_size: int = 32):
        check_generative(blueprint)
        self.blueprint, self.pad_id, self.batch_size = blueprint, pad_id, batch_size

        def run(params: Params, *rows: Int[Array, "..."]) -> Likelihood:
            return likelihood(blueprint.merge(params), *rows)

        self._run = jax.jit(run, out_shardings=blueprint.partitioner.replicated)

    def __call__(
        self, params: Params, inputs: Sequence[Ids], choices: Sequence[Sequence[Ids]], heard: Heard = lambda rows: None
    ) -> list[Scored]:
        """Of each row's choices given its inputs; rows may differ in how many they have. The end token counts where a choice has it."""
        for row, targets in enumerate(choices):
            if not targets or not all(len(target) for target in targets):
                raise ValueError(f"row {row} has the choices {targets}; expected at least one, each of at least one token")
        scored: dict[int, Scored] = {}
        widths = [_power(len(targets)) for targets in choices]
        for width in sorted(set(widths)):
            wide = [row for row, found in enumerate(widths) if found == width]
            size = _whole(self.blueprint, max(1, self.batch_size // width))
            for places in _alike([len(inputs[row]) for row in wide], size):
                rows = [wide[place] for place in places]
                ids, segments = _padded(self.blueprint, [inputs[row] for row in rows], size, self.pad_id)
                targets = _padded_choices([choices[row] for row in rows], size, width, self.pad_id)
                found = _under(self.blueprint, self._run, params, ids, segments, *targets)
                for row, total, tokens in zip(rows, found.total, found.tokens, strict=False):
                    scored[row] = Scored(total[: len(choices[row])], tokens[: len(choices[row])])
                heard(len(rows))
        return [scored[row] for row in range(len(inputs))]


def check_generative(blueprint: Blueprint) -> None:
    """Raises unless the model can generate."""
    if not isinstance(blueprint.model, Generative):
        raise UserError(f"a {type(blueprint.model).__name__} generates nothing: expected an encoder-decoder or a decoder")


def _under(blueprint: Blueprint, run: Callable, params: Params, *arrays: np.ndarray) -> Any:
    """Runs a batch over the mesh; what comes back is on the host."""
    placed = [jax.device_put(array, blueprint.partitioner.batch) for array in arrays]
    with constrained_by(blueprint.partitioner.constraint()):
        return jax.device_get(run(params, *placed))


def _whole(blueprint: Blueprint, size: int) -> int:
    """The batch size, rounded up to what the mesh divides."""
    if size < 1:
        raise ValueError(f"batch_size is {size}; expected 1 or more")
    shards = blueprint.partitioner.batch_shards
    return -(-size // shards) * shards


def _power(number: int, least: int = 1) -> int:
    """The next power of two."""
    return max(least, 1 << max(number - 1, 0).bit_length())


def _alike(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Batches of at most `size` rows that are padded to one length, longest first: what does not fit into memory fails at once."""
    order = sorted(range(len(lengths)), key=lambda row: (-_power(lengths[row], SHORTEST), row))
    while order:
        longest = _power(lengths[order[0]], SHORTEST)
        rows = [row for row in order[:size] if _power(lengths[row], SHORTEST) == longest]
        yield rows
        order = order[len(rows) :]


def _padded(blueprint: Blueprint, inputs: Sequence[Ids], size: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and segments of a batch. Inputs that are to be continued end at its right edge; missing rows are all padding."""
    length = _power(max(map(len, inputs)), SHORTEST)
    ids, segments = np.full((size, length), pad_id, np.int32), np.zeros((size, length), np.int32)
    for row, found in enumerate(inputs):
        if len(found) == 0:
            raise ValueError("inputs without any token cannot be read; expected at least one")
        place = slice(length - len(found), length) if blueprint.model.continues_inputs else slice(len(found))
        ids[row, place], segments[row, place] = found, 1
    return ids, segments


def _padded_choices(choices: Sequence[Sequence[Ids]], size: int, width: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    length = _power(max(len(target) for targets in choices for target in targets), SHORTEST_TARGET)
    ids, segments = np.full((size, width, length), pad_id, np.int32), np.zeros((size, width, length), np.int32)
    for row, targets in enumerate(choices):
        for place, target in enumerate(targets):
            ids[row, place, : len(target)], segments[row, place, : len(target)] = target, 1
    return ids, segments
