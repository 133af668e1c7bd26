import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rootstock.pretrain.objectives import masking

SPECIAL, MASK = (0, 1, 2, 3, 4), 4
SIZE = 200
VOCABULARY = types.SimpleNamespace(size=SIZE, mask_id=MASK, special_ids=SPECIAL)


def rows(lengths, width=64, seed=0):
    """Rows of those lengths, [CLS] (2) first and [SEP] (3) last, then padding."""
    ids = np.zeros((len(lengths), width), np.int32)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = np.random.default_rng(seed).integers(5, SIZE, length)
        row[:1], row[max(length - 1, 0) : length] = min(length, 1) * 2, 3
    return ids, np.arange(width)[None] < np.asarray(lengths)[:, None]


@functools.partial(jax.jit, static_argnames=("rate", "corruption"))
def compiled(ids, present, key, rate, corruption):
    batch = {"input_ids": ids, "segment_ids": present.astype(jnp.int32)}
    return masking.mask(jax.random.key(key), batch, VOCABULARY, rate=rate, corruption=corruption)


def draw(ids, present, key=0, rate=0.15, corruption=masking.bert_corruption):
    """The fields of `Masked` as numpy arrays."""
    masked = compiled(ids, present, key, rate, corruption)
    return types.SimpleNamespace(**{field.name: np.asarray(getattr(masked, field.name)) for field in dataclasses.fields(masked)})


LENGTHS = [64, 63, 17, 10, 5, 3, 2, 1, 0]


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_exact_number_in_every_row(rate):
    """round(rate n) of n tokens and at least one, as long as there are ordinary ones; none where a row is only specials or padding."""
    ids, present = rows(LENGTHS)
    masked = draw(ids, present, rate=rate)
    wanted = [max(1, round(rate * n)) if n > 2 else 0 for n in LENGTHS]
    assert masked.positions.shape == (len(LENGTHS), round(rate * 64))
    np.testing.assert_array_equal(masked.weights.sum(-1), wanted)
    assert set(np.unique(masked.weights)) == {0.0, 1.0}


def test_rounding_is_that_of_places():
    """0.15 * 190 is 28.5, which Python rounds to 28; in float32 it is a little more."""
    ids, present = rows([190, 190], width=400)
    assert draw(ids, present).weights.sum(-1).tolist() == [28, 28] == [masking.places(190, 0.15)] * 2


def test_no_more_than_the_ordinary_tokens():
    ids, present = rows([4, 64, *[5] * 7])
    np.testing.assert_array_equal(draw(ids, present, rate=0.9).weights.sum(-1), [2, 58, *[3] * 7])


def test_places():
    assert [masking.places(length, 0.15) for length in (1, 3, 128, 512)] == [1, 1, 19, 77]


def test_only_ordinary_tokens_once_each_and_the_rest_is_untouched():
    ids, present = rows(LENGTHS)
    for key in range(20):
        masked = draw(ids, present, key)
        for row in range(len(LENGTHS)):
            assert len(set(masked.positions[row])) == masked.positions.shape[1]
            used = masked.positions[row][masked.weights[row] == 1]
            assert (used < LENGTHS[row]).all() and not np.isin(ids[row, used], SPECIAL).any()
            changed = np.flatnonzero(masked.input_ids[row] != ids[row])
            assert set(changed) <= set(used)
        np.testing.assert_array_equal(masked.labels, np.take_along_axis(ids, masked.positions, 1))


def test_eighty_ten_ten():
    """Of 40,000 masked tokens; bounds of five deviations of the binomial. A random token is the old one or [MASK] in one case of 200."""
    ids = np.random.default_rng(5).integers(5, SIZE, (4000, 64)).astype(np.int32)
    present = np.ones_like(ids, bool)
    masked = draw(ids, present)
    now = np.take_along_axis(masked.input_ids, masked.positions, 1)
    n = masked.weights.sum()
    assert n == 4000 * 10
    shares = {"mask": (now == MASK).sum() / n, "kept": (now == masked.labels).sum() / n}
    for name, share in (("mask", 0.8 + 0.1 / SIZE), ("kept", 0.1 + 0.1 / SIZE)):
        assert abs(shares[name] - share) < 5 * np.sqrt(share * (1 - share) / n), name
    random = now[(now != MASK) & (now != masked.labels)]
    counts = np.bincount(random, minlength=SIZE)
    assert counts[MASK] == 0 and np.delete(counts, MASK).min() > 0  # any entry, special ones too
    assert abs(random.mean() - (SIZE - 1) / 2) < 5 * SIZE / np.sqrt(12 * len(random))


def test_all_mask():
    ids, present = rows([64] * 9)
    masked = draw(ids, present, corruption=masking.all_mask)
    assert (np.take_along_axis(masked.input_ids, masked.positions, 1) == MASK).all()


def test_electra_masks_most_and_leaves_the_rest():
    """Of 40,000 tokens 85% [MASK], 15% unchanged, never another; five deviations."""
    ids = np.random.default_rng(5).integers(5, SIZE, (4000, 64)).astype(np.int32)
    masked = draw(ids, np.ones_like(ids, bool), corruption=masking.electra_corruption)
    now = np.take_along_axis(masked.input_ids, masked.positions, 1)
    assert np.isin(now, [MASK]).sum() + (now == masked.labels).sum() == masked.weights.sum() == 40_000
    assert abs((now == MASK).mean() - 0.85) < 5 * np.sqrt(0.85 * 0.15 / 40_000)


def test_every_position_is_as_likely():
    """Over 4,000 rows each of 62 ordinary positions is picked 10 / 62 of the time; five deviations."""
    ids, present = rows([64] * 4000)
    picked = np.bincount(draw(ids, present).positions.ravel(), minlength=64)
    assert picked[0] == picked[63] == 0
    share = 10 / 62
    assert (abs(picked[1:63] / 4000 - share) < 5 * np.sqrt(share * (1 - share) / 4000)).all()


def test_keys_and_rows_differ():
    ids, present = rows([64] * 9)
    one, two = draw(ids, present), draw(ids, present, key=1)
    assert (one.positions != two.positions).any()
    assert len({tuple(np.sort(row).tolist()) for row in one.positions}) == 9
    again = draw(ids, present)
    assert all((value == vars(again)[name]).all() for name, value in vars(one).items())


def test_the_same_masks_on_eight_devices():
    inputs = rows([64, 33, 17, 10, 5, 3, 2, 0])
    split = NamedSharding(Mesh(np.asarray(jax.devices()), ("data",)), PartitionSpec("data"))
    eight = compiled(*jax.device_put(inputs, split), 0, 0.15, masking.bert_corruption)
    assert len(eight.positions.sharding.device_set) == 8
    for name, value in vars(draw(*inputs)).items():
        np.testing.assert_array_equal(getattr(eight, name), value, err_msg=name)
