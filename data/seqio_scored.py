"""Pairs of ids with metrics as a registered seqio.Task, for seqio.Evaluator. Needs the extra `data`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rootstock.data.seqio_bridge import require_seqio
from rootstock.data.vocabularies import Vocabulary, seqio_vocabulary

Ids = Sequence[int]
Pairs = Callable[[str], Iterable[tuple[Ids, Ids]]]  # of a split
Score = Callable[[list[Any], list[Any]], Mapping[str, float]]  # targets, predictions


def register(
    name: str, splits: Sequence[str], pairs: Pairs, vocabulary: Vocabulary, read: Callable[[str, str, int], Any], score: Score
) -> None:
    """`read(text, split, row)` is what a generated text says of a row. `score` is given, as targets, the split and the number of each row,
    and what was said of them."""
    seqio = require_seqio(f"evaluating {name} through seqio")
    import tensorflow as tf

    ids = tf.TensorSpec([None], tf.int32)
    signature = {"inputs": ids, "targets": ids, "row": tf.TensorSpec([], tf.int32), "split": tf.TensorSpec([], tf.string)}

    def examples(split: str) -> Iterator[dict[str, Any]]:
        for row, (inputs, targets) in enumerate(pairs(split)):
            yield {"inputs": np.array(inputs, np.int32), "targets": np.array(targets, np.int32), "row": row, "split": split}

    def dataset(split: str, shuffle_files: bool = False, seed: int | None = None) -> tf.data.Dataset:
        return tf.data.Dataset.from_generator(lambda: examples(split), output_signature=signature)

    def postprocess(text: str, example: Mapping[str, Any], is_target: bool = False, **rest: Any) -> Any:
        place = (example["split"].decode(), int(example["row"]))
        return place if is_target else read(text, *place)

    def scores(targets: list[Any], predictions: list[Any]) -> Mapping[str, float]:  # seqio goes by these names
        return score(targets, predictions)

    feature = seqio.Feature(seqio_vocabulary(vocabulary), add_eos=False)  # rows are closed already
    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(dataset_fn=dataset, splits=splits),
        output_features={"inputs": feature, "targets": feature},
        preprocessors=[],
        postprocess_fn=postprocess,
        metric_fns=[scores],
    )
