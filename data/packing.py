"""Packing: several short pieces of text, or several pairs of inputs and targets, share a row of fixed length.

`segment_ids` number the pieces of a row from 1 (0 is padding) and `positions` restart at 0 in each, so attention held to equal segments
makes a piece the same alone and packed. A piece of an encoder's row is framed as [CLS] ... [SEP]; inputs and targets of a pair are taken
as they are (with their end of sequence) and have the same segment number. A piece goes to the open row with the least room that still
fits it (best fit); when more than `open_rows` are open the fullest is given out. Streaming, deterministic, memory bounded by `open_rows`
rows.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Int32

from rootstock.data.errors import DataError
from rootstock.data.vocabularies import Vocabulary

Row = dict[str, Int32[np.ndarray, "L"]]
Ids = Int32[np.ndarray, "_"]
PairRow = dict[str, Ids]
Pair = tuple[Sequence[int], Sequence[int]]  # inputs, targets

FRAME = 2  # [CLS] and [SEP]


def cut(ids: Sequence[int], length: int) -> Iterator[Sequence[int]]:
    """A document's ids as pieces that fit a row of `length` with their frame."""
    step = length - FRAME
    return (ids[start : start + step] for start in range(0, len(ids), step))


def pack(pieces: Iterable[Sequence[int]], length: int, vocabulary: Vocabulary, open_rows: int = 256) -> Iterator[Row]:
    """Rows of `length` that hold every piece once, in one stretch. Pieces are ids without [CLS] and [SEP]; empty ones are skipped."""
    vocabulary.require("pad", "cls", "sep")
    if length <= FRAME:
        raise DataError(f"the length of a row is {length}; it must be more than the {FRAME} of [CLS] and [SEP].")
    with_room: dict[int, list[list[Sequence[int]]]] = defaultdict(list)  # room -> open rows, oldest first
    rooms = 0  # the set of rooms that some open row has, as bits: the best fit is one shift and one lowest bit away
    count = 0

    for piece in pieces:
        need = len(piece) + FRAME
        if need == FRAME:
            continue
        if need > length:
            raise DataError(f"a piece of {len(piece)} ids does not fit a row of {length}: between [CLS] and [SEP] are {length - FRAME}.")
        fitting = rooms >> need
        if fitting:
            room = need + (fitting & -fitting).bit_length() - 1
            row = with_room[room].pop(0)
            if not with_room[room]:
                rooms &= ~(1 << room)
        else:
            room, row = length, []
            count += 1
        row.append(piece)
        room -= need
        if room <= FRAME:  # not even one id fits any more
            count -= 1
            yield frame_row(row, length, vocabulary)
            continue
        with_room[room].append(row)
        rooms |= 1 << room
        if count > open_rows:
            fullest = (rooms & -rooms).bit_length() - 1
            count -= 1
            yield frame_row(with_room[fullest].pop(0), length, vocabulary)
            if not with_room[fullest]:
                rooms &= ~(1 << fullest)

    for room in sorted(with_room):
        for row in with_room[room]:
            yield frame_row(row, length, vocabulary)


def frame_row(pieces: Iterable[Sequence[int]], length: int, vocabulary: Vocabulary) -> Row:
    """One row of the given pieces."""
    ids = np.full(length, vocabulary.pad_id, np.int32)
    segments = np.zeros(length, np.int32)
    positions = np.zeros(length, np.int32)
    start = 0
    for segment, piece in enumerate(pieces, start=1):
        end = start + len(piece) + FRAME
        ids[start] = vocabulary.cls_id
        ids[start + 1 : end - 1] = piece
        ids[end - 1] = vocabulary.sep_id
        segments[start:end] = segment
        positions[start:end] = np.arange(end - start)
        start = end
    return {"input_ids": ids, "token_type_ids": np.zeros(length, np.int32), "segment_ids": segments, "positions": positions}


def pack_pairs(
    pairs: Iterable[Pair], input_length: int, target_length: int, vocabulary: Vocabulary, open_rows: int = 256
) -> Iterator[PairRow]:
    """Rows of `fields.pair_fields` that hold every pair once. The fit of a pair is measured on the fuller side of a row."""
    vocabulary.require("pad")
    lengths = np.array([input_length, target_length])
    rooms = np.zeros((open_rows + 1, 2), np.int64)  # of the open rows, oldest first
    rows: list[list[Pair]] = []

    def give_out(place: int) -> PairRow:
        rooms[place:-1] = rooms[place + 1 :]
        return _pairs_row(rows.pop(place), input_length, target_length, vocabulary)

    for pair in pairs:
        need = np.array([len(side) for side in pair])
        if not (0 < need).all() or (need > lengths).any():
            raise DataError(
                f"a pair of {need[0]} inputs and {need[1]} targets does not fit a row: expected 1 to {input_length} inputs "
                f"and 1 to {target_length} targets."
            )
        left = rooms[: len(rows)] - need
        fitting = np.flatnonzero((left >= 0).all(1))
        if len(fitting):
            place = int(fitting[(left[fitting] / lengths).min(1).argmin()])
        else:
            place = len(rows)
            rows.append([])
            rooms[place] = lengths
        rows[place].append(pair)
        rooms[place] -= need
        if not rooms[place].all():
            yield give_out(place)
        elif len(rows) > open_rows:
            yield give_out(int((rooms[: len(rows)] / lengths).min(1).argmin()))
    while rows:
        yield give_out(0)


def _pairs_row(pairs: list[Pair], input_length: int, target_length: int, vocabulary: Vocabulary) -> PairRow:
    row = {}
    for side, prefix, length in ((0, "", input_length), (1, "target_", target_length)):
        ids = np.full(length, vocabulary.pad_id, np.int32)
        segments, positions = np.zeros(length, np.int32), np.zeros(length, np.int32)
        start = 0
        for segment, pair in enumerate(pairs, start=1):
            end = start + len(pair[side])
            ids[start:end] = pair[side]
            segments[start:end] = segment
            positions[start:end] = np.arange(end - start)
            start = end
        row |= {prefix + "segment_ids": segments, prefix + "positions": positions, prefix + "ids" if prefix else "input_ids": ids}
    return row
