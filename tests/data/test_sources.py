"""Where documents come from: all kinds give the same ones, and damage is named."""

import gzip
import json
import lzma
import pathlib
import shutil
from collections import Counter

import numpy as np
import pytest

from rootstock.data import cache, sources
from rootstock.data.build import build
from rootstock.data.documents import held_out
from rootstock.data.errors import DataError
from rootstock.data.sentence_pairs import SentencePairTask
from rootstock.data.text import TextTask, documents_of

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
zstd = pytest.importorskip("backports.zstd")

SAVED = pathlib.Path(__file__).parents[1] / "golden" / "saved_dataset"
SAVED_TEXTS = [f"Document {i} of a set that the datasets library saved. Naïve." if i not in (2, 4) else "" for i in range(6)]
TEXTS = [f"The cat {i} sat on the mat. Naïve 北京 dogs ran.\n\nAnd then it was not {i}." for i in range(40)]
COMPRESS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd.compress}


def json_lines(texts, key="text"):
    return "".join(json.dumps({"id": i, key: text}) + "\n" for i, text in enumerate(texts)).encode()


def write_parquet(path, texts, column="text", **options):
    parquet.write_table(pyarrow.table({"id": list(range(len(texts))), column: texts}), path, **options)
    return path


def found(source, characters=4096):
    return list(sources.source_of(source).documents(characters))


@pytest.mark.parametrize("suffix", COMPRESS)
def test_json_lines(tmp_path, suffix):
    path = tmp_path / f"x.jsonl{suffix}"
    path.write_bytes(COMPRESS[suffix](json_lines(TEXTS)))
    assert found(str(path)) == TEXTS
    path.write_bytes(COMPRESS[suffix](json_lines(TEXTS, key="content")))
    assert found(sources.Files(str(path), key="content")) == TEXTS


@pytest.mark.parametrize("suffix", COMPRESS)
def test_running_text(tmp_path, suffix):
    path = tmp_path / f"x.txt{suffix}"
    path.write_bytes(COMPRESS[suffix]("\n\n".join("word " * 60 for _ in range(20)).encode()))
    assert " ".join(found(str(path), 500)).split() == ["word"] * 1200
    assert len(found(str(path), 500)) == 10  # two paragraphs of 300 reach 500


def test_zstd_in_several_frames_and_with_a_long_window(tmp_path):
    lines = json_lines(TEXTS)
    long = {zstd.CompressionParameter.window_log: 28, zstd.CompressionParameter.enable_long_distance_matching: 1}
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(zstd.compress(lines[:999]) + zstd.compress(lines[999:], options=long))
    assert found(str(path)) == TEXTS


@pytest.mark.parametrize("options", [{}, {"row_group_size": 7, "compression": "zstd"}, {"use_dictionary": ["text"]}])
def test_parquet(tmp_path, options):
    assert found(str(write_parquet(tmp_path / "x.parquet", TEXTS, **options))) == TEXTS


def test_parquet_of_other_strings(tmp_path):
    for kind in (pyarrow.large_string(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string())):
        parquet.write_table(pyarrow.table({"content": pyarrow.array(TEXTS).cast(kind)}), tmp_path / "x.parquet")
        assert found(sources.Files(str(tmp_path), key="content")) == TEXTS


def test_what_the_datasets_library_saved():
    assert found(sources.SavedDataset(str(SAVED))) == SAVED_TEXTS
    assert found(sources.SavedDataset(str(SAVED), split="validation")) == ["The last one."]
    assert found(sources.SavedDataset(str(SAVED / "train"))) == SAVED_TEXTS
    assert [path.name for path in sources.SavedDataset(str(SAVED)).inputs()] == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]


def test_a_folder_of_all_kinds(tmp_path):
    (tmp_path / "a.txt").write_text("The cat sat.\n")
    (tmp_path / "b.jsonl.xz").write_bytes(lzma.compress(json_lines(TEXTS[1:3])))
    write_parquet(tmp_path / "c.parquet", TEXTS[3:])
    (tmp_path / "dataset_info.json").write_text("{}")
    assert found(str(tmp_path)) == ["The cat sat.", *TEXTS[1:]]


def test_tasks_take_any_source(tmp_path, vocabulary_file):
    write_parquet(tmp_path / "x.parquet", TEXTS)
    (tmp_path / "x.jsonl").write_bytes(json_lines(TEXTS))
    for kind in (TextTask, SentencePairTask):
        one, two = (
            list(kind(str(tmp_path / name), vocabulary_file, 32, validation_fraction=0.2).rows("train"))
            for name in ("x.jsonl", "x.parquet")
        )
        assert len(one) == len(two) > 10
        for row, other in zip(one, two, strict=True):
            for name in row:
                np.testing.assert_array_equal(row[name], other[name])


def test_the_source_is_described_without_its_place(tmp_path, vocabulary_file):
    write_parquet(tmp_path / "x.parquet", TEXTS, column="content")
    task = TextTask(sources.Files(str(tmp_path), key="content"), vocabulary_file, 32)
    assert task.description()["source"] == {"class": "Files", "key": "content"}
    assert str(tmp_path) not in json.dumps(task.description())
    assert TextTask(sources.SavedDataset(str(SAVED)), vocabulary_file, 32).description()["source"] == {
        "class": "SavedDataset", "split": "train", "column": "text",
    }  # fmt: skip


