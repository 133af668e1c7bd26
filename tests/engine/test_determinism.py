"""A run is a function of its recipe and seed, however often it is stopped."""

import os
import random
import re
import secrets
import shutil
import signal

import pytest

from rootstock.engine import checkpoints, launch

STEPS = "TRAIN_STEPS=24"


@pytest.fixture
def chance():
    """Moments that differ from one test run to the next, and can be had again: KILL_SEED=N."""
    seed = int(os.environ.get("KILL_SEED") or secrets.randbelow(10**6))
    print(f"KILL_SEED={seed}")
    return random.Random(seed)


def same(tiny, one, other, splits=("train", "validation")):
    assert tiny.hash(one) == tiny.hash(other)
    for split in splits:
        assert tiny.lines(one, split) == tiny.lines(other, split)
    assert tiny.lines(one, name="grad_norm") == tiny.lines(other, name="grad_norm")


def test_twice(tiny, trained, tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")  # compiled anew, in another process
    code, said = tiny.finish(tmp_path / "again", STEPS)
    assert code == 0, said
    same(tiny, tmp_path / "again", trained)
    assert [step for step, _ in tiny.lines(trained)] == list(range(1, 25))
    assert [step for step, _ in tiny.lines(trained, "validation")] == list(range(0, 25, 4))


@pytest.mark.slow
def test_another_seed(tiny, trained, tmp_path):
    assert tiny.run(tmp_path / "other", STEPS, "SEED=1") == 0
    assert tiny.hash(tmp_path / "other") != tiny.hash(trained)
    assert tiny.lines(tmp_path / "other")[0] != tiny.lines(trained)[0]


def test_killed_at_a_random_moment(tiny, trained, tmp_path, chance):
    run = tmp_path / "run"
    code, said = tiny.stop(tiny.start(run, STEPS), run, chance.randint(5, 21), delay=0.02 * chance.random())
    assert code == -signal.SIGKILL, said
    assert 24 not in checkpoints.steps(run)
    code, said = tiny.finish(run, STEPS)
    assert code == 0, said
    same(tiny, run, trained)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["plain", "ramp"])
def test_killed_ten_times(tiny, tmp_path, chance, recipe):
    """Five kills anywhere, five inside a save."""
    size = {"plain": [], "ramp": ["--gin_bindings=train.Run.batch_size = @schedules.BatchRamp()"]}[recipe]
    size += ["--gin_bindings=schedules.BatchRamp.stages = [(0, 8), (30, 16), (50, 24)]"] if size else []
    flags = ["TRAIN_STEPS=80", "--gin_bindings=train.Run.save_every = 2", "--gin_bindings=hooks.Evaluate.every = 8", *size]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert tiny.run(whole, *flags) == 0
    inside = 0
    for kill in range(10):
        begin = max(checkpoints.steps(run), default=0)
        saving = lambda: list((run / "checkpoints").glob("*tmp*"))
        code, said = tiny.stop(tiny.start(run, *flags), run, begin + chance.randint(2, 6), when=saving if kill % 2 else None)
        assert code == -signal.SIGKILL, said
        inside += bool(saving())
    assert inside >= 3, inside
    assert checkpoints.newest(run) < 80
    code, said = tiny.finish(run, *flags)
    assert code == 0, said
    same(tiny, run, whole)


# Dies when the checkpoint of step 12 is whole and has its name, but no checksums yet.
BEFORE_THE_SEAL = """
import os, sys
from rootstock.engine import checksums, launch
seal = checksums.seal
checksums.seal = lambda folder: os.kill(os.getpid(), 9) if folder.name == "12" else seal(folder)
sys.exit(launch.main("rootstock.pretrain", ""))
"""
# Dies in the last evaluation, when all that was saved before it is whole.
IN_THE_EVALUATION = """
import os, sys
from rootstock.engine import hooks, launch
call = hooks.Evaluate.call
def dying(self, running):
    if running.step == 24:
        running.checkpoints.wait()
        os.kill(os.getpid(), 9)
    call(self, running)
hooks.Evaluate.call = dying
sys.exit(launch.main("rootstock.pretrain", ""))
"""


@pytest.mark.parametrize("program, saved, sealed", [(BEFORE_THE_SEAL, [8, 12], [8]), (IN_THE_EVALUATION, [16, 20], [16, 20])])
@pytest.mark.slow
def test_killed_at_a_chosen_moment(tiny, trained, tmp_path, program, saved, sealed):
    run = tmp_path / "run"
    code, said = tiny.finish(run, STEPS, program=("-c", program))
    assert code == -signal.SIGKILL, said
    assert checkpoints.steps(run) == saved
    assert [step for step in saved if (run / "checkpoints" / str(step) / "checksums.json").exists()] == sealed
    code, said = tiny.finish(run, STEPS)
    assert code == 0 and f"resuming {run} at step {saved[-1]} of 24" in said, said
    same(tiny, run, trained)


