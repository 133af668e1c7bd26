"""The denoising objectives as seqio preprocessors, for Tasks that seqio reads. Needs the extra `data`.

    seqio.TaskRegistry.add(
        "my_span_corruption",
        source=...,
        preprocessors=[
            functools.partial(seqio.preprocessors.rekey, key_map={"targets": "text"}),
            seqio.preprocessors.tokenize,
            seqio_preprocessors.span_corruption,
            seqio.preprocessors.append_eos_after_trim,
        ],
        output_features={"inputs": ..., "targets": ...},
    )

As in T5's own preprocessors `targets` come in as the ids of documents, which are joined and cut into rows whose inputs fill
`sequence_length["inputs"]`, and go out without EOS. `full_lm` writes the EOS of every document itself and gives targets alone. Known
deviations from T5's: of a document of more than 65,536 tokens all is used, not a random part; `prefix_lm` joins documents too.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rootstock.data import denoising, vocabularies
from rootstock.data.denoising import Denoiser, Ids, Marks
from rootstock.data.errors import DataError
from rootstock.data.raw_text import SHORTEST

Dataset = Any  # tf.data.Dataset
Features = Mapping[str, Any]  # seqio.Feature by name
Lengths = Mapping[str, int]

_JOINED = 128  # documents, as in T5


def denoise(dataset: Dataset, sequence_length: Lengths, output_features: Features, denoiser: Denoiser) -> Dataset:
    """Documents to `inputs` and `targets`, corrupted anew at every reading."""
    import seqio
    import tensorflow as tf

    tokens = denoising.tokens_for(denoiser, sequence_length["inputs"])
    marks = _marks(output_features["targets"].vocabulary, denoiser, tokens)
    _check_room(denoiser, tokens, sequence_length["targets"])

    def pair(ids: Ids, seed: np.ndarray) -> tuple[Ids, Ids]:
        chance = np.random.Generator(np.random.Philox(key=seed.astype(np.uint64)))
        inputs, targets = denoiser(ids, marks, chance)
        return inputs[:-1], targets[:-1]

    @seqio.map_over_dataset(num_seeds=1)
    def corrupt(ids, seed):
        inputs, targets = tf.numpy_function(pair, [ids, seed], (tf.int32, tf.int32))
        return {"inputs": tf.ensure_shape(inputs, [None]), "targets": tf.ensure_shape(targets, [None])}

    return corrupt(rows(dataset, tokens))


def full_lm(dataset: Dataset, sequence_length: Lengths, output_features: Features) -> Dataset:
    """Documents, each closed by EOS, as rows of `targets` for a decoder-only model."""
    eos = output_features["targets"].vocabulary.eos_id
    import tensorflow as tf

    closed = dataset.map(lambda example: {"targets": tf.concat([example["targets"], [eos]], 0)})
    return rows(closed, sequence_length["targets"]).map(lambda ids: {"targets": ids})


def rows(dataset: Dataset, tokens: int) -> Dataset:
    """The ids `targets` of documents, joined and cut into rows of `tokens`; of every 128 documents the last row is shorter."""
    import tensorflow as tf

    def cut(ids):
        starts = tf.data.Dataset.range(0, tf.size(ids, tf.int64), tokens)
        return starts.map(lambda start: ids[start : start + tokens])

    joined = dataset.map(lambda example: tf.cast(example["targets"], tf.int32)).ragged_batch(_JOINED).map(lambda ids: ids.flat_values)
    return joined.flat_map(cut).filter(lambda ids: tf.size(ids) >= SHORTEST)


def _marks(vocabulary: Any, denoiser: Denoiser, tokens: int) -> Marks:
    there, needed = sentinels(vocabulary), denoiser.spans(tokens)
    if needed > len(there):
        raise DataError(
            f"rows of {tokens} tokens have {needed} spans of noise, and the seqio vocabulary has {len(there)} sentinels (extra_ids); "
            "give it more, or take longer spans"
        )
    return Marks(vocabulary.eos_id, there)


def sentinels(vocabulary: Any) -> Sequence[int]:
    """Those of <extra_id_0>, <extra_id_1>, ... of a vocabulary of seqio, as T5's released models have them: the extra ids, from the top
    down; without any, bytes have the last hundred of theirs (ByT5), and a SentencePiece file may hold them itself (mT5).
    """
    import seqio

    if hasattr(vocabulary, "sentinel_ids"):  # one of ours
        return vocabulary.sentinel_ids
    there = getattr(vocabulary, "extra_ids", 0)
    if isinstance(vocabulary, seqio.ByteVocabulary) and not there:
        return vocabularies.load("bytes").sentinel_ids
    if isinstance(vocabulary, seqio.SentencePieceVocabulary) and not there:
        find = vocabulary.tokenizer.PieceToId
        return tuple(itertools.takewhile(lambda found: found != vocabulary.unk_id, (find(f"▁<extra_id_{i}>") for i in itertools.count())))
    return range(vocabulary.vocab_size - 1, vocabulary.vocab_size - 1 - there, -1)


def _check_room(denoiser: Denoiser, tokens: int, most: int) -> None:
    """As T5 does, refuses targets that would be cut. Of single tokens chance decides how many there are; seqio trims those."""
    targets = denoiser.room(tokens)[1]
    if targets > most and not isinstance(denoiser, denoising.IidDenoising):
        raise DataError(f"rows of {tokens} tokens have {targets} targets, EOS included; sequence_length['targets'] is {most}.")


span_corruption = functools.partial(denoise, denoiser=denoising.SpanCorruption())
iid_denoising = functools.partial(denoise, denoiser=denoising.IidDenoising())
prefix_lm = functools.partial(denoise, denoiser=denoising.PrefixLM())
ul2 = functools.partial(denoise, denoiser=denoising.ul2())
