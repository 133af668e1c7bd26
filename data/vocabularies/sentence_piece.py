"""SentencePiece models, and the pieces that lie behind the last one of their files."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, SupportsInt

from rootstock.data.errors import DataError
from rootstock.data.vocabularies import base, seqio_adapter

T5_SENTINELS = 100


class SentencePiece(base.Vocabulary):
    """Sentinels count down from the top: <extra_id_0> is the last id of all. `extra_ids` left out is 100 for a model with T5's head."""

    def __init__(self, path: Path, processor: Any, extra_ids: int | None):
        super().__init__(path)
        self._processor = processor
        self._pieces = processor.get_piece_size()
        self.extra_ids = self._t5_sentinels() if extra_ids is None else extra_ids
        sentinels = tuple(f"<extra_id_{i}>" for i in reversed(range(self.extra_ids)))
        self._added = (*self._late_mask(), *sentinels)
        self._ids = {piece: self._pieces + i for i, piece in enumerate(self._added)}
        self.size = self._pieces + len(self._added)
        self._find_specials()

    def _t5_sentinels(self) -> int:
        """T5 puts 100 sentinels behind <pad>, </s>, <unk> and the pieces, unless the file holds them itself."""
        head = [self._processor.id_to_piece(i) for i in range(min(3, self._pieces))]
        others = ("<s>", "[MASK]", "<mask>", "<extra_id_0>", "▁<extra_id_0>")
        return T5_SENTINELS if head == ["<pad>", "</s>", "<unk>"] and all(self._known(piece) is None for piece in others) else 0

    def _late_mask(self) -> tuple[str, ...]:
        """DeBERTa-v3's file has [CLS] and [SEP] but its [MASK] lies behind the last piece."""
        return ("[MASK]",) if self._known("[CLS]") is not None and self._known("[MASK]") is None else ()

    def _known(self, piece: str) -> int | None:
        index = self._processor.piece_to_id(piece)
        return index if self._processor.id_to_piece(index) == piece else None

    def id_of(self, piece: str) -> int | None:
        return self._ids[piece] if piece in self._ids else self._known(piece)

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
        if self.extra_ids:
            base.write_hf_settings(directory, tokenizer_class="T5Tokenizer", extra_ids=self.extra_ids)

    def seqio(self) -> Any:
        if self._processor.eos_id() != self.sep_id or "[MASK]" in self._added:
            return seqio_adapter.adapt(self)  # seqio's own class would give other special ids
        import seqio

        return seqio.SentencePieceVocabulary(self.path, extra_ids=self.extra_ids)


def load(path: Path, extra_ids: int | None) -> SentencePiece:
    import sentencepiece

    try:
        processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise DataError(f"'{path}' is not a SentencePiece model: {error}") from error
    return SentencePiece(path, processor, extra_ids)
