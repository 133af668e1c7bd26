"""Training a vocabulary on texts, by the libraries that define the kinds. The same texts give the same bytes."""

import io
import re
import string
from collections.abc import Iterable
from pathlib import Path

from rootstock.data import sampling
from rootstock.data.errors import DataError
from rootstock.data.vocabularies import base, sentence_piece, wordpiece

_LETTERS = string.ascii_lowercase + string.digits
_THREADS = 16  # not the machine's number: the sums of the threads are part of the result

# Where Unigram's special pieces stand. T5's sentinels follow when the file is loaded.
_T5 = dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
_BERT = dict(
    pad_id=0, unk_id=1, bos_id=2, eos_id=3, pad_piece="[PAD]", unk_piece="[UNK]", bos_piece="[CLS]", eos_piece="[SEP]",
    control_symbols="[MASK]",
)  # fmt: skip
LAYOUTS = {"t5": _T5, "bert": _BERT}


def train_wordpiece(texts: Iterable[str], size: int, path: str | Path, lowercase: bool = True) -> base.Vocabulary:
    """Trains WordPiece on texts (documents, or lines of files), writes `path` (a vocab.txt) and opens it.

    Ids 0 to 4 are the special pieces in the order of `SPECIALS`, then comes all of ASCII, so that neither "(" nor "1918" is unknown to
    a model whose corpus lacks them, then what the texts hold: their 1,000 commonest characters and merges of those.
    """
    from tokenizers import BertWordPieceTokenizer

    path = Path(path)
    if path.suffix != ".txt":
        raise DataError(f"a WordPiece vocabulary is written as a .txt file, not '{path}'.")
    letters = _LETTERS + ("" if lowercase else string.ascii_uppercase)
    # Given as special pieces the alphabet has fixed ids; else the library numbers it in the order of its hash table, which is random.
    first = [*base.SPECIALS, *string.punctuation, *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = BertWordPieceTokenizer(lowercase=lowercase)
    tokenizer.train_from_iterator(texts, vocab_size=size, special_tokens=first, show_progress=False)
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
    if len(pieces) > size:
        raise DataError(f"the size {size:,} is too small: special pieces and the characters of the texts are {len(pieces):,}.")
    if len(pieces) < size:
        raise _short_of(len(pieces), size)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return wordpiece.load(path, lowercase)


def train_unigram(texts: Iterable[str], size: int, path: str | Path, layout: str = "t5") -> base.Vocabulary:
    """Trains a Unigram model on texts, writes `path` (a .model of SentencePiece) and opens it. `size` counts the pieces of the file.

    Layout "t5" begins with <pad>, </s>, <unk>, and 100 sentinels follow the last piece; "bert" begins with the pieces of `SPECIALS`.
    All of ASCII has a piece, and 99.95% of the characters that the texts hold.
    """
    import sentencepiece

    path = Path(path)
    if path.suffix != ".model":
        raise DataError(f"a Unigram vocabulary is written as a .model file, not '{path}'.")
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sampling.pieces(texts),
            model_writer=written,
            model_type="unigram",
            vocab_size=size,
            required_chars=string.punctuation + _LETTERS + string.ascii_uppercase,
            max_sentence_length=4 * sampling.PIECE,  # bytes; longer sentences would be left out
            num_threads=_THREADS,
            minloglevel=2,
            **LAYOUTS[layout],
        )
    except RuntimeError as error:
        raise _explained(error, size) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(written.getvalue())
    return sentence_piece.load(path, None)


def _explained(error: RuntimeError, size: int) -> DataError:
    """What SentencePiece says of a size that does not go, in our words."""
    said = str(error)
    if most := re.search(r"too high .*<= (\d+)", said):
        return _short_of(int(most[1]), size)
    if least := re.search(r"smaller than required_chars\. \d+ vs (\d+)", said):
        return DataError(f"the size {size:,} is too small: special pieces and the characters of the texts are {int(least[1]):,}.")
    return DataError(f"SentencePiece could not train on these texts: {said.splitlines()[-1]}")


def _short_of(found: int, size: int) -> DataError:
    return DataError(f"the texts give {found:,} pieces, {size:,} were asked for: give more text or a smaller size.")