def test_empty_rows_are_counted_and_the_counts_add_up(tmp_path, vocabulary_file):
    texts = [*TEXTS, "", "  \n ", None, "\u200b"]  # the last one is nothing but a control character
    write_parquet(tmp_path / "x.parquet", texts)
    (tmp_path / "x.jsonl").write_bytes(json_lines(texts))
    for name in ("x.parquet", "x.jsonl"):
        task = TextTask(str(tmp_path / name), vocabulary_file, 32, validation_fraction=0.2)
        counts = {split: Counter() for split in task.splits}
        for split in task.splits:
            list(task.rows(split, counts[split]))
        assert sum(count["documents"] for count in counts.values()) == len(texts)
        assert sum(count["dropped"] for count in counts.values()) == 4
        assert counts["validation"]["documents"] == sum(held_out((text or "").strip(), 0.2) for text in texts)
        build(task, tmp_path / f"{name}.cache", workers=1, progress=False)
        said = cache.read_manifest(tmp_path / f"{name}.cache")["splits"]
        assert sum(split["dropped"] for split in said.values()) == 4
        assert sum(split["documents"] for split in said.values()) == len(texts)


def test_nothing_but_empty_rows(tmp_path, vocabulary_file):
    write_parquet(tmp_path / "x.parquet", ["", None])
    with pytest.raises(DataError, match=r"there is no text in .*x\.parquet"):
        list(documents_of(TextTask(str(tmp_path), vocabulary_file, 32), "train"))


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"id": 1}', r"x\.jsonl' line 2: the key 'text' is missing; there are id"),
        ('{"text": 7}', r"x\.jsonl' line 2: 'text' is 7, expected a string"),
        ('{"text": "a', r"x\.jsonl' line 2 is not JSON"),
        pytest.param("[" * 100_000, r"x\.jsonl' line 2 is not JSON", id="deep"),
        ('["text"]', r"x\.jsonl' line 2 is not a JSON object"),
        (r'{"text": "half \ud83d"}', r"x\.jsonl' line 2: 'text' holds '\\ud83d' at character 5, which is no character"),
    ],
)
def test_wrong_lines(tmp_path, line, message):
    (tmp_path / "x.jsonl").write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        found(str(tmp_path))


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("share", [0.3, 0.99])
def test_cut_archives(tmp_path, suffix, share):
    numbers = np.random.default_rng(0).integers(0, 10**9, 20_000)  # hard to compress, so that a cut falls inside the text
    whole = COMPRESS[suffix](json_lines(list(map(str, numbers))))
    (tmp_path / f"x.jsonl{suffix}").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=rf"x\.jsonl{suffix}' is a damaged {suffix} file"):
        found(str(tmp_path))


def test_no_zstd_archive(tmp_path):
    (tmp_path / "x.txt.zst").write_bytes(b"plain text\n")
    with pytest.raises(DataError, match=r"x\.txt\.zst' is a damaged \.zst file"):
        found(str(tmp_path))


def test_wrong_parquet(tmp_path):
    path = write_parquet(tmp_path / "x.parquet", TEXTS, row_group_size=10, compression="none", use_dictionary=False)
    with pytest.raises(DataError, match=r"x\.parquet' has no column 'body'; it has id, text"):
        found(sources.Files(str(path), key="body"))
    with pytest.raises(DataError, match=r"the column 'id' of '.*x\.parquet' is of type int64, expected strings"):
        found(sources.Files(str(path), key="id"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"x\.parquet' is a damaged Parquet file, or none"):
        found(str(path))
    (tmp_path / "y.parquet.gz").write_bytes(gzip.compress(whole))
    with pytest.raises(DataError, match=r"y\.parquet\.gz' is a packed Parquet file"):
        found(str(tmp_path / "y.parquet.gz"))
    assert whole.count(b"The cat 25") == 1
    path.write_bytes(whole.replace(b"The cat 25", b"The \xff\xff\xff 25"))
    with pytest.raises(DataError, match=r"x\.parquet' row 26: 'text' is not UTF-8"):
        found(str(path))


def test_a_damaged_page_of_parquet(tmp_path):
    path = write_parquet(tmp_path / "x.parquet", TEXTS, row_group_size=10, compression="gzip", use_dictionary=False)
    whole = path.read_bytes()
    place = parquet.ParquetFile(path).metadata.row_group(2).column(1).data_page_offset + 60
    path.write_bytes(whole[:place] + bytes(40) + whole[place + 40 :])
    with pytest.raises(DataError, match=r"x\.parquet' is damaged after row 20: "):
        found(str(path))


def test_wrong_saved_dataset(tmp_path):
    with pytest.raises(DataError, match="has no split 'test'; it has train, validation"):
        found(sources.SavedDataset(str(SAVED), split="test"))
    with pytest.raises(DataError, match=r"has no column 'body'; it has id, text"):
        found(sources.SavedDataset(str(SAVED), column="body"))
    with pytest.raises(DataError, match=r"is not what `datasets` saves to disk: it has no state\.json"):
        found(sources.SavedDataset(str(tmp_path)))
    with pytest.raises(DataError, match=r"is one data set and has no split 'test'; it names none"):
        found(sources.SavedDataset(str(SAVED / "train"), split="test"))
    shutil.copytree(SAVED / "train", tmp_path / "train")
    last = tmp_path / "train" / "data-00001-of-00002.arrow"
    last.write_bytes(last.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"data-00001-of-00002\.arrow' is cut short"):
        found(sources.SavedDataset(str(tmp_path / "train")))
    last.unlink()
    with pytest.raises(DataError, match=r"names data-00001-of-00002\.arrow, not to be found beside it"):
        found(sources.SavedDataset(str(tmp_path / "train")))


def test_what_to_install(tmp_path, monkeypatch):
    write_parquet(tmp_path / "x.parquet", TEXTS)
    (tmp_path / "x.txt.zst").write_bytes(zstd.compress(b"text"))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    monkeypatch.setitem(__import__("sys").modules, "backports", None)
    for name in ("x.parquet", "x.txt.zst"):
        with pytest.raises(DataError, match=r"pip install --editable '\.\[corpora\]'"):
            found(str(tmp_path / name))
