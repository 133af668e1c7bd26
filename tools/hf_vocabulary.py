"""The vocabulary of a Hugging Face directory in a MODEL_DIR, and back."""

import pathlib
import shutil

from rootstock.data import vocabularies
from rootstock.data.errors import DataError
from rootstock.engine.errors import UserError
from rootstock.engine.model_dir import read_config
from rootstock.tools import hf_files

FOLDER = "vocabulary"
PICKLED = "bpe_encoder.bin"  # DeBERTa's byte-level BPE as its authors keep it
PIECES = "spiece.model"
_AGAIN = "transformers.AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"


def take(source: pathlib.Path, model_dir: pathlib.Path, vocab_size: int) -> dict[str, str] | None:
    """Copies the vocabulary files into MODEL_DIR/vocabulary; what its config.json says of them. None, with a warning, where there are
    none.
    """
    files = hf_files.vocabulary_files(source)
    if not files:
        print(f"warning: {source} holds no vocabulary ({_reason(source)}): the model will take input_ids and no texts")
        return None
    if (source / "spiece.model").is_file() and not (source / "tokenizer.json").is_file() and _lowers(source):
        print(
            f"warning: {source} has spiece.model without tokenizer.json. Its own tokenizer makes a text lowercase and drops accents first, "
            f"which spiece.model alone does not: give such texts, or write tokenizer.json by {_AGAIN}"
        )
    folder = model_dir / FOLDER
    folder.mkdir()
    for file in files:
        shutil.copyfile(file, folder / file.name)
    try:
        vocabularies.settle(folder)
        vocabulary = vocabularies.load(folder)
    except DataError as error:
        raise UserError(str(error).replace(str(folder), str(source))) from error
    if vocabulary.size > vocab_size:
        raise UserError(f"the vocabulary of {source} has {vocabulary.size:,} pieces, the model's vocab_size is {vocab_size:,}")
    return {"checksum": vocabulary.checksum, "folder": FOLDER}


def _reason(source: pathlib.Path) -> str:
    if (source / PICKLED).is_file():
        return f"{PICKLED} is a pickle, which may run any code when it is opened, so it is not; write vocab.json and merges.txt by {_AGAIN}"
    return ", ".join(hf_files.VOCABULARY[:2])


def _lowers(source: pathlib.Path) -> bool:
    """ALBERT's tokenizer, unless its settings say that it does not."""
    said = hf_files.read_json(source / hf_files.SETTINGS) if (source / hf_files.SETTINGS).is_file() else {}
    albert = hf_files.read_json(source / hf_files.CONFIG).get("model_type") == "albert"
    return albert and said.get("do_lower_case", True) is not False


def give(model_dir: str, target: pathlib.Path, pieces: str = PIECES) -> vocabularies.Vocabulary | None:
    """Writes what transformers' tokenizer reads, SentencePiece under the name `pieces`; the vocabulary, None where there is none."""
    folder = read_config(model_dir).vocabulary.get("folder")
    if folder is None:
        print(f"warning: {model_dir} carries no vocabulary, so none is written")
        return None
    folder = pathlib.Path(model_dir) / folder
    try:
        vocabulary = vocabularies.load(folder)
        if (folder / vocabularies.SETTINGS).is_file():
            vocabulary.export(target)
            if (target / PIECES).is_file():
                (target / PIECES).rename(target / pieces)
        else:
            for file in hf_files.vocabulary_files(folder):
                shutil.copyfile(file, target / file.name)
    except DataError as error:
        raise UserError(str(error)) from error
    return vocabulary
