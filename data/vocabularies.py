"""Vocabularies: text to ids and back. WordPiece `vocab.txt`, `tokenizer.json`, SentencePiece `*.model`; no TensorFlow.

`load` tells them apart by name. A WordPiece file is read as BERT does (Hugging Face's BertTokenizer: control characters dropped,
Chinese characters set apart, accents stripped when lower-casing), and like there the text "[SEP]" inside a line is the special piece.
SentencePiece never reads a special piece out of text.
"""

import abc
import functools
import hashlib
import json
import shutil
import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, SupportsInt

from rootstock.data import files
from rootstock.data.errors import DataError

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # in this order at the head of a vocabulary that we train
SETTINGS = "vocabulary.json"
HF_SETTINGS = "tokenizer_config.json"

# What other vocabularies call them (RoBERTa, ALBERT, XLNet, T5), in order of preference.
_NAMES = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<cls>", "<s>"),
    "sep": ("[SEP]", "<sep>", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}


class Vocabulary(abc.ABC):
    """One vocabulary file. Ids of special pieces are None where the file has no such piece (T5 has no [MASK])."""

    size: int

    def __init__(self, path: Path, lowercase: bool):
        self.path = str(path)
        self.lowercase = lowercase
        self.checksum = hashlib.sha256(path.read_bytes()).hexdigest()

    def _find_specials(self) -> None:
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (self._first_of(_NAMES[kind]) for kind in _NAMES)
        self.special_ids = tuple(sorted({i for i in (self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id) if i is not None}))

    def _first_of(self, names: Sequence[str]) -> int | None:
        return next((i for i in map(self.id_of, names) if i is not None), None)

    def require(self, *kinds: str) -> None:
        """Raises unless the vocabulary has each of these special pieces: "pad", "unk", "cls", "sep", "mask"."""
        missing = [kind for kind in kinds if getattr(self, f"{kind}_id") is None]
        if missing:
            wanted = "; ".join(f"{kind}: {' or '.join(_NAMES[kind])}" for kind in missing)
            raise DataError(f"the vocabulary '{self.path}' lacks a piece that this task needs ({wanted}).")

    @abc.abstractmethod
    def id_of(self, piece: str) -> int | None:
        """The id of one piece, None if there is no such piece."""

    @abc.abstractmethod
    def piece_of(self, index: int) -> str:
        """The piece with this id."""

    @abc.abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of a text, nothing added at its ends."""

    @abc.abstractmethod
    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, and for each the characters [start, end) of `text` that it stands for."""

    @abc.abstractmethod
    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """`encode` of many texts at once, on all cores."""

    @abc.abstractmethod
    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """Text for people to read; special pieces are shown."""

    def save(self, directory: str | Path) -> None:
        """Copies the file into `directory`, with what `load(directory)` needs to read it the same way."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        name = Path(self.path).name
        if Path(self.path).resolve() != (directory / name).resolve():
            shutil.copyfile(self.path, directory / name)
        (directory / SETTINGS).write_text(json.dumps({"file": name, "lowercase": self.lowercase}) + "\n")

    @abc.abstractmethod
    def export(self, directory: str | Path) -> None:
        """Writes into `directory` what Hugging Face's tokenizers read."""

    def __reduce__(self):
        return load, (self.path, self.lowercase)


