"""Building in parts: killed at any moment and started again, on any number of workers, it ends with the same bytes."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from rootstock.data import build, cache, shards, tasks
from rootstock.data.text import TextTask, documents_of

# A part of this size makes some twenty shards of the corpus of `conftest`.
SMALL = 2000


@pytest.fixture
def task(corpus, vocabulary_file, monkeypatch):
    monkeypatch.setattr(tasks.parted, "__defaults__", (SMALL,))
    return TextTask(str(corpus), vocabulary_file, 32, validation_fraction=0.1, characters=500)


def contents(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@pytest.fixture
def whole(task, tmp_path):
    build.build(task, tmp_path / "whole", workers=1, progress=False)
    return tmp_path / "whole"


def test_the_same_bytes_for_any_number_of_workers(task, whole, tmp_path):
    build.build(task, tmp_path / "three", workers=3, progress=False)
    found = contents(tmp_path / "three")
    assert found == contents(whole)
    assert sum(name.startswith("train") for name in found) > 10
    for split in task.splits:
        assert cache.Source(whole, split).statistics["documents"] == len(list(documents_of(task, split)))


BUILD = """
    import sys
    from rootstock.data import build, tasks, text
    tasks.parted.__defaults__ = ({size},)
    task = text.TextTask({corpus!r}, {vocabulary!r}, 32, validation_fraction=0.1, characters=500)
    if __name__ == "__main__":
        build.build(task, {out!r}, {workers}, progress=False)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_and_started_again(task, whole, tmp_path, corpus, vocabulary_file, workers):
    """kill -9 once some shards are finished; those are kept as they are, and the end is the same."""
    script = tmp_path / "script.py"
    out = tmp_path / "out"
    script.write_text(
        textwrap.dedent(BUILD).format(size=SMALL, corpus=str(corpus), vocabulary=vocabulary_file, out=str(out), workers=workers)
    )
    path = os.pathsep.join(path or os.getcwd() for path in sys.path)
    child = subprocess.Popen([sys.executable, str(script)], env=os.environ | {"PYTHONPATH": path})
    partial = cache.partial_folder(out)
    while child.poll() is None and len(list(partial.glob("train*.npz"))) < 5:
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL and not out.exists()
    time.sleep(0.5)  # the workers end after their builder
    finished = {path.stem: path.with_suffix(".array_record").stat().st_ino for path in partial.glob("*.npz")}
    assert 5 <= len(finished) < len(list(whole.glob("*.array_record")))
    build.build(task, out, workers=1, progress=False)
    assert contents(out) == contents(whole)
    assert all((out / f"{name}.array_record").stat().st_ino == inode for name, inode in finished.items())


def test_a_shard_is_kept_only_if_whole_and_of_the_same_part(task, tmp_path, vocabulary):
    one, other = (pickle.dumps(part) for _, part in zip(range(2), task.parts("train", {}), strict=False))
    first = shards.make(tmp_path / "x-00000", one, task.fields(), vocabulary)
    file = tmp_path / "x-00000.array_record"
    inode = file.stat().st_ino
    again = shards.make(tmp_path / "x-00000", one, task.fields(), vocabulary)
    assert file.stat().st_ino == inode
    assert (again.entry, again.counts, again.tokens.tolist()) == (first.entry, first.counts, first.tokens.tolist())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert shards.make(tmp_path / "x-00000", one, task.fields(), vocabulary).entry == first.entry == again.entry
    assert file.stat().st_ino != inode
    assert shards.make(tmp_path / "x-00000", other, task.fields(), vocabulary).entry != first.entry
    notes = tmp_path / "x-00000.npz"
    for length in (0, len(notes.read_bytes()) // 2):  # as a power cut may leave it
        notes.write_bytes(notes.read_bytes()[:length])
        assert shards.make(tmp_path / "x-00000", one, task.fields(), vocabulary).entry == first.entry


def test_shards_of_a_split_with_a_dot_in_its_name(task, tmp_path, vocabulary):
    parts = [pickle.dumps(part) for _, part in zip(range(2), task.parts("train", {}), strict=False)]
    made = [shards.make(tmp_path / f"train.v1-{number:05d}", part, task.fields(), vocabulary) for number, part in enumerate(parts)]
    assert [shard.entry["file"] for shard in made] == ["train.v1-00000.array_record", "train.v1-00001.array_record"]
    assert sorted(path.name for path in tmp_path.glob("train*")) == sorted(
        f"train.v1-0000{i}{e}" for i in "01" for e in (".array_record", ".npz")
    )


def test_what_is_finished_stays_after_a_mistake(task, whole, tmp_path, corpus, monkeypatch):
    """A bad file at the end: mended, building goes on."""
    bad = corpus / "zzz.txt"
    bad.write_bytes(b"\xff")
    try:
        with pytest.raises(ValueError, match=r"zzz\.txt' is not UTF-8"):
            build.build(task, tmp_path / "out", workers=1, progress=False)
    finally:
        bad.unlink()
    finished = {path.stem: path.stat().st_ino for path in cache.partial_folder(tmp_path / "out").glob("*.array_record")}
    assert len(finished) > 10
    build.build(task, tmp_path / "out", workers=1, progress=False)
    assert contents(tmp_path / "out") == contents(whole)
    assert all((tmp_path / "out" / f"{name}.array_record").stat().st_ino == inode for name, inode in finished.items())


def test_at_most_one_part_waits_for_each_worker(monkeypatch):
    drawn = []
    with build._workers(2) as each:
        made = each(str, (drawn.append(i) or i for i in range(50)))
        for number, value in enumerate(made):
            assert value == str(number)
            assert len(drawn) <= number + 3
