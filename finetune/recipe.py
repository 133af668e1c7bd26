"""What fine-tuning recipes name: heads, data, probes and baselines of a list of tasks."""

from collections.abc import Mapping, Sequence

import numpy as np

from rootstock.data import vocabularies
from rootstock.data.streams import Mixed, Ordered, Shuffled
from rootstock.engine.errors import UserError
from rootstock.engine.model_dir import read_config
from rootstock.engine.sockets import Probe
from rootstock.finetune import heads, metrics, scores
from rootstock.finetune.tasks import find


def task_heads(tasks: Sequence[str], dropout: float = 0.1) -> dict[str, heads.Head]:
    """A head for each task."""
    if not tasks:
        raise UserError("TASKS is empty; name at least one task, as in --gin.TASKS=\"('boolq',)\"")
    return {name: find(name).describe_head(dropout) for name in tasks}


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
    tasks: Sequence[str], data_dir: str, vocabulary: str, length: int, seed: int, shares: Mapping[str, int] | None = None
) -> Mixed:
    """The training rows of all tasks; a batch holds `shares` of each (by default as many of each)."""
    if shares is not None and (without := [name for name in tasks if name not in shares]):
        raise UserError(f"recipe.training.shares is {dict(shares)}; it has no share for {', '.join(without)}")
    streams = {name: Shuffled(find(name).read(data_dir, vocabulary, length, "train"), seed) for name in tasks}
    chosen = dict.fromkeys(tasks, 1) if shares is None else {name: shares[name] for name in tasks}
    return Mixed(streams, chosen)


def validation(tasks: Sequence[str], data_dir: str, vocabulary: str, length: int) -> dict[str, Ordered]:
    """The validation rows of each task, in order."""
    return {name: Ordered(find(name).read(data_dir, vocabulary, length, "validation")) for name in tasks}


def probes(tasks: Sequence[str]) -> dict[str, Probe]:
    """The scores of each task."""
    return {name: find(name).probe() for name in tasks}


def majority(data: Mapping[str, Ordered]) -> dict[str, dict[str, float]]:
    """What always answering the most frequent label of the same rows scores, for tasks with classes."""
    found = {}
    for name, rows in data.items():
        probe = find(name).probe()
        if isinstance(probe, scores.ClassScores):
            labels = rows.source.read_batch(np.arange(len(rows)))["label"].ravel()
            counts = np.bincount(labels[labels >= 0], minlength=probe.classes)
            found[name] = probe.finish(metrics.majority(np.diag(counts).astype(float)))
    return found
