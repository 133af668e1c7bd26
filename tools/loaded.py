"""A model one can call from plain Python: what `rootstock.load` returns."""

import dataclasses
import pathlib
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
from rootstock.finetune.recipe import vocabulary_of
from rootstock.models.outputs import Output


@dataclasses.dataclass
class Loaded:
    """A model, its configuration and its tokenizer (None where the checkpoint carries no vocabulary)."""

    config: FrozenConfigDict
    model: nnx.Module
    tokenizer: Vocabulary | None

    def __post_init__(self):
        def forward(model, inputs, task):
            return model(**inputs) if task is None else model(**inputs, task=task)

        self._forward = nnx.jit(forward, static_argnums=2)

    def __call__(
        self,
        inputs: Sequence[str] | Int[np.ndarray, "..."],
        attention_mask: Int[np.ndarray, "..."] | None = None,
        token_type_ids: Int[np.ndarray, "..."] | None = None,
        task: str | None = None,
    ) -> Output:
        """Texts, or `input_ids` [B, L]; for a multiple-choice head [B, choices, L]. `logits` and `last_hidden_state` come back as float32
        arrays.

        Raises UserError for ids outside the vocabulary, shapes that disagree, and rows longer than the model's positions.
        """
        if isinstance(inputs, Sequence) and inputs and isinstance(inputs[0], str):
            inputs, attention_mask = self.encode(inputs)
        arrays = {"input_ids": inputs, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        arrays = {name: np.asarray(value) for name, value in arrays.items() if value is not None}
        self._check(arrays)
        if task is not None and not hasattr(self.model, "heads"):
            raise UserError(f"this checkpoint has no heads for tasks, so it has none for {task}")
        names = {"attention_mask": "segment_ids"}  # a mask is one segment and padding
        arrays = {names.get(name, name): jnp.asarray(value, jnp.int32) for name, value in arrays.items()}
        return jax.tree.map(lambda x: np.asarray(x, np.float32), self._forward(self.model, arrays, task))

    def encode(self, texts: Sequence[str]) -> tuple[Int[np.ndarray, "B L"], Int[np.ndarray, "B L"]]:
        """`input_ids` and `attention_mask` of texts, framed, padded to the longest and cut at the model's positions."""
        if self.tokenizer is None:
            raise UserError("this checkpoint carries no vocabulary, so it takes input_ids and no texts")
        encoded = [ids[: self.model.encoder.config.max_length - framing.SINGLE] for ids in self.tokenizer.encode_batch(list(texts))]
        length = max(map(len, encoded)) + framing.SINGLE
        rows = [framing.frame(ids, None, self.tokenizer, length) for ids in encoded]
        return np.stack([row["input_ids"] for row in rows]), np.stack([row["segment_ids"] for row in rows])

    def _check(self, arrays: dict[str, np.ndarray]) -> None:
        ids, config = arrays["input_ids"], self.model.encoder.config
        for name, value in arrays.items():
            if value.dtype.kind not in "iub":
                raise UserError(f"{name} must hold integers, got {value.dtype}")
            if value.shape != ids.shape:
                raise UserError(f"{name} has shape {value.shape}, input_ids {ids.shape}; they must agree")
        if ids.ndim < 2 or not ids.size:
            raise UserError(f"input_ids must have shape [B, L] with at least one token, got {ids.shape}")
        for name, known in (("input_ids", config.vocab_size), ("token_type_ids", config.token_types)):
            if name in arrays and (arrays[name].min() < 0 or arrays[name].max() >= known):
                raise UserError(f"{name} range from {arrays[name].min()} to {arrays[name].max()}, the model knows 0 to {known - 1}")
        if ids.shape[-1] > config.max_length:
            raise UserError(f"rows of {ids.shape[-1]} tokens are longer than the {config.max_length} positions of the model")


def open_model(directory: str | pathlib.Path, step: int | None = None) -> Loaded:
    """Opens a MODEL_DIR on the first device."""
    config = read_config(directory)
    blueprint, params = load(directory, step=step)
    has_vocabulary = config.vocabulary.get("folder") is not None
    return Loaded(config, blueprint.merge(params), vocabularies.load(vocabulary_of(str(directory))) if has_vocabulary else None)
