"""Rootstock: pretrain, upcycle, fine-tune and evaluate language models in JAX, from two cores to a pod with the same recipes.

model = rootstock.load("runs/demo_bert")
output = model(["The cat sat on the [MASK]."])     # logits and last_hidden_state as numpy arrays
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rootstock.tools.loaded import Loaded


def load(directory: str, step: int | None = None) -> "Loaded":
    """The model of a MODEL_DIR with its tokenizer, ready to be called. Raises UserError if there is no readable checkpoint."""
    from rootstock.tools.loaded import open_model

    return open_model(directory, step)
