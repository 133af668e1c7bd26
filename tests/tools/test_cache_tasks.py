"""The command that builds caches."""

import pytest
from array_record.python import array_record_module

from rootstock.data import cache
from rootstock.data.cached import Cached
from rootstock.data.raw_text import RawTextTask
from rootstock.tools import cache_tasks

VOCABULARY = "--vocabulary=data/demo/vocab.txt"
REST = (VOCABULARY, "--length=64", "--out=x")


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.txt").write_text("\n\n\n".join(f"{name} {i} " + "It was the best of times. " * 12 for i in range(30)))
    return folder


def test_text(corpus, tmp_path, capsys):
    arguments = [
        f"--text={corpus}/a.txt,{corpus}/[bc].txt",
        VOCABULARY,
        "--length=64",
        f"--out={tmp_path}/out",
        "--validation_fraction=0.2",
    ]
    assert cache_tasks.main([*arguments, "--workers=1"]) == 0
    shown = capsys.readouterr()
    assert "out train: " in shown.out and "unigram entropy" in shown.out
    source = cache.Source(tmp_path / "out", "train")
    assert source.fields["input_ids"].shape == (64,)
    assert source.statistics["documents"] + cache.Source(tmp_path / "out", "validation").statistics["documents"] == 90
    assert cache_tasks.main(arguments) == 0  # there already, and the same
    assert cache_tasks.main([*arguments, "--length=32"]) == 2
    assert "length is 64 there and 32 here" in capsys.readouterr().err
    (shard,) = (tmp_path / "out").glob("train*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert cache_tasks.main(arguments) == 2
    assert "train-00000.array_record' is damaged: its SHA-256 is" in capsys.readouterr().err
    shard.write_bytes(content[:-1])
    assert cache_tasks.main(arguments) == 2
    assert "its manifest says" in capsys.readouterr().err


def test_raw_rows(corpus, tmp_path, capsys):
    """The cache is the one that a recipe asks for."""
    arguments = [f"--text={corpus}", "--vocabulary=data/demo/spiece.model", "--length=141", f"--out={tmp_path}/out", "--workers=1"]
    arguments.append("--validation_fraction=0.2")
    assert cache_tasks.main([*arguments, "--raw", "--closed"]) == 0
    task = RawTextTask(str(corpus), "data/demo/spiece.model", 141, validation_fraction=0.2, closed=True)
    assert len(Cached(task, tmp_path / "out", "train")) > 10
    assert cache_tasks.main([*arguments, "--raw"]) == 2
    assert "closed is True there and False here" in capsys.readouterr().err
    for wrong in (["--closed"], ["--raw", "--pairs"]):
        with pytest.raises(SystemExit) as ended:
            cache_tasks.main([*arguments, *wrong])
        assert ended.value.code == 2


def test_pairs(corpus, tmp_path):
    arguments = [f"--text={corpus}", "--pairs", VOCABULARY, "--length=64", f"--out={tmp_path}/out", "--workers=1"]
    assert cache_tasks.main([*arguments, "--validation_fraction=0.2"]) == 0
    assert "is_random_next" in cache.Source(tmp_path / "out", "train").fields


def test_superglue(tmp_path):
    arguments = ["--superglue=copa,wsc", "--data_dir=data/demo/superglue", VOCABULARY, "--length=128", f"--out={tmp_path}", "--workers=1"]
    assert cache_tasks.main(arguments) == 0
    assert len(cache.Source(tmp_path / "copa", "validation")) == 100
    assert len(cache.Source(tmp_path / "wsc", "train")) == 554


def test_no_room(corpus, tmp_path, capsys, monkeypatch):
    """One paragraph, and with room the same command makes the cache; as when it was killed while it wrote down what it builds."""
    arguments = [f"--text={corpus}", VOCABULARY, "--length=64", f"--out={tmp_path}/out", "--workers=1", "--validation_fraction=0.2"]
    writer = array_record_module.ArrayRecordWriter

    class Full:
        def __init__(self, *how):
            self.writer = writer(*how)

        def write(self, record):
            raise RuntimeError("write() failed: File too large\n=== trace")

    with monkeypatch.context() as patched:
        patched.setattr(array_record_module, "ArrayRecordWriter", Full)
        assert cache_tasks.main(arguments) == 2
    assert "train-00000.array_record' cannot be written: write() failed: File too large\n" in capsys.readouterr().err
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "unfinished.json").write_text("")
    assert cache_tasks.main(arguments) == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--text=gone/*.txt", VOCABULARY, "--length=64"], r"error: 'gone/*.txt' matches no file"),
        (["--text=data/demo/novels", "--vocabulary=gone.txt", "--length=64"], "error: 'gone.txt' does not exist"),
        (["--text=data/demo/novels", VOCABULARY, "--length=1"], "error: TextTask.length is 1"),
        (
            ["--superglue=boolq,qa", "--data_dir=data/demo/superglue", VOCABULARY, "--length=64"],
            "error: --superglue names 'qa'; expected some of boolq",
        ),
        (["--superglue=rte", "--data_dir=data/demo/superglue", VOCABULARY, "--length=64"], "holds nothing of rte"),
    ],
)
def test_mistakes(tmp_path, capsys, arguments, message):
    assert cache_tasks.main([*arguments, f"--out={tmp_path}/out", "--workers=1"]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([VOCABULARY, "--length=64", "--out=x"], "one of the arguments --text --tfds --saved_dataset --superglue --mixture is required"),
        (["--superglue=rte", VOCABULARY, "--length=64", "--out=x"], "--superglue needs --data_dir"),
        (["--mixture=c4", VOCABULARY, "--length=64", "--out=x"], "--mixture needs --module"),
        (["--text=x", VOCABULARY, "--length=64", "--out=x", "--workers=0"], "--workers is 0"),
        (["--text=", VOCABULARY, "--length=64", "--out=x"], "--text is empty; is a variable of the shell unset?"),
        (["--superglue=rte", "--data_dir=x", "--pairs", *REST], "--pairs says nothing without --text or --tfds or --saved_dataset"),
        (["--text=x", "--closed", *REST], "--closed says nothing without --raw"),
        (["--text=x", "--split=train", *REST], "--split says nothing without --tfds or --saved_dataset"),
        (["--text=x", "--target_length=7", *REST], "--target_length says nothing without --mixture"),
    ],
)
def test_flags(capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        cache_tasks.main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err
