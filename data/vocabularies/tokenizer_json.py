"""Vocabularies that the `tokenizers` library reads; a tokenizer.json says everything of how."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, SupportsInt

from rootstock.data.errors import DataError
from rootstock.data.vocabularies import base, seqio_adapter


class TokenizersVocabulary(base.Vocabulary):
    """A `tokenizers.Tokenizer` and the files that it was made from."""

    def __init__(self, tokenizer: Any, *files: Path, lowercase: bool = False):
        super().__init__(*files, lowercase=lowercase)
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
        self._tokenizer.save(str(Path(directory) / "tokenizer.json"))
        # This class takes tokenizer.json as it is; BertTokenizer would build its own normaliser over it.
        base.write_hf_settings(directory, tokenizer_class="PreTrainedTokenizerFast", **self._hf_settings())

    def _hf_settings(self) -> dict[str, Any]:
        ids = {kind: getattr(self, f"{kind}_id") for kind in base.NAMES}
        if self.eos_id == self.sep_id:
            del ids["eos"]  # BERT's tokenizer knows of none
        return {f"{kind}_token": self.piece_of(i) for kind, i in ids.items() if i is not None}

    def seqio(self) -> Any:
        return seqio_adapter.adapt(self)


def load(path: Path) -> TokenizersVocabulary:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise DataError(f"'{path}' is not a tokenizer.json that the tokenizers library reads: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return TokenizersVocabulary(tokenizer, path)
