"""Exact lengths, and that a pair always gives its row back."""

from pathlib import Path

import numpy as np
import pytest

from rootstock.data import denoising
from rootstock.data.denoising import IidDenoising, Marks, Mixture, PrefixLM, SpanCorruption
from rootstock.data.errors import DataError

MARKS = Marks(eos=1, sentinels=range(999, 899, -1))
ROLLED = SpanCorruption(0.5, 8.0, roll=True)
DENOISERS = [SpanCorruption(), SpanCorruption(0.5, 3.0), ROLLED, SpanCorruption(0.15, 64.0), IidDenoising(), IidDenoising(0.5)]


def row(tokens, seed=0):
    return np.random.default_rng(seed).integers(2, 900, tokens).astype(np.int32)


def restored(inputs, targets):
    """The row, read back by putting after each sentinel of the inputs what follows it in the targets."""
    spans, current = {}, None
    for token in targets[:-1]:
        if token >= 900:
            current = spans.setdefault(int(token), [])
        else:
            current.append(token)
    back = []
    for token in inputs[:-1]:
        back += spans.pop(int(token)) if token >= 900 else [token]
    assert not spans
    return back


def test_lengths_of_the_paper():
    """T5's helper: 568 tokens at 15% in spans of 3 are 512 inputs and 114 targets; 512 tokens of inputs ask for 568."""
    assert SpanCorruption().room(568) == (512, 114)
    assert denoising.tokens_for(SpanCorruption(), 512) == 568
    inputs, targets = SpanCorruption()(row(568), MARKS, np.random.default_rng(0))
    assert (len(inputs), len(targets)) == (512, 114)
    assert (inputs >= 900).sum() == (targets >= 900).sum() == 28
    assert inputs[-1] == targets[-1] == MARKS.eos and inputs[-2] >= 900  # a row ends with noise


T5 = np.load(Path(__file__).parents[1] / "golden" / "denoising" / "t5.npz")  # by make.py there
KINDS = ((0.15, 3.0), (0.5, 3.0), (0.15, 8.0), (0.5, 64.0))


@pytest.mark.parametrize("case", sorted(name.removesuffix("/mask") for name in T5.files if name.endswith("/mask")))
def test_a_row_becomes_what_t5_makes_of_it(case):
    """For T5's own masks, which decide the numbers of tokens and spans; T5 adds EOS later."""
    tokens, kind = map(int, case.split("/"))
    ids, mask, *expected = (T5[f"{case}/{name}"] for name in ("ids", "mask", "inputs", "targets"))
    found = denoising.corrupted(ids, mask, MARKS)
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one[:-1], two)
    assert SpanCorruption(*KINDS[kind]).counts(tokens) == (mask.sum(), np.diff(mask.astype(int), prepend=0).clip(0).sum())


def test_lengths_of_t5s_helper():
    for inputs, tokens, targets in T5["helper"].tolist():
        assert denoising.tokens_for(SpanCorruption(), inputs) == tokens and SpanCorruption().room(tokens) == (inputs, targets)


@pytest.mark.parametrize("denoiser", DENOISERS, ids=str)
@pytest.mark.parametrize("tokens", [2, 3, 17, 120])
def test_a_pair_gives_its_row_back(denoiser, tokens):
    for seed in range(20):
        ids = row(tokens, seed)
        inputs, targets = denoiser(ids, MARKS, np.random.default_rng(seed))
        np.testing.assert_array_equal(restored(inputs, targets), ids)
        sentinels = [int(t) for t in targets if t >= 900]
        assert sentinels == list(MARKS.sentinels[: len(sentinels)]) == [int(t) for t in inputs if t >= 900]
        assert all(length <= most for length, most in zip(map(len, (inputs, targets)), denoiser.room(tokens), strict=True))


def test_spans_are_every_partition_alike():
    """6 noise tokens in 2 spans: lengths 1 to 5 of the first, each with probability 1/5; 4,000 draws, 5 standard deviations."""
    chance = np.random.default_rng(0)
    firsts = [denoising._parts(6, 2, chance)[0] for _ in range(4000)]
    assert np.abs(np.bincount(firsts, minlength=6)[1:] / 4000 - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / 4000)


def test_halves_are_rounded_as_t5_does():
    """0.15 in float32 is a little more than 0.15, which makes 29 of 28.5 noise tokens; 15% of 30 are 4.5 in float32 too, and 4 is even."""
    assert [SpanCorruption().counts(tokens) for tokens in (190, 30, 2)] == [(29, 10), (4, 1), (1, 1)]


