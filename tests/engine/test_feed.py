import threading
import time

import jax
import numpy as np
import pytest

from rootstock.data.streams import Shuffled
from rootstock.engine import feed
from rootstock.engine.errors import UserError
from rootstock.engine.schedules import BatchRamp


class Counting:
    """Example i is the row [i, 10 i]."""

    def spec(self, size):
        return {"x": jax.ShapeDtypeStruct((size, 2), np.int32)}

    def batch(self, start, size, shard=0, shards=1):
        part = size // shards
        first = start + shard * part
        return {"x": np.arange(first, first + part, dtype=np.int32)[:, None] * np.array([1, 10], np.int32)}


class Broken(Counting):
    def batch(self, start, size, shard=0, shards=1):
        if start >= 16:
            raise OSError("the disk is gone")
        return super().batch(start, size, shard, shards)


def first_column(batches):
    return [np.asarray(batch["x"])[:, 0].tolist() for batch in batches]


@pytest.mark.parametrize("where", ["one", "data2_fsdp2_tensor2"])
def test_batches_follow_the_ramp(partitioners, where):
    ramp = BatchRamp([(0, 4), (2, 8)])
    assert first_column(feed.batches(Counting(), ramp, 1, 4, partitioners[where])) == [[*range(4, 8)], [*range(8, 16)], [*range(16, 24)]]
    assert first_column(feed.batches(Counting(), ramp, 3, 3, partitioners[where])) == []


def test_rows_lie_on_the_data_axes(partitioners):
    batch = feed.place(Counting(), 8, 8, partitioners["data2_fsdp2_tensor2"])["x"]
    held = {shard.device.id: np.asarray(shard.data)[:, 0].tolist() for shard in batch.addressable_shards}
    assert held == {device: [8 + 2 * (device // 2), 9 + 2 * (device // 2)] for device in range(8)}


def test_each_of_several_processes_reads_its_own_rows(partitioners, monkeypatch):
    """As if this were one process of several: rows are asked for by shard, and the global batch is the same."""
    asked = []

    class Watched(Counting):
        def batch(self, start, size, shard=0, shards=1):
            asked.append((start, size, shard, shards))
            return super().batch(start, size, shard, shards)

    whole = feed.place(Counting(), 8, 16, partitioners["data2_fsdp2_tensor2"])["x"]
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    parts = feed.place(Watched(), 8, 16, partitioners["data2_fsdp2_tensor2"])["x"]
    np.testing.assert_array_equal(parts, whole)
    assert sorted(asked) == [(8, 16, shard, 4) for shard in range(4)]


def test_the_thread_stays_a_few_batches_ahead(partitioners):
    """After one batch is taken, two wait, and the thread holds at most one more in its hands."""
    read, third = [], threading.Event()

    class Watched(Counting):
        def batch(self, start, size, shard=0, shards=1):
            read.append(start)
            if len(read) == 3:
                third.set()
            return super().batch(start, size, shard, shards)

    batches = feed.batches(Watched(), BatchRamp([(0, 4)]), 0, 100, partitioners["one"], ahead=2)
    next(batches)
    assert third.wait(timeout=60) and len(read) <= 4
    batches.close()
    assert len(read) <= 5 and read == [*range(0, 4 * len(read), 4)]
    assert not [thread for thread in threading.enumerate() if thread.name == "feed"]


def test_an_error_of_the_thread_surfaces_after_the_batches_before_it(partitioners):
    batches = feed.batches(Broken(), BatchRamp([(0, 8)]), 0, 5, partitioners["one"])
    assert first_column([next(batches), next(batches)]) == [[*range(8)], [*range(8, 16)]]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)


def test_uneven_batches(partitioners):
    assert feed.abstract(Counting(), 12, partitioners["data2_fsdp2_tensor2"])["x"].shape == (12, 2)
    with pytest.raises(UserError, match=r"a batch has 12 examples, which the 8 data shards of the mesh .* do not divide"):
        feed.abstract(Counting(), 12, partitioners["data8"])


def test_the_share_of_time_spent_waiting_is_measured(tiny, tmp_path, monkeypatch):
    """A reader that is slower than the step shows in the metric `waiting`, in the goodput and in the report."""
    read, seconds = Shuffled.batch, 0.25
    monkeypatch.setattr(Shuffled, "batch", lambda *args: time.sleep(seconds) or read(*args))
    assert tiny.run(tmp_path / "run", "TRAIN_STEPS=8") == 0
    shares = [value for _, value in tiny.lines(tmp_path / "run", name="waiting")]
    assert len(shares) == 8 and 0 <= min(shares) and 0.5 < max(shares) <= 1  # of a step that begins with nothing ready
    (data,) = [value for _, value in tiny.lines(tmp_path / "run", "goodput", "data")]
    assert data >= 2 * seconds  # some batches are read while the step is compiled and while the run evaluates
    assert "Time waiting for data" in (tmp_path / "run" / "report.html").read_text()