@pytest.mark.slow
def test_signals(tiny, trained, tmp_path):
    """SIGTERM, started again, Ctrl-C, started again."""
    run = tmp_path / "run"
    code, said = tiny.stop(tiny.start(run, STEPS), run, 5, signal.SIGTERM)
    assert code == 75, said
    assert re.search(r"stopped by a signal at step (\d+); the newest complete checkpoint is (\S+)\. The same command goes on", said)
    first = checkpoints.newest(run)
    assert f"at step {first};" in said and str(run / "checkpoints" / str(first)) in said
    code, said = tiny.stop(tiny.start(run, STEPS), run, first + 3, signal.SIGINT)
    assert code == 130, said
    assert f"resuming {run} at step {first} of 24" in said
    assert first < checkpoints.newest(run) < 24
    code, said = tiny.finish(run, STEPS)
    assert code == 0, said
    same(tiny, run, trained)


# Sends itself a signal when a module is looked for, or a function called.
SIGNALLED = """
import os, sys
from rootstock.engine import launch
WHERE, NUMBER = {where!r}, {number}
class Finder:
    def find_spec(name, path=None, target=None):
        if name == WHERE:
            os.kill(os.getpid(), NUMBER)
def signalled(*_):
    os.kill(os.getpid(), NUMBER)
if WHERE == "orbax.checkpoint":
    sys.meta_path.insert(0, Finder)
else:
    import importlib, rootstock.engine.train
    module, owner, name = WHERE.split(" ")
    setattr(getattr(importlib.import_module(module), owner), name, signalled)
sys.exit(launch.main("rootstock.pretrain", ""))
"""
BEFORE_THE_LOOP = {
    "orbax.checkpoint": False,
    "rootstock.engine.train Running initial_state": True,
    "rootstock.engine.train Running compile": True,
    "rootstock.engine.hooks Evaluate call": True,
}


@pytest.mark.slow
def test_signals_before_the_first_step(tiny, trained, tmp_path):
    """In imports, before there is a state, in compilation, in the first evaluation: the next start begins as if nothing was."""
    run = tmp_path / "run"
    for turn, (where, claimed) in enumerate(BEFORE_THE_LOOP.items()):
        number, expected = [(signal.SIGTERM, 75), (signal.SIGINT, 130)][turn % 2]
        code, said = tiny.finish(run, STEPS, program=("-c", SIGNALLED.format(where=where, number=int(number))))
        assert code == expected, (where, said)
        assert said.splitlines()[-1].startswith("stopped by a signal before there was anything to save; the same command begins again")
        assert "Traceback" not in said and run.exists() == claimed
    assert checkpoints.steps(run) == []
    code, said = tiny.finish(run, STEPS)
    assert code == 0, said
    same(tiny, run, trained)


# From the second save on no file may grow beyond 16 kB, as on a disk that fills up.
ON_A_FULL_DISK = """
import resource, sys
from rootstock.engine import checkpoints, launch
save = checkpoints.Checkpoints.save
def limited(self, step, *rest):
    if step > 4:
        self.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, resource.RLIM_INFINITY))
    save(self, step, *rest)
checkpoints.Checkpoints.save = limited
sys.exit(launch.main("rootstock.pretrain", ""))
"""


@pytest.mark.slow
def test_full_disk(tiny, trained, tmp_path):
    """One paragraph that names the last good checkpoint; with room again the run ends as it would have."""
    run = tmp_path / "run"
    code, said = tiny.finish(run, STEPS, program=("-c", ON_A_FULL_DISK))
    assert code == 2, said
    told = f"error: a checkpoint could not be written to {run}/checkpoints: "
    (paragraph,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert paragraph.startswith(told) and "File too large" in paragraph
    assert (
        f"; the newest complete checkpoint is {run}/checkpoints/4. Mend that (where the disk is full, make room) and give the same"
        in paragraph
    )
    assert checkpoints.steps(run) == [4] and not list(run.glob("*.tmp"))
    code, said = tiny.finish(run, STEPS)
    assert code == 0 and f"resuming {run} at step 4 of 24" in said, said
    same(tiny, run, trained)


def test_finished_run_started_again(tiny, trained, tmp_path, capfd):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = {path: path.read_bytes() for path in (run / "checkpoints").rglob("*") if path.is_file()}
    assert tiny.run(run, STEPS) == 0
    assert f"{run} is at step 24 of 24: nothing to train" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in (run / "checkpoints").rglob("*") if path.is_file()} == before
    same(tiny, run, trained)


@pytest.mark.slow
def test_more_steps(tiny, trained, tmp_path, capfd):
    """TRAIN_STEPS may grow: with a schedule that does not depend on it the longer run is the one that was never stopped."""
    run = tmp_path / "run"
    assert tiny.run(run, "TRAIN_STEPS=8") == 0
    assert tiny.run(run, STEPS) == 0
    assert "changed since the last start: TRAIN_STEPS: 8 -> 24" in capfd.readouterr().err
    same(tiny, run, trained)


@pytest.mark.slow
def test_configuration_fed_back(tiny, trained, tmp_path):
    """config.gin is the whole recipe."""
    again = tmp_path / "again"
    assert launch.main("rootstock.pretrain", "", [f"--gin_file={trained}/config.gin", f"--gin.MODEL_DIR='{again}'"]) == 0
    same(tiny, again, trained)
