"""The data that the repository carries."""

import pytest

from rootstock.data import documents, files, vocabularies
from rootstock.tools import train_tokenizer

DEMO = files.PACKAGE_ROOT / "data" / "demo"


def test_sizes():
    carried = sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file())
    novels = files.expand("data/demo/novels")
    assert carried < 3e6
    assert sum(len(files.open_text(path).read()) for path in novels) > 4e6


def test_everything_is_attributed():
    text = (DEMO / "ATTRIBUTION.md").read_text()
    for path in DEMO.rglob("*"):
        if path.is_file() and path.name != "ATTRIBUTION.md":
            assert path.name in text or path.parent.name in text, path
    assert all(path.name in text for path in (DEMO / "novels").iterdir())


def test_the_vocabulary_comes_from_the_novels(tmp_path):
    novels = (document for path in files.expand("data/demo/novels") for document in documents.documents(files.open_text(path)))
    assert vocabularies.train_wordpiece(novels, 4000, tmp_path / "vocab.txt").checksum == vocabularies.load("data/demo/vocab.txt").checksum


@pytest.mark.slow
def test_the_unigram_model_comes_from_the_novels(tmp_path):
    command = ["--kind=unigram", "--size=4000", "--text=data/demo/novels", f"--out={tmp_path / 'vocabulary'}"]
    assert train_tokenizer.main(command) == 0
    assert (tmp_path / "vocabulary" / "spiece.model").read_bytes() == (DEMO / "spiece.model").read_bytes()
