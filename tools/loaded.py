"""A model one can call from plain Python: what `rootstock.load` returns."""

import dataclasses
import pathlib
import warnings
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Int
from ml_collections import FrozenConfigDict

from rootstock.data import framing, vocabularies
from rootstock.data.vocabularies import Vocabulary
from rootstock.engine.errors import UserError
from rootstock.engine.load import load
from rootstock.engine.model_dir import read_config
from rootstock.engine.state import Blueprint
from rootstock.finetune.decoding import GREEDY, Generator, check_generative
from rootstock.finetune.recipe import vocabulary_of
from rootstock.finetune.texts import Texts
from rootstock.models.decoding.protocol import Generative, Search
from rootstock.models.layers import parameters
from rootstock.models.outputs import Output


@dataclasses.dataclass
class Loaded:
    """A model, its configuration, its tokenizer (None where the checkpoint carries no vocabulary) and its blueprint."""

    config: FrozenConfigDict
    model: nnx.Module
    tokenizer: Vocabulary | None
    blueprint: Blueprint

    def __post_init__(self):
        self._generators: dict[tuple, Generator] = {}

        def forward(model, inputs, task):
            return model(**inputs) if task is None else model(**inputs, task=task)

        self._forward = nnx.jit(forward, static_argnums=2)

    def __call__(
        self,
        inputs: Sequence[str] | Int[np.ndarray, "..."],
        attention_mask: Int[np.ndarray, "..."] | None = None,
        token_type_ids: Int[np.ndarray, "..."] | None = None,
        task: str | None = None,
        decoder_input_ids: Int[np.ndarray, "B T"] | None = None,
    ) -> Output:
        """Texts, or `input_ids` [B, L]; for a multiple-choice head [B, choices, L]. An encoder-decoder also takes what its decoder reads,
        `decoder_input_ids`. `logits` and `last_hidden_state` come back as float32 arrays.

        Raises UserError for ids outside the vocabulary, shapes that disagree, and rows longer than the model's positions.
        """
        _check_list(inputs)
        if isinstance(inputs, Sequence) and inputs and isinstance(inputs[0], str):
            inputs, attention_mask = self.encode(inputs)
        arrays = {"input_ids": inputs, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        arrays["decoder_input_ids"] = decoder_input_ids
        arrays = {name: np.asarray(value) for name, value in arrays.items() if value is not None}
        self._check(arrays)
        if task is not None and not hasattr(self.model, "heads"):
            raise UserError(f"this checkpoint has no heads for tasks, so it has none for {task}")
        names = {"attention_mask": "segment_ids"}  # a mask is one segment and padding
        arrays = {names.get(name, name): jnp.asarray(value, jnp.int32) for name, value in arrays.items()}
        return jax.tree.map(lambda x: np.asarray(x, np.float32), self._forward(self.model, arrays, task))

    def generate(
        self,
        inputs: Sequence[str] | Sequence[Sequence[int]],
        search: Search = GREEDY,
        length: int = 64,
        input_length: int = 512,
        **how: int,
    ) -> list[str] | list[list[int]]:
        """What the model writes for each of the inputs: texts for texts, ids for ids. At most `length` tokens, the likeliest one after
        another unless `search` is another of `models.decoding`; `how`: the `batch_size` and `seed` of a `Generator`. Texts are cut to
        `input_length` tokens, with a warning.
        """
        check_generative(self.blueprint)
        if self.tokenizer is None:
            raise UserError("this checkpoint carries no vocabulary, so it does not know which token ends a text")
        _check_list(inputs)
        texts, given = Texts(self.tokenizer, self.model, input_length), len(inputs) > 0 and isinstance(inputs[0], str)
        if any(isinstance(row, str) != given for row in inputs):
            raise UserError("the inputs are texts and ids mixed; give all as texts or all as ids")
        ids, cut = texts.inputs(inputs) if given else ([[int(index) for index in row] for row in inputs], 0)
        if cut:
            warnings.warn(f"{cut} inputs were longer than {input_length} tokens and were cut (input_length)", stacklevel=2)
        if wrong := [index for row in ids for index in row if not 0 <= index < self.model.config.vocab_size]:
            raise UserError(f"the inputs hold the id {wrong[0]}; the model knows 0 to {self.model.config.vocab_size - 1}")
        key = (search, length, *sorted(how.items()))
        if key not in self._generators:
            self._generators[key] = Generator(self.blueprint, search, length=length, end_id=texts.end_id, pad_id=texts.pad_id, **how)
        answers = self._generators[key](parameters.split(self.model)[1], ids)
        return [texts.text(answer.ids) if given else answer.ids for answer in answers]

    def encode(self, texts: Sequence[str]) -> tuple[Int[np.ndarray, "B L"], Int[np.ndarray, "B L"]]:
        """`input_ids` and `attention_mask` of texts, framed, padded to the longest and cut at the model's positions."""
        if self.tokenizer is None:
            raise UserError("this checkpoint carries no vocabulary, so it takes input_ids and no texts")
        if isinstance(self.model, Generative):
            return _rows(Texts(self.tokenizer, self.model).inputs(texts)[0], self.tokenizer.pad_id or 0)
        encoded = [ids[: self.model.encoder.config.max_length - framing.SINGLE] for ids in self.tokenizer.encode_batch(list(texts))]
        length = max(map(len, encoded)) + framing.SINGLE
        rows = [framing.frame(ids, None, self.tokenizer, length) for ids in encoded]
        return np.stack([row["input_ids"] for row in rows]), np.stack([row["segment_ids"] for row in rows])

    def _check(self, arrays: dict[str, np.ndarray]) -> None:
        config = getattr(self.model, "encoder", self.model).config
        known = {
            "input_ids": config.vocab_size,
            "decoder_input_ids": config.vocab_size,
            "token_type_ids": getattr(config, "token_types", 0),
        }
        self._check_names(arrays, known)
        ids = arrays["input_ids"]
        for name, value in arrays.items():
            if value.dtype.kind not in "iub":
                raise UserError(f"{name} must hold integers, got {value.dtype}")
            if name == "decoder_input_ids" and (value.ndim != 2 or len(value) != len(ids) or not value.size):
                raise UserError(f"{name} has shape {value.shape}; expected [{len(ids)}, T], a row for each of input_ids {ids.shape}")
            if name != "decoder_input_ids" and value.shape != ids.shape:
                raise UserError(f"{name} has shape {value.shape}, input_ids {ids.shape}; they must agree")
        if ids.ndim < 2 or not ids.size:
            raise UserError(f"input_ids must have shape [B, L] with at least one token, got {ids.shape}")
        for name in arrays.keys() & known.keys():
            if arrays[name].min() < 0 or arrays[name].max() >= known[name]:
                raise UserError(f"{name} range from {arrays[name].min()} to {arrays[name].max()}, the model knows 0 to {known[name] - 1}")
        if ids.shape[-1] > getattr(config, "max_length", ids.shape[-1]):  # relative and rotary positions have no end
            raise UserError(f"rows of {ids.shape[-1]} tokens are longer than the {config.max_length} positions of the model")

    def _check_names(self, arrays: dict[str, np.ndarray], known: dict[str, int]) -> None:
        """An encoder-decoder must be given what its decoder reads, others must not; not every model has token types."""
        answers = isinstance(self.model, Generative) and not self.model.continues_inputs
        kind = type(self.model).__name__
        if answers and "decoder_input_ids" not in arrays:
            raise UserError(f"this checkpoint, a {kind}, also takes decoder_input_ids [B, T], what its decoder reads")
        wrong = ["decoder_input_ids"] * (not answers) + ["token_type_ids"] * (not known["token_type_ids"])
        if given := [name for name in wrong if name in arrays]:
            raise UserError(f"this checkpoint, a {kind}, knows no {given[0]}")


def _check_list(inputs: object) -> None:
    """A text is a sequence of characters, and would be read as so many texts."""
    if isinstance(inputs, str):
        raise UserError(f"{inputs[:80]!r} is no list of texts or of ids; one text is [text]")


def _rows(ids: Sequence[Sequence[int]], pad_id: int) -> tuple[Int[np.ndarray, "B L"], Int[np.ndarray, "B L"]]:
    """Padded on the right to the longest, with their mask."""
    mask = np.arange(max(map(len, ids))) < np.array([[len(row)] for row in ids])
    padded = np.full(mask.shape, pad_id, np.int32)
    padded[mask] = np.concatenate(ids)
    return padded, mask.astype(np.int32)


def open_model(directory: str | pathlib.Path, step: int | None = None) -> Loaded:
    """Opens a MODEL_DIR on the first device."""
    config = read_config(directory)
    blueprint, params = load(directory, step=step)
    has_vocabulary = config.vocabulary.get("folder") is not None
    tokenizer = vocabularies.load(vocabulary_of(str(directory))) if has_vocabulary else None
    return Loaded(config, blueprint.merge(params), tokenizer, blueprint)
