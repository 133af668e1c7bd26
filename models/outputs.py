"""What every top-level model returns when it is called."""

from flax import struct
from jaxtyping import Array, Float


@struct.dataclass
class Output:
    """`logits` in float32 (their shape is the head's) and the encoder's `last_hidden_state` [B, L, width]."""

    logits: Float[Array, "..."]
    last_hidden_state: Float[Array, "B L width"]
