"""Text files into documents, the same way whether a paragraph is one line or many, with or without blank lines between.

A document is a run of paragraphs. It ends where two or more lines are blank (a chapter, in most plain texts), unless it is still
a mere heading, or at the first blank line after `characters` characters, or at the first line after a quarter more.
Lines of a paragraph are joined by a space, paragraphs by a newline.
"""

import hashlib
from collections.abc import Iterable, Iterator

GAP = 2  # blank lines in a row
HEADING = 256  # characters: what is shorter stays with what follows


def documents(lines: Iterable[str], characters: int = 4096) -> Iterator[str]:
    """The documents of one file, in order; blank ones do not occur."""
    parts: list[str] = []
    size = blanks = 0
    for line in lines:
        line = line.strip()
        if not line:
            blanks += 1
            if size >= HEADING and (blanks >= GAP or size >= characters):
                yield "".join(parts)
                parts, size = [], 0
            continue
        if size >= characters * 5 // 4:
            yield "".join(parts)
            parts, size = [], 0
        if parts:
            parts.append("\n" if blanks else " ")
        parts.append(line)
        size += len(line) + 1
        blanks = 0
    if parts:
        yield "".join(parts)


def held_out(document: str, fraction: float) -> bool:
    """Whether a document belongs to the validation split: a hash of its text decides, so equal documents never stand in both splits."""
    digest = hashlib.blake2b(document.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64
