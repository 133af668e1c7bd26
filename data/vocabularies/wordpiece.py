"""WordPiece out of a vocab.txt, read as BERT does."""

import shutil
from pathlib import Path
from typing import Any

from rootstock.data import files
from rootstock.data.errors import DataError
from rootstock.data.vocabularies import base
from rootstock.data.vocabularies.tokenizer_json import TokenizersVocabulary


class WordPiece(TokenizersVocabulary):
    """A piece a line."""

    def export(self, directory: str | Path) -> None:
        super().export(directory)
        shutil.copyfile(self.path, Path(directory) / "vocab.txt")

    def _hf_settings(self) -> dict[str, Any]:
        return super()._hf_settings() | {"do_lower_case": self.lowercase}


def load(path: Path, lowercase: bool | None) -> WordPiece:
    """`lowercase` left out is True unless the file has the piece "A"."""
    from tokenizers import BertWordPieceTokenizer

    vocabulary = pieces(path)
    lowercase = is_lowercase(vocabulary) if lowercase is None else lowercase
    return WordPiece(BertWordPieceTokenizer(vocabulary, lowercase=lowercase)._tokenizer, path, lowercase=lowercase)


def is_lowercase(vocabulary: dict[str, int]) -> bool:
    """Every cased vocabulary has the piece "A"."""
    return "A" not in vocabulary


def pieces(path: Path) -> dict[str, int]:
    """The pieces of a vocab.txt, in order, with their ids."""
    lines = files.open_text(path).read().split("\n")
    if lines[-1] == "":
        lines.pop()
    vocabulary = {piece: index for index, piece in enumerate(lines)}
    missing = [piece for piece in base.SPECIALS if piece not in vocabulary]
    if missing:
        raise DataError(f"'{path}' is no BERT vocabulary: of its {len(lines):,} lines none is {' or '.join(missing)}.")
    if len(vocabulary) != len(lines):
        line = next(i for i, piece in enumerate(lines) if vocabulary[piece] != i)
        raise DataError(f"'{path}' line {line + 1}: the piece '{lines[line]}' stands again on line {vocabulary[lines[line]] + 1}.")
    return vocabulary
