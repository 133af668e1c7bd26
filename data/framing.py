"""One or two texts in a row: [CLS] A [SEP], or [CLS] A [SEP] B [SEP] with token type 1 for B and its [SEP].

Also what is left of two texts when they are too long.
"""

from collections.abc import Sequence

import numpy as np

from rootstock.data.tasks import Row
from rootstock.data.vocabularies import Vocabulary

SINGLE = 2  # special pieces around one text
PAIR = 3  # and around two


def longest_first(a: int, b: int, room: int) -> tuple[int, int]:
    """The lengths that are left when the longer of two texts loses one piece after another until both fit (of equal ones B loses it)."""
    if a + b <= room:
        return a, b
    half_b = room // 2
    half_a = room - half_b
    if b <= half_b:
        return room - b, b
    if a <= half_a:
        return a, room - a
    return half_a, half_b


def frame(a: Sequence[int], b: Sequence[int] | None, vocabulary: Vocabulary, length: int) -> Row:
    """A row of `length`; the texts must fit."""
    vocabulary.require("pad", "cls", "sep")
    ids = [vocabulary.cls_id, *a, vocabulary.sep_id]
    first = len(ids)
    if b is not None:
        ids += [*b, vocabulary.sep_id]
    if len(ids) > length:
        raise ValueError(f"{len(ids)} ids with their special pieces do not fit a row of {length}")
    row = {
        "input_ids": np.full(length, vocabulary.pad_id, np.int32),
        "token_type_ids": np.zeros(length, np.int32),
        "segment_ids": np.zeros(length, np.int32),
        "positions": np.zeros(length, np.int32),
    }
    end = len(ids)
    row["input_ids"][:end] = ids
    row["token_type_ids"][first:end] = 1
    row["segment_ids"][:end] = 1
    row["positions"][:end] = np.arange(end)
    return row


def frame_longest_first(a: Sequence[int], b: Sequence[int], vocabulary: Vocabulary, length: int) -> Row:
    """A pair of any lengths, both cut at their ends."""
    keep_a, keep_b = longest_first(len(a), len(b), length - PAIR)
    return frame(a[:keep_a], b[:keep_b], vocabulary, length)
