"""Between our tasks and seqio, both ways. Needs the extra `data`; importing seqio takes 7 seconds, so only building and live reading do it.

`to_seqio` gives a task of ours as a seqio.Task for seqio mixtures. Its source makes finished rows (see `tasks` for why), so it has no
preprocessors; a mixture, trimmer or feature converter goes on from there. The way back is one of these, which `find` tells apart:

    SeqioText    documents (strings or ids) of one feature, packed as pretraining rows of an encoder
    SeqioPairs   `inputs` and `targets`, which the task has tokenised, trimmed and closed, packed for encoder-decoders
    SeqioRows    finished rows, such as `to_seqio` gives
"""

import dataclasses
import functools
import importlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from rootstock.data import packing
from rootstock.data.errors import DataError
from rootstock.data.fields import Field, pair_fields, sequence_fields
from rootstock.data.mixtures import normalised
from rootstock.data.shards import sha256
from rootstock.data.tasks import PLACE, InParts, Part, Row, Task, batched, parted
from rootstock.data.text import packed
from rootstock.data.vocabularies import Vocabulary, seqio_vocabulary

_ROWS = 1 << 14  # pairs or rows in a part


def require_seqio(what: str) -> ModuleType:
    """The module seqio, or a DataError that says how to come by it."""
    try:
        import seqio
    except ImportError as error:
        raise DataError(
            f"{what} needs seqio and TensorFlow, which are not installed ({error}). Install the extra `data` "
            "(`pip install --editable '.[data]'` in Rootstock's folder), or copy a cache that was built where they are."
        ) from error
    return seqio


def to_seqio(task: Task, name: str) -> Any:
    """A seqio.Task with the splits and rows of ours. For a mixture, put it in seqio's registry under the same name:
    `seqio.TaskRegistry.add_provider(name, task.seqio(name))`; under another one its rate would be 0."""
    seqio = require_seqio(f"reading the task '{task.name}' through seqio")
    import tensorflow as tf

    fields = task.fields()
    signature = {key: tf.TensorSpec(field.shape, field.dtype) for key, field in fields.items()}

    def dataset(split: str, shuffle_files: bool = False, seed: int | None = None) -> tf.data.Dataset:
        return tf.data.Dataset.from_generator(lambda: task.rows(split), output_signature=signature)

    vocabulary = seqio_vocabulary(task.load_vocabulary())
    numbers = seqio.PassThroughVocabulary(size=vocabulary.vocab_size)

    def feature(key: str, field: Field) -> seqio.Feature:
        kind = vocabulary if key == "input_ids" else numbers
        return seqio.Feature(kind, add_eos=False, dtype=tf.as_dtype(field.dtype), rank=len(field.shape))

    source = seqio.FunctionDataSource(dataset_fn=dataset, splits=task.splits)
    return seqio.Task(
        name,
        source=source,
        output_features={key: feature(key, field) for key, field in fields.items()},
        preprocessors=[],
        metric_fns=[],
    )


@dataclasses.dataclass(frozen=True)
class _SeqioTask(InParts):
    provider: str  # the name in seqio's registry
    module: str  # the Python module that registers it
    vocabulary: str = dataclasses.field(metadata=PLACE)

    @property
    def name(self) -> str:
        return self.provider

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(registered(self.provider, self.module).splits)

    def inputs(self) -> list[Path]:
        """The module that registers it, and the files that its source names."""
        task = registered(self.provider, self.module)
        try:
            named = [path for split in task.splits for path in task.source.list_shards(split)]
        except Exception as error:  # of TensorFlow Datasets, for one, where they are not at hand
            raise DataError(f"the files of the seqio task '{self.provider}' cannot be listed: {error}") from error
        module = getattr(sys.modules[self.module], "__file__", None)
        return [Path(path) for path in (module, *named) if path and Path(path).is_file()]

    def examples(self, split: str, sequence_length: dict[str, int] | None, *features: str) -> Iterator[list[Any]]:
        """These features of each example, in the order of the files."""
        task = registered(self.provider, self.module)
        try:
            dataset = task.get_dataset(sequence_length=sequence_length, split=split, shuffle=False, num_epochs=1, seed=0)
        except Exception as error:  # whatever the preprocessors of a user raise
            raise DataError(f"the seqio task '{self.provider}' gives no split '{split}': {type(error).__name__}: {error}") from error
        for feature in features:
            if feature not in dataset.element_spec:
                found = ", ".join(dataset.element_spec)
                raise DataError(f"the seqio task '{self.provider}' has no feature '{feature}'; it has {found}.")
            if not dataset.element_spec[feature].dtype.is_floating and dataset.element_spec[feature].dtype != "string":
                check_vocabulary(self.provider, feature, task.output_features.get(feature), self.load_vocabulary())
        return ([example[feature] for feature in features] for example in self._read(dataset, split))

    def _read(self, dataset: Any, split: str) -> Iterator[dict[str, Any]]:
        read = 0
        examples = dataset.as_numpy_iterator()
        while True:
            try:
                example = next(examples)
            except StopIteration:
                return
            except Exception as error:
                where = f"example {read} of the split '{split}' of the seqio task '{self.provider}'"
                raise DataError(f"{where} cannot be made: {type(error).__name__}: {error}") from error
            yield example
            read += 1


