"""The vocabulary of a Hugging Face directory in a MODEL_DIR, and back."""

import pathlib
import shutil

from rootstock.data import vocabularies
from rootstock.data.errors import DataError
from rootstock.engine.errors import UserError
from rootstock.engine.model_dir import read_config
from rootstock.tools import hf_files

FOLDER = "vocabulary"


def take(source: pathlib.Path, model_dir: pathlib.Path, vocab_size: int) -> dict[str, str] | None:
    """Copies the vocabulary files into MODEL_DIR/vocabulary; what its config.json says of them. None, with a warning, where there are
    none.
    """
    files = hf_files.vocabulary_files(source)
    if not files:
        print(f"warning: {source} holds no vocabulary ({', '.join(hf_files.VOCABULARY[:2])}): the model will take input_ids and no texts")
        return None
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


def give(model_dir: str, target: pathlib.Path) -> vocabularies.Vocabulary | None:
    """Writes what transformers' tokenizer reads; the vocabulary, None where there is none."""
    folder = read_config(model_dir).vocabulary.get("folder")
    if folder is None:
        print(f"warning: {model_dir} carries no vocabulary, so none is written")
        return None
    folder = pathlib.Path(model_dir) / folder
    try:
        vocabulary = vocabularies.load(folder)
        if (folder / vocabularies.SETTINGS).is_file():
            vocabulary.export(target)
        else:
            for file in hf_files.vocabulary_files(folder):
                shutil.copyfile(file, target / file.name)
    except DataError as error:
        raise UserError(str(error)) from error
    return vocabulary
