"""Which pieces of a vocabulary go on with the word before them."""

import numpy as np
from jaxtyping import Bool

from rootstock.data.vocabularies.base import Vocabulary

_WORDPIECE = "##"  # in front of what continues
_BEGINNINGS = ("▁", "Ġ")  # in front of what begins: SentencePiece, byte-level BPE
_SPACES = ("Ċ", "ĉ", "č")  # newline, tab and carriage return as byte-level BPE writes them


def continuing(vocabulary: Vocabulary) -> Bool[np.ndarray, " size"]:
    """By id. WordPiece: pieces with "##". SentencePiece and byte-level BPE: pieces without the mark of a blank, save special pieces, single
    punctuation marks and white space, which stand alone, as in DeBERTa's released code. Bytes, which know no words, all stand alone.
    """
    pieces = [vocabulary.piece_of(index) for index in range(vocabulary.size)]
    if any(piece.startswith(_WORDPIECE) for piece in pieces):
        found = [piece.startswith(_WORDPIECE) for piece in pieces]
    elif any(piece.startswith(_BEGINNINGS) for piece in pieces):
        bytewise = any(piece.startswith("Ġ") for piece in pieces)
        alone = lambda piece: piece.startswith((*_BEGINNINGS, *_SPACES)) or _special(piece) or _mark(piece, bytewise)
        found = [not alone(piece) for piece in pieces]
    else:
        found = [False] * len(pieces)
    found = np.asarray(found)
    found[list(vocabulary.special_ids)] = False
    return found


def _mark(piece: str, bytewise: bool) -> bool:
    """Of byte-level BPE only ASCII is looked at: any other character there is a byte of some letter."""
    return len(piece) == 1 and not piece.isalnum() and (piece.isascii() or not bytewise)


def _special(piece: str) -> bool:
    return len(piece) > 2 and piece[0] + piece[-1] in ("<>", "[]")