@dataclasses.dataclass(frozen=True)
class SeqioText(_SeqioTask):
    """The text of a registered seqio Task, packed like `text.TextTask`. Every example is a document.

    `feature` holds either strings, which `vocabulary` then turns into ids, or ids that this very vocabulary made (padding is dropped).
    """

    length: int
    feature: str = "targets"

    def fields(self) -> dict[str, Field]:
        return sequence_fields(self.length)

    def parts(self, split: str, counts: Counter) -> Iterator[Part]:
        found = (value for (value,) in self.examples(split, None, self.feature))
        documents = (self._text(value, number) if isinstance(value, bytes) else value for number, value in enumerate(found))
        return (functools.partial(_packed, self.length, self.load_vocabulary(), some) for some in parted(documents))

    def _text(self, value: bytes, number: int) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"'{self.feature}' of example {number} of the seqio task '{self.provider}' is not UTF-8: {error}.") from error


@dataclasses.dataclass(frozen=True)
class SeqioPairs(_SeqioTask):
    """The inputs and targets of a registered seqio Task, packed. Pairs with an empty side are dropped and counted."""

    length: int
    target_length: int

    def fields(self) -> dict[str, Field]:
        return pair_fields(self.length, self.target_length)

    def parts(self, split: str, counts: Counter) -> Iterator[Part]:
        lengths = {"inputs": self.length, "targets": self.target_length}
        pairs = (tuple(pair) for pair in self.examples(split, lengths, *lengths))
        return (functools.partial(_packed_pairs, self, some) for some in batched(pairs, _ROWS))


@dataclasses.dataclass(frozen=True)
class SeqioRows(_SeqioTask):
    """The finished rows of a registered seqio Task: every feature has a fixed shape."""

    def fields(self) -> dict[str, Field]:
        task = registered(self.provider, self.module)
        spec = task.get_dataset(sequence_length=None, split=self.splits[0], shuffle=False, num_epochs=1).element_spec
        loose = [name for name, leaf in spec.items() if not leaf.shape.is_fully_defined()]
        if loose:
            raise DataError(
                f"the seqio task '{self.provider}' has neither `inputs` and `targets` nor rows of fixed shape: "
                f"{', '.join(loose)} vary in length. Name the feature that holds its documents."
            )
        return {name: Field(tuple(leaf.shape), leaf.dtype.name) for name, leaf in spec.items()}

    def parts(self, split: str, counts: Counter) -> Iterator[Part]:
        names = list(self.fields())
        return (functools.partial(_finished, names, rows) for rows in batched(self.examples(split, None, *names), _ROWS))


def find(provider: str, module: str, vocabulary: str, length: int, target_length: int | None, feature: str | None) -> Task:
    """A registered seqio Task as rows of ours. `feature` names where its documents are; without it the features decide."""
    features = set(registered(provider, module).output_features)
    if feature or features == {"targets"}:
        return SeqioText(provider, module, vocabulary, length, feature or "targets")
    if {"inputs", "targets"} <= features:
        if not target_length:
            raise DataError(f"the seqio task '{provider}' has inputs and targets; give the length of the targets too.")
        return SeqioPairs(provider, module, vocabulary, length, target_length)
    return SeqioRows(provider, module, vocabulary)


def components(provider: str, module: str) -> dict[str, float] | None:
    """The tasks of a registered seqio Mixture with their rates; None for a Task."""
    found = registered(provider, module)
    if not hasattr(found, "get_rate"):
        return None
    try:
        found._check_compatible_features()
        return normalised({task.name: found.get_rate(task) for task in found.tasks})
    except ValueError as error:
        raise DataError(f"the tasks of the seqio mixture '{provider}' cannot be mixed: {error}") from error


def registered(provider: str, module: str) -> Any:
    seqio = require_seqio(f"the seqio task '{provider}'")
    try:
        importlib.import_module(module)
        return seqio.get_mixture_or_task(provider)
    except Exception as error:  # whatever a user's module raises
        told = f"{type(error).__name__}: {error}"
        raise DataError(f"the module '{module}' gives no seqio task or mixture '{provider}': {told}") from error


def check_vocabulary(provider: str, feature: str, described: Any, vocabulary: Vocabulary) -> None:
    """Raises if a feature's ids were made by a vocabulary that is known to be another one."""
    kind = getattr(described, "vocabulary", None)
    file = getattr(kind, "sentencepiece_model_file", None)
    checksum = sha256(Path(file)) if file and Path(file).is_file() else getattr(kind, "checksum", None)
    if checksum not in (None, vocabulary.checksum):
        raise DataError(
            f"feature '{feature}' of the seqio task '{provider}' is made with another vocabulary than '{vocabulary.path}': SHA-256 "
            f"{checksum} there, {vocabulary.checksum} here."
        )


def _packed(length: int, vocabulary: Vocabulary, documents: list[str | np.ndarray], counts: Counter) -> Iterator[Row]:
    if isinstance(documents[0], str):
        return packed(length, vocabulary, documents, counts)
    counts["documents"] += len(documents)
    ids = [[i for i in document.tolist() if i != vocabulary.pad_id] for document in documents]
    counts["dropped"] += sum(not document for document in ids)
    return packing.pack((piece for document in ids for piece in packing.cut(document, length)), length, vocabulary)


def _packed_pairs(task: SeqioPairs, pairs: Sequence[tuple[np.ndarray, np.ndarray]], counts: Counter) -> Iterator[Row]:
    whole = [pair for pair in pairs if all(map(len, pair))]
    counts.update(documents=len(pairs), dropped=len(pairs) - len(whole))
    return packing.pack_pairs(whole, task.length, task.target_length, task.load_vocabulary())


def _finished(names: list[str], rows: Sequence[list], counts: Counter) -> Iterator[Row]:
    counts["documents"] += len(rows)
    return (dict(zip(names, row, strict=True)) for row in rows)
