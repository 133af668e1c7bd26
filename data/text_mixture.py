"""T5's multi-task pretraining: text to be denoised and labelled tasks in one stream (Raffel et al. 2019, arXiv 1910.10683, section 3.5.3).

Sources are mixed in proportion to their examples, none counted for more than a cap. Text may be counted as a virtual number of examples
instead (section 3.7: 710,000 for T5-small, 2,620,000 for base, 8,660,000 for large).
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from rootstock.data import mixtures
from rootstock.data.cached import Cached
from rootstock.data.denoised import Reshaped
from rootstock.data.errors import DataError
from rootstock.data.fields import pair_fields
from rootstock.data.streams import WEIGHT, Batch, Interleaved, Shuffled, Stream
from rootstock.data.suites import text_to_text

TEXT = "text"


class Pairs(Stream):
    """Inputs and targets of a stream's rows without what else they hold, so that tasks mix with text."""

    def __init__(self, stream: Stream, length: int, target_length: int):
        super().__init__(Reshaped(stream.source, pair_fields(length, target_length)))
        self.stream = stream

    def rows(self, places: Int64[np.ndarray, "B"]) -> Batch:
        read = self.stream.rows(places)
        return {name: read[name] for name in (*self.source.fields, WEIGHT)}


def multitask(
    text: Stream,
    tasks: Sequence[str],
    data_dir: str,
    vocabulary: str,
    length: int,
    target_length: int,
    directory: str,
    seed: int,
    cap: float = math.inf,
    text_examples: int | None = None,
) -> Interleaved:
    """The training rows of `tasks` (sets of `suites.text_to_text`, cached in folders of `directory`) and `text`, counted as
    `text_examples` where that is given.
    """
    if TEXT in tasks or not tasks:
        raise DataError(f"a multi-task mixture has tasks beside '{TEXT}'; seen {', '.join(tasks) or 'none'}.")
    streams = {TEXT: text}
    for name in tasks:
        source = Cached(text_to_text.task(name, data_dir, vocabulary, length, target_length), Path(directory) / name, "train")
        streams[name] = Pairs(Shuffled(source, seed), length, target_length)
    rates = {name: min(len(stream.source), cap) for name, stream in streams.items()}
    return Interleaved(streams, mixtures.normalised(rates | ({} if text_examples is None else {TEXT: text_examples})))