class _Tokenizers(Vocabulary):
    """A vocabulary that the `tokenizers` library reads."""

    def __init__(self, path: Path, lowercase: bool, tokenizer):
        super().__init__(path, lowercase)
        self._tokenizer = tokenizer
        self.size = tokenizer.get_vocab_size(with_added_tokens=True)
        self._find_specials()

    def id_of(self, piece: str) -> int | None:
        return self._tokenizer.token_to_id(piece)

    def piece_of(self, index: int) -> str:
        return self._tokenizer.id_to_token(index)

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)

    def export(self, directory: str | Path) -> None:
        directory = Path(directory)
        self._tokenizer.save(str(directory / "tokenizer.json"))
        ids = {f"{kind}_token": getattr(self, f"{kind}_id") for kind in _NAMES}
        # This class takes tokenizer.json as it is; BertTokenizer would build its own normaliser over it.
        settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | {name: self.piece_of(i) for name, i in ids.items() if i is not None}
        if Path(self.path).suffix == ".txt":
            shutil.copyfile(self.path, directory / "vocab.txt")
            settings["do_lower_case"] = self.lowercase
        (directory / HF_SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")


class _SentencePiece(Vocabulary):
    def __init__(self, path: Path, processor):
        super().__init__(path, lowercase=False)
        self._processor = processor
        self._pieces = processor.get_piece_size()
        # DeBERTa-v3's file has [CLS] and [SEP] but its [MASK] lies behind the last piece.
        self._added = ("[MASK]",) if self._known("[CLS]") is not None and self._known("[MASK]") is None else ()
        self.size = self._pieces + len(self._added)
        self._find_specials()

    def _known(self, piece: str) -> int | None:
        index = self._processor.piece_to_id(piece)
        return index if self._processor.id_to_piece(index) == piece else None

    def id_of(self, piece: str) -> int | None:
        return self._pieces + self._added.index(piece) if piece in self._added else self._known(piece)

    def piece_of(self, index: int) -> str:
        return self._processor.id_to_piece(index) if index < self._pieces else self._added[index - self._pieces]

    def encode(self, text: str) -> list[int]:
        return self._processor.encode(text, return_type=int)

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        mapping = self._processor.encode(text, return_type="offset_mapping")
        return list(mapping["ids"]), [tuple(offset) for offset in mapping["offsets"]]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return self._processor.encode(texts, return_type=int)

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        return self._processor.decode_pieces([self.piece_of(int(i)) for i in ids])

    def export(self, directory: str | Path) -> None:
        shutil.copyfile(self.path, Path(directory) / "spiece.model")


def load(path: str | Path, lowercase: bool | None = None) -> Vocabulary:
    """Opens a vocabulary file, or a folder that `Vocabulary.save` or Hugging Face's `save_pretrained` wrote.

    `lowercase` matters for WordPiece alone. Left out, it is what the folder's settings say, else True unless the file itself
    has the piece "A", as every cased vocabulary does. In a folder of Hugging Face tokenizer.json goes before vocab.txt: it alone says
    everything of how the text is read.
    """
    path = files.resolve(path)
    if path.is_dir():
        path, settled = _in_folder(path)
        lowercase = settled if lowercase is None else lowercase
    status = path.stat()
    return _load(str(path), lowercase, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=8)
def _load(name: str, lowercase: bool | None, modified: int, size: int) -> Vocabulary:
    path = Path(name)
    if path.suffix == ".model":
        return _load_sentencepiece(path)
    if path.suffix == ".json":
        return _load_json(path)
    if path.suffix == ".txt":
        return _load_wordpiece(path, lowercase)
    raise DataError(f"'{path}' is no vocabulary by its name: expected vocab.txt (WordPiece), tokenizer.json or *.model (SentencePiece).")


def _in_folder(folder: Path) -> tuple[Path, bool | None]:
    if (folder / SETTINGS).is_file():
        found = _settings(folder / SETTINGS, {"lowercase": (True, False, None)})
        if not isinstance(found.get("file"), str) or not (folder / found["file"]).is_file():
            raise DataError(f"'{folder / SETTINGS}' names the file {found.get('file')!r}, which is not beside it.")
        return folder / found["file"], found.get("lowercase")
    for pattern in ("tokenizer.json", "vocab.txt", "*.model"):
        for path in sorted(folder.glob(pattern)):
            return path, _hf_settings(folder)["do_lower_case"] if pattern == "vocab.txt" else None
    raise DataError(f"the folder '{folder}' holds no vocabulary: expected vocab.txt, tokenizer.json or *.model.")


def _settings(path: Path, choices: dict[str, tuple]) -> dict[str, Any]:
    """A JSON object, of which some fields must have one of a few values where they are there."""
    try:
        found = json.loads(files.open_text(path).read())
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"'{path}' is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"'{path}' holds no JSON object.")
    for name, known in choices.items():
        if name in found and not any(found[name] is value for value in known):
            raise DataError(f"'{path}' has {name} {found[name]!r}; expected one of {', '.join(map(repr, known))}.")
    return found


def _hf_settings(folder: Path) -> dict[str, bool | None]:
    """How Hugging Face reads the vocab.txt of a folder; its defaults where nothing is said, but for `do_lower_case`."""
    said: dict[str, bool | None] = {"do_lower_case": None, "strip_accents": None, "tokenize_chinese_chars": True}
    path = folder / HF_SETTINGS
    found = _settings(path, dict.fromkeys(said, (True, False, None))) if path.is_file() else {}
    return {name: found.get(name, value) for name, value in said.items()}


def settle(folder: str | Path) -> None:
    """Brings to one what a folder of Hugging Face says in several files. vocab.txt and tokenizer.json must agree; where there is no
    tokenizer.json it is written, if tokenizer_config.json says more of the reading than vocab.txt and its case can.
    """
    from tokenizers import BertWordPieceTokenizer

    folder = Path(folder)
    listed, whole = folder / "vocab.txt", folder / "tokenizer.json"
    if not listed.is_file():
        return
    if whole.is_file():
        known = _load_json(whole)
        for index, piece in enumerate(_pieces(listed)):
            if known.id_of(piece) != index:
                raise DataError(f"'{listed}' line {index + 1} has the piece '{piece}', whose id in '{whole.name}' is {known.id_of(piece)}.")
        return
    said = _hf_settings(folder)
    lowercase, accents, chinese = said["do_lower_case"], said["strip_accents"], said["tokenize_chinese_chars"] is not False
    if accents is not None or not chinese:
        pieces = _pieces(listed)
        lowercase = "A" not in pieces if lowercase is None else lowercase
        tokenizer = BertWordPieceTokenizer(pieces, lowercase=lowercase, strip_accents=accents, handle_chinese_chars=chinese)
        tokenizer.save(str(whole))


def _load_wordpiece(path: Path, lowercase: bool | None) -> Vocabulary:
    from tokenizers import BertWordPieceTokenizer

    vocabulary = _pieces(path)
    lowercase = "A" not in vocabulary if lowercase is None else lowercase
    return _Tokenizers(path, lowercase, BertWordPieceTokenizer(vocabulary, lowercase=lowercase)._tokenizer)


def _pieces(path: Path) -> dict[str, int]:
    """The pieces of a vocab.txt, in order, with their ids."""
    pieces = files.open_text(path).read().split("\n")
    if pieces[-1] == "":
        pieces.pop()
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    missing = [piece for piece in SPECIALS if piece not in vocabulary]
    if missing:
        raise DataError(f"'{path}' is no BERT vocabulary: of its {len(pieces):,} lines none is {' or '.join(missing)}.")
    if len(vocabulary) != len(pieces):
        line = next(i for i, piece in enumerate(pieces) if vocabulary[piece] != i)
        raise DataError(f"'{path}' line {line + 1}: the piece '{pieces[line]}' stands again on line {vocabulary[pieces[line]] + 1}.")
    return vocabulary


def _load_json(path: Path) -> Vocabulary:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise DataError(f"'{path}' is not a tokenizer.json that the tokenizers library reads: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return _Tokenizers(path, False, tokenizer)


def _load_sentencepiece(path: Path) -> Vocabulary:
    import sentencepiece

    try:
        return _SentencePiece(path, sentencepiece.SentencePieceProcessor(model_file=str(path)))
    except (RuntimeError, OSError) as error:
        raise DataError(f"'{path}' is not a SentencePiece model: {error}") from error


def train_wordpiece(texts: Iterable[str], size: int, path: str | Path, lowercase: bool = True) -> Vocabulary:
    """Trains WordPiece on texts (documents, or lines of files), writes `path` (a vocab.txt) and opens it.

    Ids 0 to 4 are the special pieces in the order of `SPECIALS`, then comes all of ASCII, so that neither "(" nor "1918" is unknown to
    a model whose corpus lacks them, then what the texts hold: their 1,000 commonest characters and merges of those.
    """
    from tokenizers import BertWordPieceTokenizer

    path = Path(path)
    if path.suffix != ".txt":
        raise DataError(f"a WordPiece vocabulary is written as a .txt file, not '{path}'.")
    letters = string.ascii_lowercase + string.digits + ("" if lowercase else string.ascii_uppercase)
    # Given as special pieces the alphabet has fixed ids; else the library numbers it in the order of its hash table, which is random.
    first = [*SPECIALS, *string.punctuation, *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = BertWordPieceTokenizer(lowercase=lowercase)
    tokenizer.train_from_iterator(texts, vocab_size=size, special_tokens=first, show_progress=False)
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
    if len(pieces) < size:
        raise DataError(f"the texts give {len(pieces):,} pieces, {size:,} were asked for: give more text or a smaller size.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return load(path, lowercase)


def seqio_vocabulary(vocabulary: Vocabulary) -> Any:
    """The same vocabulary as seqio knows it. Needs the extra `data`. [SEP] is its end of sequence."""
    import numpy as np
    import seqio
    import tensorflow as tf

    class Adapter(seqio.Vocabulary):
        """Encoding inside tf.data calls back into Python."""

        @property
        def bos_id(self):
            return vocabulary.cls_id

        @property
        def eos_id(self):
            return vocabulary.sep_id

        @property
        def pad_id(self):
            return vocabulary.pad_id

        @property
        def unk_id(self):
            return vocabulary.unk_id

        @property
        def _base_vocab_size(self):
            return vocabulary.size

        def _encode(self, s):
            return vocabulary.encode(s)

        def _decode(self, ids):
            return vocabulary.decode(ids)

        def _encode_tf(self, s):
            def encode(text):  # bytes inside a graph, an array of one outside
                return np.array(vocabulary.encode(np.asarray(text, object).item().decode()), np.int32)

            return tf.ensure_shape(tf.numpy_function(encode, [s], tf.int32), [None])

        def _decode_tf(self, ids):
            def decode(array):
                flat = [vocabulary.decode(row).encode() for row in array.reshape(-1, array.shape[-1])]
                return np.array(flat, object).reshape(array.shape[:-1])

            return tf.ensure_shape(tf.numpy_function(decode, [ids], tf.string), ids.shape[:-1])

        def __eq__(self, other):  # a mixture asks whether its tasks agree
            return getattr(other, "checksum", None) == self.checksum

        checksum = vocabulary.checksum

    return Adapter()
