"""What is saved is what was there, what is damaged is named and passed over, and what is kept is what was asked for."""

import datetime
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint import checkpoint_manager

from rootstock.engine import checkpoints, checksums
from rootstock.engine.errors import UserError
from rootstock.engine.state import TrainState

SHARDED = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
REPLICATED = NamedSharding(SHARDED.mesh, PartitionSpec())


def make(step, size=1 << 16):
    """A state whose every number tells its step."""
    put = lambda value, where: jax.device_put(value, where)
    value = np.arange(size, dtype=np.float32) + step
    return TrainState(
        params={"encoder/a": put(value, SHARDED)},
        frozen={"encoder/b": put(-value, REPLICATED)},
        opt_state=({"mu": put(2 * value, SHARDED), "count": put(np.int32(step), REPLICATED)},),
        carried={"queue": put(value[:8], REPLICATED)},
        step=put(np.int32(step), REPLICATED),
        elapsed=put(np.float32(step), REPLICATED),
    )


def shapes(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def position(step):
    return {"examples": 8 * step, "seed": 0}


@pytest.fixture
def open_(tmp_path):
    opened = []

    def make(**options):
        opened.append(checkpoints.Checkpoints(tmp_path, **options))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    return True


def test_nothing_to_restore(open_):
    assert open_().restore(shapes(make(0))) is None


def test_round_trip(open_, tmp_path):
    saving = open_()
    saving.save(5, make(5), position(5))
    saving.wait()
    assert saving.last_good() == f"the newest complete checkpoint is {tmp_path / 'checkpoints' / '5'}"
    state, found = open_().restore(shapes(make(0)))
    assert same(state, make(5)) and found == {"format": 1, **position(5)}
    assert jax.tree.map(lambda x: x.sharding, state) == jax.tree.map(lambda x: x.sharding, make(5))
    params = checkpoints.read_params(tmp_path)
    np.testing.assert_array_equal(params["encoder/b"], -np.arange(1 << 16, dtype=np.float32) - 5)
    assert checkpoints.shapes(tmp_path) == {"encoder/a": (1 << 16,), "encoder/b": (1 << 16,)}


def test_the_state_may_be_donated_while_it_is_saved(open_):
    """The step donates the state's buffers: those that a save still reads must not be the ones that the next step writes."""
    step = jax.jit(lambda state: jax.tree.map(lambda x: x + jnp.ones((), x.dtype), state), donate_argnums=0)
    saving, state = open_(keep=10), make(0, 1 << 20)
    for number in range(1, 31):
        state = step(state)
        if number % 10 == 0:
            saving.save(number, state, position(number))
    saving.wait()
    for number in (10, 20, 30):
        found = checkpoints.read_params(saving.folder.parent, step=number)
        np.testing.assert_array_equal(found["encoder/a"], np.arange(1 << 20, dtype=np.float32) + number)


def test_kept_by_count(open_, tmp_path):
    saving = open_(keep=2)
    for step in (1, 2, 3, 4):
        saving.save(step, make(step, 64), position(step))
    saving.wait()
    assert checkpoints.steps(tmp_path) == [3, 4]


def test_kept_by_time(open_, tmp_path, monkeypatch):
    """One for every `keep_hours` stays beside the newest; the clock is Orbax's own record of when a checkpoint was made."""

    class Clock(datetime.datetime):
        hours = 0

        @classmethod
        def now(cls, tz=None):
            return datetime.datetime(2026, 1, 1, tzinfo=tz) + datetime.timedelta(hours=cls.hours)

    fake = type("fake", (), {name: getattr(datetime, name) for name in ("timedelta", "timezone", "UTC")})
    fake.datetime = Clock
    monkeypatch.setattr(checkpoint_manager, "datetime", fake)
    saving = open_(keep=1, keep_hours=3.5)
    for hour in range(10):
        Clock.hours = hour
        saving.save(hour, make(hour, 64), position(hour))
    saving.wait()
    assert checkpoints.steps(tmp_path) == [0, 4, 8, 9]


def test_a_step_is_saved_once(open_, tmp_path):
    saving = open_()
    saving.save(3, make(3, 64), position(3))
    saving.save(3, make(7, 64), position(7))
    saving.wait()
    state, found = open_().restore(shapes(make(0, 64)))
    assert same(state, make(3, 64)) and found["examples"] == 24


def truncated(folder):
    file = max((path for path in (folder / "params").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[:-3])
    return file


def flipped(folder):
    file = truncated_at = max((path for path in (folder / "training").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(truncated_at.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    return file


def missing(folder):
    file = next(path for path in sorted((folder / "position").rglob("*")) if path.is_file())
    file.unlink()
    return file


DAMAGE = {truncated: r"bytes instead of", flipped: "has another checksum than when it was written", missing: "is missing"}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_named_and_the_one_before_is_used(open_, tmp_path, caplog, damage):
    saving = open_(keep=3)
    for step in (1, 2):
        saving.save(step, make(step), position(step))
    saving.wait()
    folder = tmp_path / "checkpoints" / "2"
    file = damage(folder)
    with pytest.raises(UserError, match=f"the checkpoint {folder} is damaged: {file.relative_to(folder)}.*{DAMAGE[damage]}"):
        checkpoints.read_params(tmp_path)
    state, found = open_().restore(shapes(make(0)))
    assert same(state, make(1)) and found["examples"] == 8
    assert f"checkpoint {folder} is damaged: {file.relative_to(folder)}" in caplog.text and DAMAGE[damage] in caplog.text
    assert checkpoints.steps(tmp_path) == [1] and (tmp_path / "checkpoints" / "2.damaged").is_dir()


def test_saved_and_damaged_again(open_, tmp_path):
    """The run goes on and comes by the step whose checkpoint was damaged."""
    for _ in range(2):
        saving = open_(keep=3)
        for step in (1, 2):
            saving.save(step, make(step, 64), position(step))
        saving.wait()
        assert checkpoints.steps(tmp_path) == [1, 2]
        truncated(tmp_path / "checkpoints" / "2")
        assert same(open_().restore(shapes(make(0, 64)))[0], make(1, 64))


def test_all_damaged(open_, tmp_path):
    saving = open_()
    for step in (1, 2):
        saving.save(step, make(step, 64), position(step))
        saving.wait()
        truncated(tmp_path / "checkpoints" / str(step))
    for _ in range(2):  # the second start must not begin anew in silence
        with pytest.raises(UserError, match=r"none of the checkpoints in .* can be read; they are kept there as 1.damaged, 2.damaged"):
            open_().restore(shapes(make(0, 64)))


def test_without_a_seal(open_, tmp_path, caplog):
    """Killed between Orbax's rename and the seal: whole, and used. Without a seal and unreadable: passed over."""
    saving = open_(keep=3)
    for step in (1, 2):
        saving.save(step, make(step), position(step))
    saving.wait()
    newest = tmp_path / "checkpoints" / "2"
    (newest / checksums.SEAL).unlink()
    assert same(open_().restore(shapes(make(0)))[0], make(2))
    for file in newest.glob("params/**/*"):
        if file.is_file():
            file.write_bytes(b"")
    assert same(open_().restore(shapes(make(0)))[0], make(1))
    assert f"checkpoint {newest} is damaged" in caplog.text


def test_whole_but_of_another_model(open_, tmp_path):
    """A checkpoint that is what it was is not set aside for a run that it does not fit."""
    saving = open_()
    saving.save(1, make(1), position(1))
    saving.wait()
    other = shapes(make(0)).replace(params={"encoder/c": jax.ShapeDtypeStruct((8,), jnp.float32, sharding=SHARDED)})
    with pytest.raises(UserError, match=r"checkpoints/1 is whole, but it does not fit this run"):
        open_().restore(other)
    assert same(open_().restore(shapes(make(0)))[0], make(1))


def test_a_save_that_fails(open_, tmp_path, monkeypatch):
    """What goes wrong in the background is told at the next save, and names the last good checkpoint."""
    saving = open_()
    saving.save(1, make(1, 64), position(1))
    saving.wait()

    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checksums, "seal", full)
    saving.save(2, make(2, 64), position(2))
    with pytest.raises(UserError, match=r"could not be written to .*No space left on device"):
        saving.wait()
    monkeypatch.undo()
    saving.save(3, make(3, 64), position(3))
    saving.wait()
    assert saving.last_good().endswith("/3")


def test_reading(open_, tmp_path):
    with pytest.raises(UserError, match=r"holds no checkpoint \(looked in .*\); give the MODEL_DIR of a run that has saved one"):
        checkpoints.newest(tmp_path)
    saving = open_()
    saving.save(4, make(4, 64), position(4))
    saving.wait()
    with pytest.raises(UserError, match=r"has no checkpoint of step 3; it has \[4\]"):
        checkpoints.read_params(tmp_path, step=3)
    shutil.rmtree(tmp_path / "checkpoints" / "4" / "params" / "array_metadatas", ignore_errors=True)
    assert checkpoints.shapes(tmp_path, 4) == {"encoder/a": (64,), "encoder/b": (64,)}


def test_restack():
    """Under other storage names the same values: period 1 unrolled, period 1 stacked, period 2 stacked."""
    values = {f"encoder/layers/{i}/mlp/kernel": np.full((2, 3), i, np.float32) for i in range(4)} | {"head/bias": np.ones(5, np.float32)}
    wanted = {name: value.shape for name, value in values.items()}
    assert same(checkpoints.restack(values, wanted), values)
    with pytest.raises(UserError, match="has no parameter head/kernel"):
        checkpoints.restack(values, {"head/kernel": (5, 5)})
    with pytest.raises(UserError, match=r"head/bias has shape \(5,\), the model wants \(6,\): another size of model or vocabulary"):
        checkpoints.restack(values, {"head/bias": (6,)})
