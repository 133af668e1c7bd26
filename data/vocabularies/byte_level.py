"""Byte-level BPE out of vocab.json and merges.txt, as GPT-2, RoBERTa and the first DeBERTa have it.

No text is unknown to it. Of a piece with the blank before its word the offsets leave the blank out.
"""

import json
import shutil
from pathlib import Path

from rootstock.data import files
from rootstock.data.errors import DataError
from rootstock.data.vocabularies.tokenizer_json import TokenizersVocabulary

VOCABULARY, MERGES = "vocab.json", "merges.txt"  # both may have the same prefix, as in gpt2-vocab.json

_KNOWN = {  # by the piece that tells the kind: its special pieces, and the mask
    "<s>": (("<s>", "<pad>", "</s>", "<unk>"), "<mask>"),  # RoBERTa
    "[CLS]": (("[PAD]", "[CLS]", "[SEP]", "[UNK]"), "[MASK]"),  # DeBERTa
}
_PLAIN = (("<|endoftext|>",), "<mask>")  # GPT-2


class ByteLevel(TokenizersVocabulary):
    """The two files and the special pieces that they are known to hold."""

    def export(self, directory: str | Path) -> None:
        super().export(directory)
        for file, name in zip(self.files, (VOCABULARY, MERGES), strict=True):
            shutil.copyfile(file, Path(directory) / name)


def is_one(path: Path) -> bool:
    return path.name.endswith((VOCABULARY, MERGES))


def pair(path: Path) -> tuple[Path, Path]:
    """vocab.json and merges.txt, given one of them."""
    prefix = path.name.removesuffix(VOCABULARY).removesuffix(MERGES)
    both = path.with_name(prefix + VOCABULARY), path.with_name(prefix + MERGES)
    for file in both:
        if not file.is_file():
            raise DataError(f"'{path}' is half of a byte-level BPE vocabulary; the other half, '{file}', does not exist.")
    return both


def load(path: Path) -> ByteLevel:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    both = pair(path)
    vocabulary = _vocabulary(both[0])
    try:
        tokenizer = Tokenizer(models.BPE(vocabulary, _merges(both[1])))
    except Exception as error:  # the library raises a bare Exception
        raise DataError(f"'{both[0]}' and '{both[1]}' do not belong together: {error}") from error
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.add_special_tokens(_specials(vocabulary))
    return ByteLevel(tokenizer, *both)


def _specials(vocabulary: dict[str, int]) -> list:
    """RoBERTa's file has GPT-2's end of text too, as a piece like any other. The mask takes the blank before it along."""
    from tokenizers import AddedToken

    names, mask = next((known for piece, known in _KNOWN.items() if piece in vocabulary), _PLAIN)
    known = [AddedToken(name, normalized=False, special=True) for name in names if name in vocabulary]
    return known + ([AddedToken(mask, lstrip=True, normalized=False, special=True)] if mask in vocabulary else [])


def _vocabulary(path: Path) -> dict[str, int]:
    try:
        found = json.loads(files.open_text(path).read())
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{path}' is not JSON: {error}") from error
    if not isinstance(found, dict) or sorted(map(repr, found.values())) != sorted(map(repr, range(len(found)))):
        raise DataError(f"'{path}' is no BPE vocabulary: expected an object of pieces with the ids 0, 1, 2, ..., each once.")
    return found


def _merges(path: Path) -> list[tuple[str, str]]:
    merges = []
    with files.open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip() or (number == 1 and line.startswith("#version")):
                continue
            parts = line.rstrip("\n").split(" ")
            if len(parts) != 2:
                raise DataError(f"'{path}' line {number} is {line.rstrip()!r}; expected two pieces and a blank between them.")
            merges.append((parts[0], parts[1]))
    return merges
