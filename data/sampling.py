"""An even sample of a stream of texts in bounded memory."""

import random
from collections.abc import Iterable, Iterator

PIECE = 4000  # characters


def sample(texts: Iterable[str], characters: int) -> list[str]:
    """Pieces of lines, in their order, of `characters` at most and at least half as many where there are so many; all if they are fewer.

    Every piece has the same chance. The same texts give the same sample.
    """
    chance = random.Random(0)
    share = 1.0
    kept: list[tuple[float, str]] = []
    size = 0
    for piece in pieces(texts):
        lot = chance.random()
        if lot >= share:
            continue
        kept.append((lot, piece))
        size += len(piece)
        while size > characters:
            share /= 2
            kept = [(lot, piece) for lot, piece in kept if lot < share]
            size = sum(len(piece) for _, piece in kept)
    return [piece for _, piece in kept]


def pieces(texts: Iterable[str]) -> Iterator[str]:
    """The lines of the texts, long ones cut between words to `PIECE` characters."""
    for text in texts:
        for line in text.splitlines():
            start = 0
            while len(line) - start > PIECE:
                blank = line.rfind(" ", start + 1, start + PIECE)
                end = start + PIECE if blank < 0 else blank
                yield line[start:end]
                start = end
            if line[start:].strip():
                yield line[start:]
