"""Between our tasks and seqio, both ways. Needs the extra `data`; importing seqio takes 7 seconds, so only building and live reading do it.

`to_seqio` gives a task of ours as a seqio.Task for seqio mixtures. Its source makes finished rows (see `tasks` for why), so it has no
preprocessors; a mixture, trimmer or feature converter goes on from there. `SeqioText` is the way back: any registered seqio Task or
Mixture as packed pretraining rows.
"""

import dataclasses
import functools
import importlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from rootstock.data import packing
from rootstock.data.errors import DataError
from rootstock.data.fields import Field, sequence_fields
from rootstock.data.tasks import PLACE, Map, Row, Task, batched
from rootstock.data.text import encode_documents
from rootstock.data.vocabularies import seqio_vocabulary

_BATCH = 64


def require_seqio(what: str) -> ModuleType:
    """The module seqio, or a DataError that says how to come by it."""
    try:
        import seqio
    except ImportError as error:
        raise DataError(
            f"{what} needs seqio and TensorFlow, which are not installed ({error}). Install the extra `data` "
            "(`pip install 'rootstock[data]'`), or copy a cache that was built where they are."
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
class SeqioText(Task):
    """The text of a registered seqio Task or Mixture, packed like `text.TextTask`. Every example is a document.

    `feature` holds either strings, which `vocabulary` then turns into ids, or ids that this very vocabulary made (padding is dropped).
    """

    provider: str  # the name in seqio's registry
    module: str  # the Python module that registers it
    vocabulary: str = dataclasses.field(metadata=PLACE)
    length: int
    feature: str = "targets"

    @property
    def name(self) -> str:
        return self.provider

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in ("train", "validation") if split in self._provider().splits)

    def fields(self) -> dict[str, Field]:
        return sequence_fields(self.length)

    def inputs(self) -> list[Path]:
        return []  # seqio knows what it reads

    def rows(self, split: str, counts: Counter | None = None, each: Map = map) -> Iterator[Row]:
        vocabulary = self.load_vocabulary()
        counts = Counter() if counts is None else counts
        encode = functools.partial(_encode, vocabulary.path, vocabulary.lowercase, vocabulary.pad_id)

        def pieces():
            for encoded in each(encode, batched(self._documents(split), _BATCH)):
                for ids in encoded:
                    counts["documents"] += 1
                    counts["dropped"] += not ids
                    yield from packing.cut(ids, self.length)

        return packing.pack(pieces(), self.length, vocabulary)

    def _documents(self, split: str) -> Iterator[str | list[int]]:
        dataset = self._provider().get_dataset(sequence_length=None, split=split, shuffle=False, num_epochs=1)
        if self.feature not in dataset.element_spec:
            raise DataError(f"the seqio task '{self.provider}' has no feature '{self.feature}'; it has {', '.join(dataset.element_spec)}.")
        for example in dataset.as_numpy_iterator():
            value = example[self.feature]
            yield value.decode() if isinstance(value, bytes) else value.tolist()

    def _provider(self) -> Any:
        seqio = require_seqio(f"the seqio task '{self.provider}'")
        try:
            importlib.import_module(self.module)
            return seqio.get_mixture_or_task(self.provider)
        except (ImportError, ValueError) as error:
            raise DataError(f"the module '{self.module}' gives no seqio task or mixture '{self.provider}': {error}") from error


def _encode(path: str, lowercase: bool, pad: int, documents: list[str | list[int]]) -> list[list[int]]:
    texts = [document for document in documents if isinstance(document, str)]
    encoded = iter(encode_documents(path, lowercase, texts))
    return [next(encoded) if isinstance(document, str) else [i for i in document if i != pad] for document in documents]
