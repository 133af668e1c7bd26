"""Spans of a text as token indices, and cutting a text so that they stay."""

import re
from collections.abc import Sequence

Span = tuple[int, int]  # [start, end)


def tokens_of(offsets: Sequence[Span], start: int, end: int) -> Span | None:
    """The tokens that overlap the characters [start, end); None if there are none."""
    inside = [i for i, (first, last) in enumerate(offsets) if first < end and last > start]
    return (inside[0], inside[-1] + 1) if inside else None


def keep_around(count: int, spans: Sequence[Span], room: int) -> list[int] | None:
    """Which `room` of `count` tokens to keep: those nearest to a span, in their order. None if the spans alone do not fit."""
    distance = [min(max(start - i, i - end + 1, 0) for start, end in spans) for i in range(count)]
    if distance.count(0) > room:
        return None
    return sorted(sorted(range(count), key=lambda i: (distance[i], i))[:room])


def moved(span: Span, kept: Sequence[int]) -> Span:
    """A span in the indices of the kept tokens, all of its own among them."""
    return kept.index(span[0]), kept.index(span[1] - 1) + 1


def words_at(text: str, index: int, words: str) -> Span | None:
    """The characters of `words`, said to begin at the `index`-th word of `text` (words are what whitespace separates).

    The occurrence nearest to that word counts, since data sets are a word off at times and leave out "'s"; where the words do not occur
    as such ("Kamenev and Zinoviev" for "Kamenev, Stalin and Zinoviev"), as many words from `index` on, if they share one. None when
    nothing fits.
    """
    places = [match.span() for match in re.finditer(r"\S+", text)]
    wanted = words.split()
    if not wanted or not 0 <= index < len(places):
        return None
    start = places[index][0]
    pattern = r"(?<!\w)" + r"\s+".join(map(re.escape, wanted)) + r"(?!\w)"
    found = [match.span() for match in re.finditer(pattern, text, re.IGNORECASE)]
    if found:
        return min(found, key=lambda span: abs(span[0] - start))
    end = places[min(index + len(wanted), len(places)) - 1][1]
    shared = set(_letters(words)) & set(_letters(text[start:end]))
    return (start, end) if shared else None


def _letters(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
