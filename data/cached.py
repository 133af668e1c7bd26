"""A task's cache, built when it is absent: what a recipe names as the data of a run."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

from rootstock.data import build, cache
from rootstock.data.errors import DataError
from rootstock.data.tasks import Task


class Cached(cache.Source):
    """`cache.Source` over the cache of `task` in `directory`.

    An absent cache is built first, in another process, so that this one imports nothing that only building needs (TensorFlow, for tasks
    of seqio). A cache that is there must be this task's, made with the same vocabulary. Several processes may ask at once: one builds.
    """

    def __init__(self, task: Task, directory: str | Path, split: str, workers: int = 2):
        if (Path(directory) / cache.MANIFEST).is_file():
            build.check(task, directory)
        else:
            _build_elsewhere(task, directory, workers)
        super().__init__(directory, split)


def _build_elsewhere(task: Task, directory: str | Path, workers: int) -> None:
    # The child finds what this process finds, however its path was set up.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    # A group of its own: Ctrl-C in a terminal goes to this process only. When it ends, however, the open pipe tells the child.
    child = subprocess.Popen(
        [sys.executable, "-m", "rootstock.data.build"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        process_group=0,
    )
    with child:
        pickle.dump((task, directory, workers), child.stdin)
        child.stdin.flush()
        said = child.stdout.read().decode().strip()
    if child.returncode == 2:
        raise DataError(said)
    if child.returncode:
        raise RuntimeError(f"the process that built the cache '{directory}' ended with code {child.returncode}; its messages are above.")
