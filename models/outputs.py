"""What every top-level model returns when it is called."""

import numpy as np
from flax import struct
from jaxtyping import Array, Float


@struct.dataclass
class Output:
    """`logits` in float32 (their shape is the head's; None where the model is an encoder alone) and the `last_hidden_state`
    [B, L, width]; numpy arrays outside of a step.
    """

    logits: Float[Array | np.ndarray, "..."] | None
    last_hidden_state: Float[Array | np.ndarray, "B L width"]
