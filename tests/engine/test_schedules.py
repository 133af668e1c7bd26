import numpy as np
import pytest

from rootstock.engine import schedules
from rootstock.engine.errors import UserError


def values(schedule, steps):
    return [float(schedule(step)) for step in steps]


def test_linear():
    np.testing.assert_allclose(
        values(schedules.linear(2.0, 10, warmup=4), range(12)),
        [0, 0.5, 1, 1.5, 2, 2 * 5 / 6, 2 * 4 / 6, 1, 2 * 2 / 6, 2 / 6, 0, 0],
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_allclose(values(schedules.linear(2.0, 4, end=1.0), range(6)), [2, 1.75, 1.5, 1.25, 1, 1], rtol=1e-6)


def test_linear_as_released():
    """BERT's and ELECTRA's own forms decay from step 0 on: after a warm-up of 100 in 1,000 steps 0.9 of the peak is left."""
    steps = (0, 50, 99, 100, 500, 900, 1000, 1001)
    bert, electra = (values(schedule(2.0, 1000, warmup=100), steps) for schedule in (schedules.bert_linear, schedules.electra_linear))
    np.testing.assert_allclose(bert, [0, 1, 1.98, 1.8, 1, 0.2, 0, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(electra, [0, 0.95, 2 * 0.99 * 0.901, 1.8, 1, 0.2, 0, 0], rtol=1e-5, atol=1e-6)
    for schedule in (schedules.bert_linear, schedules.electra_linear):
        np.testing.assert_allclose(values(schedule(2.0, 4), range(6)), [2, 1.5, 1, 0.5, 0, 0], rtol=1e-6)


def test_cosine():
    wanted = [0, 1, 2, *(0.5 + 1.5 * (1 + np.cos(np.pi * np.arange(1, 9) / 8)) / 2), 0.5]
    np.testing.assert_allclose(values(schedules.cosine(2.0, 10, warmup=2, end=0.5), range(12)), wanted, rtol=1e-5)
    np.testing.assert_array_equal(values(schedules.cosine(0.0, 10, warmup=2), range(12)), np.zeros(12))


def test_constant_and_inverse_sqrt():
    np.testing.assert_allclose(values(schedules.constant(3.0, warmup=3), (0, 1, 2, 3, 1000)), [0, 1, 2, 3, 3], rtol=1e-6)
    np.testing.assert_allclose(values(schedules.constant(3.0), (0, 9)), [3, 3])
    np.testing.assert_allclose(values(schedules.inverse_sqrt(warmup=100), (0, 99, 100, 10_000)), [0.1, 0.1, 0.1, 0.01], rtol=1e-6)


def test_share():
    assert schedules.share(0.06, 1001) == 60


RAMP = schedules.BatchRamp([(0, 4), (3, 8), (5, 16)])


def test_batch_ramp():
    assert [RAMP.size(step) for step in range(7)] == [4, 4, 4, 8, 8, 16, 16]
    assert [RAMP.position(step) for step in range(8)] == [0, 4, 8, 12, 20, 28, 44, 60]
    assert RAMP.sizes(3) == [4] and RAMP.sizes(4) == [4, 8] and RAMP.sizes(100) == [4, 8, 16]


def test_position_is_the_sum_of_the_sizes_before():
    for step in range(20):
        assert RAMP.position(step) == sum(RAMP.size(before) for before in range(step))


@pytest.mark.parametrize("stages", [[], [(1, 4)], [(0, 4), (0, 8)], [(0, 4), (5, 8), (3, 16)], [(0, 0)]], ids=str)
def test_impossible_ramps(stages):
    with pytest.raises(UserError, match="rising steps from 0 and positive sizes"):
        schedules.BatchRamp(stages)
