"""Text to be denoised and labelled tasks as one stream."""

import numpy as np
import pytest

from rootstock.data.arrays import Arrays
from rootstock.data.denoised import Denoised, EncoderDecoder
from rootstock.data.denoising import SpanCorruption
from rootstock.data.errors import DataError
from rootstock.data.fields import pair_fields
from rootstock.data.raw_text import RawTextTask
from rootstock.data.streams import Shuffled
from rootstock.data.suites import text_to_text
from rootstock.data.text_mixture import multitask

LENGTHS = (128, 29)


@pytest.fixture(scope="module")
def mix(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    source = Arrays.of(RawTextTask(str(tiny.folder / "corpus"), "bytes", 141, characters=200).rows("train"), "bytes")
    text = Denoised(Shuffled(source, 0), SpanCorruption(), EncoderDecoder(*LENGTHS))
    places = (str(tiny.folder / "superglue"), "bytes", *LENGTHS, str(folder))
    return text, lambda **how: multitask(text, how.pop("tasks", ("boolq", "copa")), *places, seed=0, **how)


def test_rates(mix):
    """24 rows of each task; the text counted as it is, capped, or as a virtual number that no cap touches."""
    text, make = mix
    rows = len(text.source)
    assert rows > 40
    for how, expected in (
        ({}, (rows, 24, 24)),
        ({"cap": 12}, (12, 12, 12)),
        ({"cap": 20, "text_examples": 60}, (60, 20, 20)),
    ):
        shares = make(**how).shares
        assert list(shares) == ["text", "boolq", "copa"]
        np.testing.assert_allclose(np.array(list(shares.values())) / sum(shares.values()), np.array(expected) / sum(expected))


def test_rows_are_those_of_the_parts(mix, tiny):
    """Text comes from its own stream, corrupted as there; of a task's rows all but the index."""
    text, make = mix
    mixed = make(cap=1)
    batch = mixed.batch(0, 12)
    assert batch.keys() == {*pair_fields(*LENGTHS), "weight"}
    sources, places = mixed.where(np.arange(12))
    own = text.rows(places[sources == 0])
    for name, values in own.items():
        np.testing.assert_array_equal(batch[name][sources == 0], values)
    task = text_to_text.task("boolq", str(tiny.folder / "superglue"), "bytes", *LENGTHS)
    known = {row["input_ids"].tobytes() for row in task.rows("train")}
    assert all(row.tobytes() in known for row in batch["input_ids"][sources == 1])


def test_no_text_at_all_is_refused(mix):
    with pytest.raises(DataError, match=r"numbers above 0; seen \{'text': 0\}"):
        mix[1](text_examples=0)


@pytest.mark.parametrize("tasks, seen", [((), "none"), (("text",), "text")])
def test_refused(mix, tasks, seen):
    with pytest.raises(DataError, match=f"has tasks beside 'text'; seen {seen}"):
        mix[1](tasks=tasks)
