"""The command that trains vocabularies."""

import gzip
import json
import pathlib
import shutil

import pytest

from rootstock.data import files, vocabularies
from rootstock.tools import train_tokenizer

SAVED = pathlib.Path(__file__).parents[1] / "golden" / "saved_dataset"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Some pages of a novel as JSON lines."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = [line for line, _ in zip(files.open_text("data/demo/novels/Burnett_Garden_1911.txt.xz"), range(900), strict=False)]
    (folder / "pages.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps({"body": line}) + "\n" for line in lines).encode()))
    return folder / "pages.jsonl.gz"


def run(corpus, out, *more):
    return train_tokenizer.main([f"--text={corpus}", "--key=body", f"--out={out}", *more])


@pytest.mark.parametrize(
    "arguments, head, size",
    [
        (["--kind=wordpiece"], ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], 500),
        (["--kind=wordpiece", "--cased"], ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], 500),
        (["--kind=unigram"], ["<pad>", "</s>", "<unk>"], 600),
        (["--kind=unigram", "--layout=bert"], ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], 500),
    ],
)
def test_trained_twice_is_the_same_and_loads(corpus, tmp_path, capsys, arguments, head, size):
    for name in ("one", "two"):
        assert run(corpus, tmp_path / name, "--size=500", *arguments) == 0
    one, two = vocabularies.load(tmp_path / "one"), vocabularies.load(tmp_path / "two")
    assert one.checksum == two.checksum and one.checksum in capsys.readouterr().out
    assert one.size == size
    assert [one.piece_of(i) for i in range(len(head))] == head
    assert len(one.sentinel_ids) == size - 500
    assert one.lowercase == (arguments == ["--kind=wordpiece"])
    text = "mary said (in 1918) that the garden was @home!"
    assert one.unk_id not in one.encode(text)  # although the novel has neither figures nor @
    assert len(one.encode(text)) < 0.8 * len(text)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_sample_bounds_what_is_kept(corpus, tmp_path, capsys):
    assert run(corpus, tmp_path / "out", "--kind=wordpiece", "--size=300", "--characters=20000") == 0
    (said,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("training"))
    assert 10_000 < int(said.split()[-2].replace(",", "")) <= 20_000


def test_any_source(tmp_path):
    corpus = shutil.copytree(SAVED, tmp_path / "saved")
    arguments = ["--kind=wordpiece", "--size=130", f"--saved_dataset={corpus}", f"--out={tmp_path / 'out'}"]
    assert train_tokenizer.main(arguments) == 0
    assert vocabularies.load(tmp_path / "out").size == 130


@pytest.mark.parametrize(
    "more, message",
    [
        (["--kind=wordpiece", "--size=60"], "error: the size 60 is too small: special pieces and the characters of the texts are 1"),
        (["--kind=unigram", "--size=60"], "error: the size 60 is too small: special pieces and the characters of the texts are "),
        (["--kind=wordpiece", "--size=90000"], "90,000 were asked for: give more text or a smaller size"),
        (["--kind=unigram", "--size=90000"], "90,000 were asked for: give more text or a smaller size"),
        (["--kind=wordpiece", "--size=500", "--key=text"], "line 1: the key 'text' is missing; there are body"),
    ],
)
def test_mistakes(corpus, tmp_path, capsys, more, message):
    assert run(corpus, tmp_path / "out", *more) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_empty_corpus_and_a_folder_that_is_there(corpus, tmp_path, capsys):
    (tmp_path / "empty.jsonl").write_text('{"body": ""}\n')
    assert run(tmp_path / "empty.jsonl", tmp_path / "out", "--kind=unigram", "--size=500") == 2
    assert "there is no text in" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    assert run(corpus, tmp_path / "out", "--kind=unigram", "--size=500") == 2
    assert "out' is there already; name a new folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--kind=bpe", "--size=1", "--text=x"], "invalid choice: 'bpe'"),
        (["--kind=unigram", "--size=0", "--text=x"], "--size is 0; it must be 1 or more"),
        (["--kind=unigram", "--size=9", "--tfds=c4"], "--tfds needs --tfds_data_dir"),
        (["--kind=unigram", "--size=9", "--text=x", "--cased"], "--cased says nothing without --kind=wordpiece"),
        (["--kind=wordpiece", "--size=9", "--text=x", "--layout=bert"], "--layout says nothing without --kind=unigram"),
        (["--kind=unigram", "--size=9"], "one of the arguments --text --tfds --saved_dataset is required"),
    ],
)
def test_wrong_flags(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        train_tokenizer.main([*arguments, f"--out={tmp_path}"])
    assert message in capsys.readouterr().err