def test_rolled_spans_lie_anywhere():
    """One span of 8 in 16 begins at each of the 16 places alike; 3,200 draws, 5 standard deviations. Unrolled it is the end of the row."""
    chance = np.random.default_rng(0)
    ids = np.arange(2, 18)
    firsts = [int(ROLLED(ids, MARKS, chance)[1][1]) for _ in range(3200)]
    over_the_end = np.mean([first == 2 for first in firsts])  # the span that begins at the first token, and the 7 that lie over the end
    assert abs(over_the_end - 8 / 16) < 5 * np.sqrt(0.25 / 3200)
    assert set(firsts) == {*range(2, 11)}
    assert {int(SpanCorruption(0.5, 8.0)(ids, MARKS, chance)[1][1]) for _ in range(20)} == {10}


def test_noise_without_a_sentinel_stays_text():
    """Every second token is noise, two sentinels: two spans."""

    class Alternating:
        def random(self, size):
            return np.arange(size) % 2 * 1.0

    inputs, targets = IidDenoising(0.5)(np.arange(2, 10), Marks(1, (999, 998)), Alternating())
    assert [*inputs] == [999, 3, 998, 5, 6, 7, 8, 9, 1] and [*targets] == [999, 2, 998, 4, 1]


def test_iid_rate():
    noise = [len(restored_noise(seed)) for seed in range(200)]
    assert abs(np.mean(noise) - 30) < 5 * np.sqrt(200 * 0.15 * 0.85 / 200)


def restored_noise(seed):
    _, targets = IidDenoising(0.15)(row(200, seed), MARKS, np.random.default_rng(seed))
    return targets[targets < 900][:-1]


def test_iid_without_any_noise():
    ids = row(2)
    inputs, targets = denoising.corrupted(ids, np.zeros(2, bool), MARKS)
    assert [*inputs] == [*ids, 1] and [*targets] == [1]


@pytest.mark.parametrize("prefix, lengths", [(0.75, (7, 3)), (0.0, (2, 8)), (1.0, (8, 2))])
def test_prefix_lm(prefix, lengths):
    inputs, targets = PrefixLM(prefix)(row(8), MARKS, np.random.default_rng(0))
    assert (len(inputs), len(targets)) == lengths == PrefixLM(prefix).room(8)
    np.testing.assert_array_equal(np.concatenate([inputs[:-1], targets[:-1]]), row(8))


def test_prefix_lm_cuts_anywhere():
    chance = np.random.default_rng(0)
    cuts = {len(PrefixLM()(row(6), MARKS, chance)[0]) - 1 for _ in range(200)}
    assert cuts == {1, 2, 3, 4, 5} and PrefixLM().room(6) == (6, 6)


class Written:
    """Two ids for each mode."""

    def encode(self, text):
        return [ord(text), 2000]


def test_ul2():
    """Equal parts, each behind the ids of its mode; the sequential one has no sentinel."""
    mixture = denoising.ul2(Written(), {"r": "R", "x": "X", "s": "S"})
    chance = np.random.default_rng(0)
    pairs = [mixture(row(128, seed), MARKS, chance) for seed in range(700)]
    modes = np.array([inputs[0] for inputs, _ in pairs])
    assert all(inputs[1] == 2000 for inputs, _ in pairs)
    shares = [(modes == mode).mean() * 7 for mode in map(ord, "RXS")]
    np.testing.assert_allclose(shares, [2, 4, 1], atol=5 * 7 * np.sqrt(0.25 / 700))
    assert all(not (inputs[2:] >= 900).any() for inputs, _ in pairs if inputs[0] == ord("S"))
    assert max(len(inputs) for inputs, _ in pairs) <= mixture.room(128)[0]
    assert denoising.ul2().modes == {}


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SpanCorruption(0.0), "rate is 0.0; expected a share between 0 and 1"),
        (lambda: SpanCorruption(mean_span=0.5), "mean_span is 0.5"),
        (lambda: Mixture({"a": PrefixLM()}, {"a": 0.0}), "needs a rate above 0 for each; seen {'a': 0.0}"),
        (lambda: denoising.tokens_for(SpanCorruption(), 2), "at most 2 inputs"),
        (lambda: denoising.tokens_for(denoising.CausalLM(), 512), "the inputs of CausalLM do not grow with the row"),
        (
            lambda: SpanCorruption(0.5)(row(900), MARKS, np.random.default_rng(0)),
            "a row has 150 spans of noise, the vocabulary 100 sentinels",
        ),
    ],
)
def test_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()
