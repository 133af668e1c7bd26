"""A cache that is built when it is absent, and refused when it is another's."""

import contextlib
import dataclasses
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rootstock.data import build, cache
from rootstock.data.arrays import Arrays
from rootstock.data.cached import Cached
from rootstock.data.errors import DataError
from rootstock.data.streams import Ordered, Shuffled
from rootstock.data.text import TextTask


@pytest.fixture(scope="module")
def task(corpus, vocabulary_file):
    return TextTask(str(corpus), vocabulary_file, 32, validation_fraction=0.1, characters=500)


@pytest.fixture(scope="module")
def built(task, tmp_path_factory):
    directory = tmp_path_factory.mktemp("caches") / "text"
    build.build(task, directory, workers=1, progress=False)
    return directory


def test_holds_the_rows_of_the_task(task, built):
    for split in task.splits:
        cached, rows = Cached(task, built, split), Arrays.of(task.rows(split))
        read = cached.read_batch(range(len(cached)))
        assert len(cached) == len(rows)
        for name in rows.arrays:
            np.testing.assert_array_equal(read[name], rows.arrays[name], strict=True)
        assert cached.statistics["documents"] > 0


def test_two_processes_build_one_cache_of_the_same_bytes(task, built, tmp_path, capfd):
    with ThreadPoolExecutor(2) as pool:
        opened = list(pool.map(lambda workers: Cached(task, tmp_path / "cache", "train", workers=workers), (2, 2)))
    assert {source.manifest["splits"]["train"]["shards"][0]["sha256"] for source in opened} == {
        cache.read_manifest(built)["splits"]["train"]["shards"][0]["sha256"]
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "cache.lock"]
    assert "caching train" in capfd.readouterr().err


def test_another_task(task, built):
    with pytest.raises(DataError, match=r"was made for another task: length is 32 there and 64 here\. Name another directory \(in"):
        Cached(dataclasses.replace(task, length=64), built, "train")


def test_another_vocabulary(task, built, tmp_path):
    with open(task.vocabulary) as file:
        (tmp_path / "vocab.txt").write_text(file.read() + "more\n")
    with pytest.raises(DataError, match=r"vocabulary_sha256 is '\w{64}' there and '\w{64}' here"):
        Cached(dataclasses.replace(task, vocabulary=str(tmp_path / "vocab.txt")), built, "train")


def test_other_files(task, built, corpus):
    with pytest.raises(DataError, match=r"made from other files; only there: three\.txt \([\d,]+ bytes\), two\.txt .*; only here: none"):
        Cached(dataclasses.replace(task, source=str(corpus / "one.txt")), built, "train")


def test_a_copied_cache_needs_no_input_files(task, built):
    assert len(Cached(dataclasses.replace(task, source="gone/*.txt"), built, "train")) > 0


def test_mistakes_come_back_from_the_builder(task, tmp_path, vocabulary_file):
    with pytest.raises(DataError, match=r"'gone/\*\.txt' matches no file"):
        Cached(dataclasses.replace(task, source="gone/*.txt"), tmp_path / "cache", "train")
    assert list(tmp_path.iterdir()) == []


def test_a_split_without_rows(tmp_path, vocabulary_file):
    (tmp_path / "one.txt").write_text("the cat sat.\n")
    with pytest.raises(DataError, match=r"split 'validation' of the task 'text' has no rows; read .*one\.txt"):
        build.build(TextTask(str(tmp_path / "*.txt"), vocabulary_file, 32), tmp_path / "cache", workers=1, progress=False)
    assert not (tmp_path / "cache").exists()


def test_without_tensorflow_and_seqio(task, built):
    """Everything but seqio's own tasks works where both are missing; those say what to install."""
    script = f"""
        import sys
        for name in ("tensorflow", "seqio", "tensorflow_datasets", "tensorflow_text"):
            sys.modules[name] = None
        import numpy as np
        from rootstock.data import cached, errors, jsonl, sentence_pairs, seqio_bridge, streams, text
        from rootstock.data.suites import glue, superglue, text_to_text, tfds_writer
        task = text.TextTask({task.source!r}, {task.vocabulary!r}, 32, validation_fraction=0.1, characters=500)
        batch = streams.Shuffled(cached.Cached(task, {str(built)!r}, "train"), seed=0).batch(0, 8)
        print(batch["input_ids"].tolist())
        next(task.rows("train"))
        foreign = seqio_bridge.SeqioText("c4", "my.tasks", task.vocabulary, 32)
        for attempt in (lambda: task.seqio(), lambda: next(foreign.rows("train"))):
            try:
                attempt()
            except errors.DataError as error:
                print(error)
    """
    child = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    rows, *messages = child.stdout.splitlines()
    assert rows == str(Shuffled(cache.Source(built, "train"), seed=0).batch(0, 8)["input_ids"].tolist())
    assert len(messages) == 2
    assert all("not installed" in message and "extra `data`" in message and "copy a cache" in message for message in messages)


def test_reads_through_a_stream(built):
    stream = Ordered(cache.Source(built, "validation"))
    batch = stream.batch(0, len(stream) + 3)
    assert batch["weight"].sum() == len(stream)


SLOW = """
import os, pathlib, time
from rootstock.data import text
class Slow(text.TextTask):
    def parts(self, *args):
        pathlib.Path(os.environ["STARTED"]).touch()
        time.sleep(600)
        yield
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_builder_ends_with_who_asked(tmp_path, corpus, vocabulary_file, number):
    """However it ended; the builder cleans up and lets its lock go, and the next one to ask builds."""
    (tmp_path / "slow.py").write_text(SLOW)
    directory, started = tmp_path / "cache", tmp_path / "started"
    task = f"slow.Slow({str(corpus)!r}, {vocabulary_file!r}, 16)"
    ask = f"import slow; from rootstock.data.cached import Cached; Cached({task}, {str(directory)!r}, 'train')"
    path = os.pathsep.join([str(tmp_path), *(path or os.getcwd() for path in sys.path)])
    asking = subprocess.Popen([sys.executable, "-c", ask], env=os.environ | {"PYTHONPATH": path, "STARTED": str(started)})
    while asking.poll() is None and not started.exists():
        time.sleep(0.01)
    asking.send_signal(number)
    assert asking.wait() == -number
    with open(tmp_path / "cache.lock") as lock:
        for _ in range(300):  # free once the builder has ended
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.1)
        else:
            pytest.fail("the builder is still at work")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("cache")) == ["cache.lock"]
