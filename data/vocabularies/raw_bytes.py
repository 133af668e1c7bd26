"""Bytes as ids (ByT5: Xue et al. 2021, arXiv 2105.13626): <pad>, </s>, <unk>, then the 256 bytes of UTF-8, then `extra_ids` sentinels.

Sentinels count down from the top. Without extra ids, as in the released models, they are the last 100 bytes from 258 down (section 3.2).
"""

import hashlib
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, SupportsInt

from rootstock.data.vocabularies import base

NAME = "bytes"

_SPECIALS = ("<pad>", "</s>", "<unk>")
_OFFSET = len(_SPECIALS)
_BYTES = 256
_REUSED = 100


class Bytes(base.Vocabulary):
    """There is no file to it."""

    def __init__(self, extra_ids: int):
        self.path, self.files, self.lowercase = NAME, (), False
        self.extra_ids = extra_ids
        self.checksum = hashlib.sha256(f"{NAME} {extra_ids}".encode()).hexdigest()
        self.size = _OFFSET + _BYTES + extra_ids
        self._sentinels = {f"<extra_id_{i}>": self.size - 1 - i for i in range(extra_ids or _REUSED)}
        self._find_specials()

    def id_of(self, piece: str) -> int | None:
        if piece in _SPECIALS:
            return _SPECIALS.index(piece)
        if len(piece) == 1 and ord(piece) < _BYTES:
            return _OFFSET + ord(piece)
        return self._sentinels.get(piece)

    def piece_of(self, index: int) -> str:
        if index >= _OFFSET + _BYTES:
            return f"<extra_id_{self.size - 1 - index}>"
        return _SPECIALS[index] if index < _OFFSET else chr(index - _OFFSET)

    def encode(self, text: str) -> list[int]:
        return [_OFFSET + byte for byte in text.encode()]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """All bytes of a character stand for it."""
        return self.encode(text), [(i, i + 1) for i, character in enumerate(text) for _ in character.encode()]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """Bytes that are not UTF-8 are left out, as ByT5 does."""
        runs = itertools.groupby(map(int, ids), key=lambda index: _OFFSET <= index < _OFFSET + _BYTES)
        return "".join(
            bytes(index - _OFFSET for index in run).decode(errors="ignore") if are_bytes else "".join(map(self.piece_of, run))
            for are_bytes, run in runs
        )

    def export(self, directory: str | Path) -> None:
        base.write_hf_settings(directory, tokenizer_class="ByT5Tokenizer", extra_ids=self.extra_ids)

    def seqio(self) -> Any:
        import seqio

        return seqio.ByteVocabulary(extra_ids=self.extra_ids)
