"""Folders with a vocabulary: those that `Vocabulary.save` wrote, and Hugging Face's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rootstock.data import files
from rootstock.data.errors import DataError
from rootstock.data.vocabularies import base, byte_level, raw_bytes, tokenizer_json, wordpiece

_BYT5 = "ByT5Tokenizer"  # the one tokenizer of Hugging Face that has no file


class Found(NamedTuple):
    """What a folder holds and says of it; None where it says nothing."""

    path: Path
    lowercase: bool | None = None
    extra_ids: int | None = None


def find(folder: Path) -> Found:
    """In a folder of Hugging Face tokenizer.json goes before the others: it alone says everything of how the text is read."""
    if (folder / base.SETTINGS).is_file():
        return _saved(folder)
    said = _hf_settings(folder)
    for pattern in ("tokenizer.json", "vocab.txt", byte_level.VOCABULARY, "*.model"):
        for path in sorted(folder.glob(pattern)):
            return Found(path, said["do_lower_case"] if pattern == "vocab.txt" else None, said["extra_ids"])
    if said["tokenizer_class"] == _BYT5:
        # Its 125 extra ids pad the model's table; the released models were trained with bytes as sentinels.
        return Found(Path(raw_bytes.NAME), extra_ids=0)
    raise DataError(
        f"the folder '{folder}' holds no vocabulary: expected vocab.txt, tokenizer.json, vocab.json and merges.txt, or *.model."
    )


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
        known = tokenizer_json.load(whole)
        for index, piece in enumerate(wordpiece.pieces(listed)):
            if known.id_of(piece) != index:
                raise DataError(f"'{listed}' line {index + 1} has the piece '{piece}', whose id in '{whole.name}' is {known.id_of(piece)}.")
        return
    said = _hf_settings(folder)
    lowercase, accents, chinese = said["do_lower_case"], said["strip_accents"], said["tokenize_chinese_chars"] is not False
    if accents is not None or not chinese:
        pieces = wordpiece.pieces(listed)
        lowercase = wordpiece.is_lowercase(pieces) if lowercase is None else lowercase
        tokenizer = BertWordPieceTokenizer(pieces, lowercase=lowercase, strip_accents=accents, handle_chinese_chars=chinese)
        tokenizer.save(str(whole))


def _saved(folder: Path) -> Found:
    note = folder / base.SETTINGS
    found = _settings(note, {"lowercase": _switch, "extra_ids": _count})
    name = found.get("file")
    if not isinstance(name, str) or not (name == raw_bytes.NAME or (folder / name).is_file()):
        raise DataError(f"'{note}' names the file {name!r}, which is not beside it.")
    path = Path(name) if name == raw_bytes.NAME else folder / name
    return Found(path, found.get("lowercase"), found.get("extra_ids"))


def _hf_settings(folder: Path) -> dict[str, Any]:
    """How Hugging Face reads the files of a folder; its defaults where nothing is said, but for `do_lower_case`."""
    kinds = {
        "do_lower_case": _switch,
        "strip_accents": _switch,
        "tokenize_chinese_chars": _switch,
        "extra_ids": _count,
        "tokenizer_class": _name,
    }
    path = folder / base.HF_SETTINGS
    found = _settings(path, kinds) if path.is_file() else {}
    return dict.fromkeys(kinds) | {"tokenize_chinese_chars": True} | {name: found[name] for name in kinds if name in found}


def _switch(value: Any) -> str | None:
    return None if value is None or isinstance(value, bool) else "expected one of True, False, None"


def _count(value: Any) -> str | None:
    right = value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)
    return None if right else "expected a whole number, 0 or more"


def _name(value: Any) -> str | None:
    return None if value is None or isinstance(value, str) else "expected a name"


def _settings(path: Path, kinds: dict[str, Callable[[Any], str | None]]) -> dict[str, Any]:
    """A JSON object, some fields of which must be of a kind where they are there."""
    try:
        found = json.loads(files.open_text(path).read())
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"'{path}' is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"'{path}' holds no JSON object.")
    for name, complaint in kinds.items():
        if name in found and (expected := complaint(found[name])):
            raise DataError(f"'{path}' has {name} {found[name]!r}; {expected}.")
    return found
