"""The fields of a row: name, fixed shape, dtype. A row is one record of plain bytes."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from rootstock.data.errors import DataError

DTYPES = ("int32", "float32")


@dataclasses.dataclass(frozen=True)
class Field:
    """One array of every row."""

    shape: tuple[int, ...]
    dtype: str = "int32"

    def __post_init__(self):
        if self.dtype not in DTYPES:
            raise DataError(f"a field has dtype {self.dtype}; expected one of {', '.join(DTYPES)}.")


Fields = Mapping[str, Field]


def record_dtype(fields: Fields) -> np.dtype:
    """The layout of one row: its fields one after another in the order of `fields`, little-endian, unpadded."""
    return np.dtype([(name, np.dtype(field.dtype).newbyteorder("<"), field.shape) for name, field in fields.items()])


def sequence_fields(length: int) -> dict[str, Field]:
    """What every encoder task has: `segment_ids` are 0 where there is padding, `positions` restart in each piece."""
    return {name: Field((length,)) for name in ("input_ids", "token_type_ids", "segment_ids", "positions")}


def pair_fields(input_length: int, target_length: int) -> dict[str, Field]:
    """What every encoder-decoder task has; inputs and targets that belong together have the same segment number."""
    inputs = {name: Field((input_length,)) for name in ("input_ids", "segment_ids", "positions")}
    return inputs | {name: Field((target_length,)) for name in ("target_ids", "target_segment_ids", "target_positions")}
