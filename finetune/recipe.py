"""What fine-tuning recipes name: heads, data, probes and baselines of a list of tasks."""

import functools
import math
from collections.abc import Hashable, Mapping, Sequence

from rootstock.data import mixtures, vocabularies
from rootstock.data.streams import Mixed, Ordered, Shuffled
from rootstock.engine.errors import UserError
from rootstock.engine.model_dir import read_config
from rootstock.engine.sockets import Probe
from rootstock.finetune import heads, scores
from rootstock.finetune.tasks import Split, find


def task_heads(tasks: Sequence[str], dropout: float = 0.1) -> dict[str, heads.Head]:
    """A head for each task."""
    if not tasks:
        raise UserError("TASKS is empty; name at least one task, as in --gin.TASKS=\"('boolq',)\"")
    found = {task.name: task for task in map(find, tasks)}
    if len(found) < len(tasks):
        raise UserError(f"TASKS is {tuple(tasks)}, which names a task twice")
    if other := next((task for task in found.values() if task.answered_by), None):
        raise UserError(f"{other.name} is not trained on: its rows are answered by the head of {other.answered_by}; name that in TASKS")
    return {name: task.describe_head(dropout) for name, task in found.items()}


def vocabulary_of(directory: str) -> str:
    """The vocabulary folder of a checkpoint: a fine-tuned model reads text as its encoder did."""
    known = read_config(directory).vocabulary
    folder = known.get("folder")
    if folder is None:
        raise UserError(
            f"the checkpoint {directory} carries no vocabulary; put vocab.txt into {directory}/vocabulary and name it in config.json"
        )
    path = f"{directory}/{folder}"
    if (found := vocabularies.load(path).checksum) != known.checksum:
        raise UserError(
            f"{path} is not the vocabulary that the checkpoint was trained with: its SHA-256 is {found[:12]}..., "
            f"{directory}/config.json says {known.checksum[:12]}...; put the original file back"
        )
    return path


def training(
    tasks: Sequence[str],
    data_dir: str,
    vocabulary: str,
    length: int,
    seed: int,
    batch_size: int,
    shares: Mapping[str, int | float] | None = None,
    temperature: int | float = math.inf,
    cap: int | float = math.inf,
    limits: Mapping[str, int] | None = None,
) -> Mixed:
    """The training rows of all tasks, a part of every batch each: in proportion to `shares`, or else to the numbers of their rows, none
    counted for more than `cap`, to the power of 1 / `temperature` (see `data.mixtures`), which by default makes equal parts. What is
    no whole number of rows is rounded to one. Of a task in `limits` only so many rows, the first ones.
    """
    tasks = [find(name).name for name in tasks]
    shares = None if shares is None else {find(name).name: share for name, share in shares.items()}
    if shares is not None and (without := [name for name in tasks if name not in shares]):
        raise UserError(f"recipe.training.shares is {dict(shares)}; it has no share for {', '.join(without)}")
    rows = limited({name: _read(name, "train", data_dir, vocabulary, length) for name in tasks}, limits)
    streams = {name: Shuffled(rows[name], seed) for name in tasks}
    sizes = {name: len(source) for name, source in rows.items()}
    rates = mixtures.temperature(sizes, temperature, cap) if shares is None else {name: shares[name] for name in tasks}
    whole = mixtures.shares(rates, batch_size)
    return Mixed(streams, {name: share // math.gcd(*whole.values()) for name, share in whole.items()})


def validation(tasks: Sequence[str], data_dir: str, vocabulary: str, length: int) -> dict[str, Ordered]:
    """The validation rows of each task, in order."""
    return {find(name).name: Ordered(_read(name, "validation", data_dir, vocabulary, length)) for name in tasks}


def _read(name: str, split: str, data_dir: str, vocabulary: str, length: int) -> Split:
    return _read_once(name, split, data_dir, vocabulary, length, _state(name, data_dir, vocabulary, length))


@functools.lru_cache(maxsize=32)  # both splits of all tasks of a suite, and of those that they answer
def _read_once(name: str, split: str, data_dir: str, vocabulary: str, length: int, state: Hashable) -> Split:
    """A recipe names the validation rows three times, for the evaluation, its probes and the baseline, and runs of several seeds read the
    same training rows; the same files are read once.
    """
    return find(name).read(data_dir, vocabulary, length, split)


def limited(rows: Mapping[str, Split], limits: Mapping[str, int] | None) -> dict[str, Split]:
    """Of each task in `limits` only so many rows, the first ones. It may name tasks that are not trained here."""
    known = {find(name).name: count for name, count in (limits or {}).items()}
    for name, count in known.items():
        if count < 1:
            raise UserError(f"LIMITS has {count} rows for {name}; expected at least 1")
    return {name: split.first(known[name]) if name in known else split for name, split in rows.items()}


def _state(name: str, data_dir: str, vocabulary: str, length: int) -> Hashable:
    """Changes when a file does."""
    files = [(path.resolve(), path.stat()) for path in find(name).rows(data_dir, vocabulary, length).inputs()]
    return vocabularies.load(vocabulary).checksum, tuple((path, stat.st_mtime_ns, stat.st_size) for path, stat in files)


def probes(data: Mapping[str, Ordered]) -> dict[str, Probe]:
    """The scores of each task on its validation rows."""
    return {name: scores.Scores(find(name), rows.source) for name, rows in data.items()}


def majority(data: Mapping[str, Ordered]) -> dict[str, dict[str, float]]:
    """What always answering the most frequent label of the same rows scores."""
    return {name: found for name, rows in data.items() if (found := find(name).majority(rows.source))}
