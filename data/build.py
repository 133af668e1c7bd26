"""Building a task's cache: one builder at a time, any number of worker processes, the same bytes for all numbers.

The builder reads and cuts a split into parts; a worker makes a shard of each (tokenises, packs, writes it). A killed builder is started
again: it reads again, and makes the shards that are not there.

`python -m rootstock.data.build` reads a pickled (task, directory, workers) from standard input: how `cached` has a cache built in a process
of its own. A DataError leaves as exit code 2 with its message as the only standard output; progress is on standard error. Standard input
stays open: its end is the end of who asked, and of the work.
"""

import collections
import contextlib
import fcntl
import functools
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rootstock.data import cache, shards
from rootstock.data.errors import DataError
from rootstock.data.fields import Fields
from rootstock.data.tasks import Task
from rootstock.data.vocabularies import Vocabulary

Map = Callable[[Callable, Iterable], Iterable]

_SHAPE = "unfinished.json"
_OTHER = "Name another directory (in a recipe --gin.CACHE_DIR=\"'DIR'\") or delete this one."


def build(task: Task, directory: str | Path, workers: int = 2, progress: bool = True) -> None:
    """Makes sure that `directory` holds the cache of `task`. One that is there already is compared with the task, and kept."""
    directory = Path(directory)
    if not directory.name:
        raise DataError(f"a cache is written to a folder of its own, and '{directory}' is the one that this command runs in.")
    if not (directory / cache.MANIFEST).is_file():
        # A mistake in the task shows before anything is touched.
        task.description()
        task.inputs()
    with _lock(directory):
        if (directory / cache.MANIFEST).is_file():
            check(task, directory)
            return
        if directory.is_dir() and any(directory.iterdir()):
            raise DataError(f"'{directory}' is there already and not empty; a cache is written to a new folder. Delete it or name another.")
        with _partial_folder(directory, _shape(task)) as partial, _workers(workers) as each:
            splits = {split: _build_split(task, split, partial, each, progress) for split in task.splits}
            cache.finish(partial, directory, {**_shape(task), "inputs": _inputs(task), "splits": splits}, task.load_vocabulary())


def _shape(task: Task) -> dict[str, Any]:
    """What every shard of a cache has in common."""
    fields = {name: {"shape": list(field.shape), "dtype": field.dtype} for name, field in task.fields().items()}
    return json.loads(json.dumps({"task": task.description(), "fields": fields}))


def _build_split(task: Task, split: str, partial: Path, each: Map, progress: bool) -> dict[str, Any]:
    """Writes the shards of a split; what the manifest says of it."""
    vocabulary = task.load_vocabulary()
    drawn: Counter = Counter(documents=0, dropped=0)
    make = functools.partial(_make, task.fields(), vocabulary)
    named = ((partial / f"{split}-{number:05d}", pickle.dumps(part)) for number, part in enumerate(task.parts(split, drawn)))

    def shown():
        with tqdm(desc=f"caching {split}", unit=" rows", unit_scale=True, mininterval=0.5, file=sys.stderr, disable=not progress) as bar:
            for shard in each(make, named):
                bar.update(shard.entry["rows"])
                yield shard

    found = shards.summary(shown(), drawn, vocabulary)
    if not found["rows"]:
        read = ", ".join(map(str, task.inputs()[:3]))
        raise DataError(
            f"split '{split}' of the task '{task.name}' has no rows; read {read}. Give more text or another validation_fraction."
        )
    return found


def _make(fields: Fields, vocabulary: Vocabulary, named: tuple[Path, bytes]) -> shards.Shard:
    return shards.make(*named, fields, vocabulary)


@contextlib.contextmanager
def _partial_folder(directory: Path, shape: Mapping[str, Any]) -> Iterator[Path]:
    """Where the shards are written. Whole ones stay when building stops for any reason, and the next start goes on from them."""
    partial = cache.partial_folder(directory)
    note = partial / _SHAPE
    if partial.is_dir() and not (note.is_file() and note.read_text() == json.dumps(shape)):
        print(f"'{partial}' is the unfinished cache of another task and is deleted", file=sys.stderr)
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    if not note.is_file():
        with shards.whole(note) as unfinished:
            unfinished.write_text(json.dumps(shape))
    if whole := len(list(partial.glob(f"*{shards.NOTES}"))):
        print(f"going on from the {whole} shards of '{partial}' that an earlier start finished", file=sys.stderr)
    try:
        yield partial
    finally:
        if partial.is_dir() and not any(partial.glob(f"*{shards.NOTES}")):
            shutil.rmtree(partial)


def check(task: Task, directory: str | Path) -> None:
    """Raises unless the cache in `directory` is the task's: the same description and, where the input files are at hand, the same files."""
    manifest = cache.read_manifest(directory)
    found, expected = manifest["task"], json.loads(json.dumps(task.description()))
    different = [key for key in expected | found if found.get(key) != expected.get(key)]
    if different:
        raise DataError(
            f"the cache '{directory}' was made for another task: "
            + "; ".join(f"{key} is {found.get(key)!r} there and {expected.get(key)!r} here" for key in different)
            + f". {_OTHER}"
        )
    try:
        inputs = _inputs(task)
    except DataError:
        return  # a copied cache serves without its inputs
    if inputs != manifest["inputs"]:
        there, here = ({f"{file['file']} ({file['bytes']:,} bytes)" for file in files} for files in (manifest["inputs"], inputs))
        raise DataError(
            f"the cache '{directory}' was made from other files; only there: {', '.join(sorted(there - here)) or 'none'}; "
            f"only here: {', '.join(sorted(here - there)) or 'none'}. {_OTHER}"
        )


def _inputs(task: Task) -> list[dict[str, Any]]:
    return [{"file": path.name, "bytes": path.stat().st_size} for path in task.inputs()]


@contextlib.contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """Held while `directory` is looked at and written; the system lets it go when its holder dies."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with open(directory.with_name(directory.name + ".lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that is building the cache '{directory}'", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _workers(number: int) -> Iterator[Map]:
    """A `map` over `number` processes that keeps the order and draws no more than one item beyond those at work, so memory is bounded."""
    if number <= 1:
        yield map
        return

    # Threads inside every worker would only get in each other's way.
    previous = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    pool = ProcessPoolExecutor(number, multiprocessing.get_context("spawn"), initializer=_end_with_the_builder)

    def each(function: Callable, items: Iterable) -> Iterator:
        waiting = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > number:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise DataError("a worker process that was building the cache died; out of memory? Try fewer workers.") from error

    try:
        yield each
    finally:
        pool.shutdown(cancel_futures=True)
        if previous is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = previous


def _end_with_the_builder() -> None:
    """In a worker: a killed builder cannot tell it to stop, and it would wait for work for ever."""

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _end_with_parent() -> None:
    """Waits for the end of standard input, which the parent holds open while it lives, and lets the main thread clean up."""
    os.read(sys.stdin.fileno(), 1)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)


def main() -> int:
    task, directory, workers = pickle.load(sys.stdin.buffer)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        build(task, directory, workers)
    except (DataError, OSError) as error:
        print(error if isinstance(error, DataError) else f"the cache '{directory}' could not be made: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
