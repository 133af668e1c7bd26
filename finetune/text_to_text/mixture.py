"""What text-to-text recipes name: the model of a checkpoint, a mixture of tasks, validation rows, probes and baselines."""

import dataclasses
import functools
import math
from collections.abc import Hashable, Mapping, Sequence

from rootstock.data import mixtures, vocabularies
from rootstock.data.streams import Bucketed, Interleaved, Shuffled
from rootstock.engine.describe import rebuild
from rootstock.engine.errors import UserError
from rootstock.engine.model_dir import read_config
from rootstock.engine.progress import say
from rootstock.engine.sockets import Probe
from rootstock.finetune.recipe import limited
from rootstock.finetune.tasks import find
from rootstock.finetune.text_to_text import rows
from rootstock.finetune.text_to_text.rows import TextSplit
from rootstock.finetune.text_to_text.scores import Generated, Scores
from rootstock.models import t5


@dataclasses.dataclass(frozen=True)
class Tasks:
    """Tasks in T5's cast: which, from where, and the most tokens that inputs and targets have. `evaluated` are those that are scored
    (by default the same), to which others may belong that RTE's or MNLI's rows teach.
    """

    names: Sequence[str]
    data_dir: str
    vocabulary: str
    length: int
    target_length: int
    evaluated: Sequence[str] | None = None

    def __post_init__(self):
        if not self.names:
            raise UserError("TASKS is empty; name at least one task, as in --gin.TASKS=\"('boolq',)\"")
        if other := next((task for task in map(find, self.names) if task.answered_by), None):
            raise UserError(f"{other.name} is not trained on: it has no training rows of its own; name {other.answered_by} in TASKS")

    def train(self) -> dict[str, TextSplit]:
        return {name: self._read(name, "train") for name in self.names}

    def validation(self) -> dict[str, TextSplit]:
        return {name: self._read(name, "validation") for name in (self.evaluated or self.names)}

    def _read(self, name: str, split: str) -> TextSplit:
        where = (self.data_dir, self.vocabulary, self.length, self.target_length)
        files = [(path.resolve(), path.stat()) for path in rows.rows_of(find(name), *where).inputs()]
        state = tuple((path, stat.st_mtime_ns, stat.st_size) for path, stat in files)
        return _read_once(name, *where, split, (vocabularies.load(self.vocabulary).checksum, state))


def config_of(directory: str, **changes) -> t5.Config:
    """The configuration of the encoder-decoder in `directory`; `changes` replaces fields of it (`dropout=0.1`)."""
    described = read_config(directory)
    if rebuild(described.family) is not t5.T5:
        raise UserError(f"{directory} holds a {described.family[1:]}; text to text is fine-tuned from an encoder-decoder, models.t5.T5")
    config = rebuild(described.model)
    if unknown := sorted(changes.keys() - {field.name for field in dataclasses.fields(config)}):
        raise UserError(f"{type(config).__name__} of {directory} has no {', '.join(unknown)}")
    return dataclasses.replace(config, **changes)


def training(
    tasks: Tasks, seed: int, temperature: int | float = 1, cap: int | float = math.inf, limits: Mapping[str, int] | None = None
) -> Interleaved:
    """The training rows of all tasks as one stream, in proportion to their numbers, none counted for more than `cap`, to the power of
    1 / `temperature` (see `data.mixtures`). Of a task in `limits` only so many rows, the first ones.
    """
    splits = tasks.train()
    for name, split in splits.items():
        _tell_cuts(name, split)
    chosen = limited(splits, limits)
    rates = mixtures.temperature({name: len(source) for name, source in chosen.items()}, temperature, cap)
    return Interleaved({name: Shuffled(source, seed) for name, source in chosen.items()}, rates)


def validation(tasks: Tasks) -> dict[str, Bucketed]:
    """The validation rows of each task, longest first."""
    return {name: split.longest_first() for name, split in tasks.validation().items()}


def probes(tasks: Tasks) -> dict[str, Probe]:
    """The scores of each task on its validation rows, by greedy generation."""
    return {name: Scores(find(name), split) for name, split in tasks.validation().items()}


def predicted(tasks: Tasks) -> dict[str, Probe]:
    """What the model writes on the validation rows of each task, for the protocol."""
    return {name: Generated(find(name), split) for name, split in tasks.validation().items()}


def majority(tasks: Tasks) -> dict[str, dict[str, float]]:
    """What always answering the most frequent label of the same rows scores."""
    return {name: found for name, split in tasks.validation().items() if (found := find(name).majority(split))}


@functools.lru_cache(maxsize=32)
def _read_once(name: str, data_dir: str, vocabulary: str, length: int, target_length: int, split: str, state: Hashable) -> TextSplit:
    """The same files are read once, however often a recipe names them; `state` changes when a file does."""
    return rows.read(find(name), data_dir, vocabulary, length, target_length, split)


def _tell_cuts(name: str, split: TextSplit) -> None:
    """Inputs that are cut are common; targets that are cut teach wrong answers."""
    for side, length in (("inputs", split.rows.input_length), ("targets", split.rows.target_length)):
        if count := split.counts[f"cut_{side}"]:
            say(f"{name}: {count:,} of {len(split):,} {side} are longer than {length} tokens and were cut")
