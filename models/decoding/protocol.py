"""What a model offers to those who generate with it, and what a search gives back."""

from typing import Protocol, runtime_checkable

import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, Key

from rootstock.models.layers.cache import Cache


@runtime_checkable
class State(Protocol):
    """Where a generation of B rows stands. A step changes `past` alone; everything else is as the inputs made it."""

    past: Cache
    first_ids: Int[Array, "B 1"]  # what the first step reads

    def spread(self, times: int) -> "State":
        """For `times` rows of each, one beside the other."""
        ...

    def replace(self, *, past: Cache) -> "State": ...


@runtime_checkable
class Generative(Protocol):
    """A model that generates: `t5.T5`, `decoder.Decoder`.

    `continues_inputs` says whether what is generated comes after the inputs. Such inputs are padded on the left, others on the right.
    """

    continues_inputs: bool

    def start(self, input_ids: Int[Array, "B L"], segment_ids: Int[Array, "B L"] | None, length: int) -> State:
        """Reads the inputs (segment 0 is padding), for the generation of at most `length` tokens."""
        ...

    def step(self, input_ids: Int[Array, "B T"], index: Int[Array, ""], state: State) -> tuple[Float[Array, "B T vocab_size"], State]:
        """Logits of what comes after each of the tokens, of which the first is the `index`-th that the decoder reads."""
        ...


@struct.dataclass
class Generated:
    """Tokens up to the end token and with it, padded after it; a row that reached no end has `length` of them. `scores` are log-likelihoods
    of all tokens of a row, in a beam search divided as its length penalty says.
    """

    ids: Int[Array | np.ndarray, "B length"]
    scores: Float[Array | np.ndarray, "B"]


@runtime_checkable
class Search(Protocol):
    """One way of generating. A row without inputs (all padding) is finished before it begins; `keys` are one a row, for what is drawn."""

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
    ) -> Generated: ...
