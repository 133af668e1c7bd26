"""Finding text files and reading them."""

import gzip
import lzma

import pytest

from rootstock.data import files
from rootstock.data.errors import DataError


def test_resolve_prefers_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.resolve("data/demo/vocab.txt") == files.PACKAGE_ROOT / "data/demo/vocab.txt"
    (tmp_path / "data/demo").mkdir(parents=True)
    (tmp_path / "data/demo/vocab.txt").touch()
    assert (tmp_path / files.resolve("data/demo/vocab.txt")).samefile(tmp_path / "data/demo/vocab.txt")


def test_resolve_names_both_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        files.resolve("nowhere/x.txt")
    assert str(tmp_path / "nowhere/x.txt") in str(error.value)
    assert str(files.PACKAGE_ROOT / "nowhere/x.txt") in str(error.value)


def test_expand(tmp_path, monkeypatch):
    for name in ("b.txt", "a.txt.gz", "c.txt.xz", "d.ndjson", "info.json", "notes.md"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert [path.name for path in files.expand(str(tmp_path))] == ["a.txt.gz", "b.txt", "c.txt.xz", "d.ndjson"]
    assert [path.name for path in files.expand("*.txt")] == ["b.txt"]
    assert [path.name for path in files.expand(["b.txt", "*.txt*"])] == ["b.txt", "a.txt.gz", "c.txt.xz"]
    assert len(files.expand("data/demo/novels")) == 9
    with pytest.raises(DataError, match=r"'\*\.csv' matches no file; looked for '.*csv' and '.*csv'"):
        files.expand("*.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"'empty' matches no file that ends in \.txt, \.jsonl, \.ndjson, \.parquet \(or \.gz, \.xz, \.zst after it\)"
    ):
        files.expand("empty")
    with pytest.raises(DataError, match="a pattern for files is empty; is there a comma too many"):
        files.expand(["b.txt", ""])


@pytest.mark.parametrize("suffix, opener", [(".txt", open), (".txt.gz", gzip.open), (".txt.xz", lzma.open)])
def test_open_text(tmp_path, suffix, opener):
    path = tmp_path / f"x{suffix}"
    with opener(path, "wb") as file:
        file.write("\ufeffnaïve\r\n\n北京\nend".encode())
    with files.open_text(path) as lines:
        assert list(lines) == ["naïve\n", "\n", "北京\n", "end"]


def test_not_utf8(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"one\ntwo\nna\xefve\n")
    with pytest.raises(DataError, match=r"latin\.txt' is not UTF-8 text: byte 0xef at offset 2 of line 3"):
        list(files.open_text(path))


def test_binary(tmp_path):
    path = tmp_path / "program.txt"
    path.write_bytes(b"\x7fELF\x02\x01\x00\x00")
    with pytest.raises(DataError, match=r"program\.txt' is a binary file \(a zero in line 1\)"):
        list(files.open_text(path))


@pytest.mark.parametrize("suffix, compress", [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_damaged_archive(tmp_path, suffix, compress):
    path = tmp_path / f"x.txt{suffix}"
    whole = compress(bytes(f"{list(range(9999))}\n", "ascii"))
    for damaged in (whole[: len(whole) // 2], b"plain text\n", whole[:200] + b"\xff" * 50 + whole[250:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"x\.txt{suffix}' is a damaged {suffix} file"):
            list(files.open_text(path))


def test_not_a_file(tmp_path):
    with pytest.raises(DataError, match="is not a file"):
        files.open_text(tmp_path)
