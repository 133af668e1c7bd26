"""Vocabularies: text to ids and back; no TensorFlow. `load` tells the kinds apart by name:

    vocab.txt                   WordPiece (`wordpiece`)
    tokenizer.json              whatever the tokenizers library reads (`tokenizer_json`)
    vocab.json and merges.txt   byte-level BPE, as GPT-2 and RoBERTa have it (`byte_level`)
    *.model                     SentencePiece (`sentence_piece`)
    bytes                       no file: the bytes of the text (`raw_bytes`)

A WordPiece file is read as BERT does (Hugging Face's BertTokenizer: control characters dropped, Chinese characters set apart, accents
stripped when lower-casing), and like there the text "[SEP]" inside a line is the special piece; byte-level BPE does likewise.
SentencePiece and bytes never read a special piece out of text.
"""

import functools
from pathlib import Path
from typing import Any

from rootstock.data import files
from rootstock.data.errors import DataError
from rootstock.data.vocabularies import byte_level, folder, raw_bytes, sentence_piece, tokenizer_json, wordpiece
from rootstock.data.vocabularies.base import HF_SETTINGS, NAMES, SETTINGS, SPECIALS, Vocabulary
from rootstock.data.vocabularies.folder import settle
from rootstock.data.vocabularies.training import train_unigram, train_wordpiece

__all__ = [
    "HF_SETTINGS", "NAMES", "SETTINGS", "SPECIALS", "Vocabulary", "load", "seqio_vocabulary", "settle", "train_unigram", "train_wordpiece",
]  # fmt: skip


def load(path: str | Path, lowercase: bool | None = None, extra_ids: int | None = None) -> Vocabulary:
    """Opens a vocabulary file, "bytes", or a folder that `Vocabulary.save` or Hugging Face's `save_pretrained` wrote.

    `lowercase` matters for WordPiece alone. Left out, it is what the folder's settings say, else True unless the file itself has the piece
    "A", as every cased vocabulary does. `extra_ids`, sentinels behind the last piece, matter for SentencePiece and bytes. Left out, it is
    what the folder's settings say, else 100 for a SentencePiece file with the head of T5's, which has no sentinels itself, and otherwise 0.
    """
    if str(path) != raw_bytes.NAME:
        path = files.resolve(path)
    if Path(path).is_dir() and str(path) != raw_bytes.NAME:
        path, *settled = folder.find(Path(path))
        lowercase, extra_ids = (said if given is None else given for given, said in zip((lowercase, extra_ids), settled, strict=True))
    if extra_ids is not None and extra_ids < 0:
        raise DataError(f"extra_ids is {extra_ids} for the vocabulary '{path}'; expected 0 or more.")
    if str(path) == raw_bytes.NAME:
        return raw_bytes.Bytes(extra_ids or 0)
    parts = byte_level.pair(Path(path)) if byte_level.is_one(Path(path)) else (Path(path),)
    return _load(str(path), lowercase, extra_ids, tuple((part.stat().st_mtime_ns, part.stat().st_size) for part in parts))


@functools.lru_cache(maxsize=8)
def _load(name: str, lowercase: bool | None, extra_ids: int | None, versions: tuple) -> Vocabulary:
    path = Path(name)
    if byte_level.is_one(path):
        return byte_level.load(path)
    if path.suffix == ".model":
        return sentence_piece.load(path, extra_ids)
    if path.suffix == ".json":
        return tokenizer_json.load(path)
    if path.suffix == ".txt":
        return wordpiece.load(path, lowercase)
    raise DataError(
        f"'{path}' is no vocabulary by its name: expected vocab.txt (WordPiece), tokenizer.json, vocab.json and merges.txt "
        f"(byte-level BPE), *.model (SentencePiece) or '{raw_bytes.NAME}'."
    )


def seqio_vocabulary(vocabulary: Vocabulary) -> Any:
    """The same vocabulary as seqio knows it: seqio's own class where it has one with the same ids. Needs the extra `data`."""
    return vocabulary.seqio()
