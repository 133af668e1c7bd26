"""A small vocabulary and a small corpus."""

import random

import pytest

from rootstock.data import vocabularies

PIECES = (
    "the a cat dog sat ran on mat and then it was not . , ? ' ! - i said mr . mrs why do you run home to us in june ##s ##ed ##ing ##er "
    "cause effect is of this what happened as result true false one two three four five six seven eight nine ten"
)


@pytest.fixture(scope="session")
def vocabulary_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [*vocabularies.SPECIALS, *PIECES.split(), *letters, *(f"##{letter}" for letter in letters)]
    path.write_text("\n".join(dict.fromkeys(pieces)) + "\n")
    return str(path)


@pytest.fixture(scope="session")
def vocabulary(vocabulary_file):
    return vocabularies.load(vocabulary_file)


def prose(seed, paragraphs):
    """Paragraphs of a few sentences each, no two alike."""
    chance = random.Random(seed)
    words = ["the", "cat", "dog", "sat", "ran", "on", "mat", "and", "then", "home", "june", "seven"]
    for _ in range(paragraphs):
        sentences = (" ".join(chance.choices(words, k=chance.randint(3, 14))) for _ in range(chance.randint(1, 8)))
        yield " ".join(f"{sentence.capitalize()}." for sentence in sentences)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A folder of three files, about 60 kB."""
    folder = tmp_path_factory.mktemp("corpus")
    for name in ("one", "two", "three"):
        (folder / f"{name}.txt").write_text("\n\n".join(prose(name, 100)) + "\n")
    return folder
