"""What every kind of vocabulary does."""

import abc
import functools
import hashlib
import itertools
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, SupportsInt

from rootstock.data.errors import DataError

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # in this order at the head of a vocabulary that we train
SETTINGS = "vocabulary.json"
HF_SETTINGS = "tokenizer_config.json"

# What other vocabularies call them (RoBERTa, ALBERT, XLNet, T5, GPT-2), in order of preference. One piece may serve as two.
NAMES = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<cls>", "<s>"),
    "sep": ("[SEP]", "<sep>", "</s>"),
    "mask": ("[MASK]", "<mask>"),
    "eos": ("</s>", "[SEP]", "<|endoftext|>"),
}


class Vocabulary(abc.ABC):
    """One vocabulary. Ids of special pieces are None where there is no such piece (T5 has no [MASK]).

    `eos_id` closes what a decoder writes. `sentinel_ids` are those of <extra_id_0>, <extra_id_1>, ... and none where there are none.
    """

    size: int
    extra_ids: int = 0  # sentinels that lie behind the last piece of the file

    def __init__(self, *files: Path, lowercase: bool = False):
        """`files` are all that the vocabulary is made of; the first one is what `load` is given."""
        self.path = str(files[0])
        self.files = tuple(map(str, files))
        self.lowercase = lowercase
        self.checksum = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

    def _find_specials(self) -> None:
        found = {kind: self._first_of(names) for kind, names in NAMES.items()}
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id, self.eos_id = found.values()
        self.special_ids = tuple(sorted({i for i in found.values() if i is not None}))

    def _first_of(self, names: Sequence[str]) -> int | None:
        return next((i for i in map(self.id_of, names) if i is not None), None)

    @functools.cached_property
    def sentinel_ids(self) -> tuple[int, ...]:
        # A model that carries its sentinels itself writes them as words do, with a bar in front (mT5).
        found = (self._first_of((f"<extra_id_{i}>", f"▁<extra_id_{i}>")) for i in itertools.count())
        return tuple(itertools.takewhile(lambda index: index is not None, found))

    def require(self, *kinds: str) -> None:
        """Raises unless the vocabulary has each of these special pieces: "pad", "unk", "cls", "sep", "mask", "eos"."""
        missing = [kind for kind in kinds if getattr(self, f"{kind}_id") is None]
        if missing:
            wanted = "; ".join(f"{kind}: {' or '.join(NAMES[kind])}" for kind in missing)
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
        """Copies the files into `directory`, with what `load(directory)` needs to read them the same way."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        for file in map(Path, self.files):
            if file.resolve() != (directory / file.name).resolve():
                shutil.copyfile(file, directory / file.name)
        settings = {"file": Path(self.path).name, "lowercase": self.lowercase, "extra_ids": self.extra_ids}
        (directory / SETTINGS).write_text(json.dumps(settings) + "\n")

    @abc.abstractmethod
    def export(self, directory: str | Path) -> None:
        """Writes into `directory` what Hugging Face's tokenizers read."""

    @abc.abstractmethod
    def seqio(self) -> Any:
        """The same vocabulary as seqio knows it. Needs the extra `data`."""

    def __reduce__(self):
        from rootstock.data import vocabularies

        return vocabularies.load, (self.path, self.lowercase, self.extra_ids)


def write_hf_settings(directory: str | Path, **settings: Any) -> None:
    (Path(directory) / HF_SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
