"""What a second start may change, what it may not, and what a run takes over from another."""

import os
import shutil

import jax
import numpy as np
import pytest

from rootstock.engine import checkpoints, launch, load, model_dir, resume, train
from rootstock.engine.errors import UserError
from rootstock.tools.inspect import parameter_hash

STEPS = "TRAIN_STEPS=24"


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the finished run of 24 steps; `untouched()` tells whether anything but the lock has changed since."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize(
    "flag, message",
    [
        ("LEARNING_RATE=0.02", "LEARNING_RATE was 0.01, is now 0.02. Choose another MODEL_DIR, or start with the configuration in "),
        ("BATCH_SIZE=16", "BATCH_SIZE was 8, is now 16. Choose"),
        ("SEED=1", "SEED was 0, is now 1"),
        ("--gin_bindings=bert.Config.layers = 3", "bert.Config.layers was 2, is now 3"),
        ("--gin_bindings=train.Run.clip_norm = 1.0", "train.Run.clip_norm was None, is now 1.0"),
        ("--gin_bindings=text.TextTask.characters = 200", None),
        ("--gin_bindings=mlm.MaskedLM.rate = 0.2", "mlm.MaskedLM.rate was "),
        ("TRAIN_STEPS=25", "changed since the last start: TRAIN_STEPS: 24 -> 25"),
        ("--gin_bindings=train.Run.save_every = 3", "changed since the last start: train.Run.save_every: 4 -> 3"),
        ("--gin_bindings=train.Run.log_every = 3", "changed since the last start: train.Run.log_every: 1 -> 3"),
        ("--gin_bindings=hooks.Evaluate.every = 3", "changed since the last start: hooks.Evaluate.every: 4 -> 3"),
        ("--gin_bindings=mesh.Shape.data = 8", "changed since the last start: mesh.Shape.data: -1 -> 8"),
    ],
)
def test_what_may_change(tiny, run, capfd, flag, message):
    before = content(run)
    code = tiny.run(run, STEPS, flag)
    said = capfd.readouterr().err
    if message is None or message.startswith("changed"):
        assert code == 0 and (message or "nothing to train") in said
    else:
        assert code == 2 and f"error: {run} belongs to another run: {message}" in said
        assert content(run) == before


@pytest.mark.slow
def test_more_steps_of_a_schedule_by_steps(tiny, tmp_path, capfd):
    """Where the rate falls to zero at TRAIN_STEPS the macro may still grow: the schedule is a function of it."""
    rate = [
        "--gin_bindings=optimizers.adamw.learning_rate = @schedules.linear()",
        "--gin_bindings=schedules.linear.peak = 1e-2",
        "--gin_bindings=schedules.linear.steps = %TRAIN_STEPS",
    ]
    assert tiny.run(tmp_path / "run", "TRAIN_STEPS=2", *rate) == 0
    assert tiny.run(tmp_path / "run", "TRAIN_STEPS=4", *rate) == 0
    assert "resuming" in capfd.readouterr().err
    assert [step for step, _ in tiny.lines(tmp_path / "run")] == [1, 2, 3, 4]


def test_model_dir_in_use(tiny, run, capfd):
    before = content(run)
    with model_dir.claimed(run):
        assert tiny.run(run, STEPS) == 2
    assert f"error: MODEL_DIR {run} is in use by process {os.getpid()}; wait for it or choose another" in capfd.readouterr().err
    assert content(run) == before
    assert tiny.run(run, STEPS) == 0


def test_checkpoints_of_somebody_else(tiny, tmp_path, capfd):
    (tmp_path / "run" / "checkpoints" / "7").mkdir(parents=True)
    assert tiny.run(tmp_path / "run") == 2
    assert "holds checkpoints but no config.gin: it was not made by a run of rootstock" in capfd.readouterr().err
    assert list((tmp_path / "run" / "checkpoints" / "7").iterdir()) == []


def damage(run, step):
    file = max((run / "checkpoints" / str(step) / "params").rglob("*"), key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[:-1])


def test_damaged_newest(tiny, trained, run, caplog):
    """It is named, the one before it is used, and the run ends as it would have."""
    damage(run, 24)
    assert tiny.run(run, STEPS) == 0
    assert f"checkpoint {run}/checkpoints/24 is damaged" in caplog.text
    assert tiny.hash(run) == tiny.hash(trained)
    assert tiny.lines(run) == tiny.lines(trained)
    assert (run / "checkpoints" / "24.damaged").is_dir()


def test_another_vocabulary_of_the_same_size(tiny, tmp_path, capfd):
    """The recipe is the same to the letter; the user has deleted the cache as he was told."""
    vocabulary, cache = tmp_path / "vocab.txt", tmp_path / "cache"
    shutil.copy(tiny.folder / "vocab.txt", vocabulary)
    flags = [f"VOCABULARY='{vocabulary}'", f"CACHE_DIR='{cache}'"]
    assert tiny.run(tmp_path / "run", "TRAIN_STEPS=1", *flags) == 0
    pieces = vocabulary.read_text().split("\n")
    pieces[10], pieces[11] = pieces[11], pieces[10]
    vocabulary.write_text("\n".join(pieces))
    shutil.rmtree(cache)
    config = (tmp_path / "run" / "config.json").read_bytes()
    assert tiny.run(tmp_path / "run", "TRAIN_STEPS=2", *flags) == 2
    assert "the data was made with another vocabulary" in capfd.readouterr().err
    assert (tmp_path / "run" / "config.json").read_bytes() == config


def test_all_damaged(tiny, run, capfd):
    for step in checkpoints.steps(run):
        damage(run, step)
    metrics = (run / "metrics.jsonl").read_bytes()
    for _ in range(2):
        assert tiny.run(run, STEPS) == 2
        assert "error: none of the checkpoints in " in capfd.readouterr().err
    assert (run / "metrics.jsonl").read_bytes() == metrics


def test_kept(trained):
    assert checkpoints.steps(trained) == [20, 24]


def test_init_from(tiny, trained, tmp_path):
    """Parameters come from the other run, moments and step do not; what `skip` names begins at random, by default nothing."""
    blueprint, params = load.load(trained)
    drawn = blueprint.init_params(jax.random.key(1))
    assert parameter_hash(resume.take_over(blueprint, drawn, trained, train.Run.skip)) == parameter_hash(params) != parameter_hash(drawn)
    source = f"--gin_bindings=train.Run.init_from = '{trained}'"
    still = ["TRAIN_STEPS=1", "LEARNING_RATE=0.0", source]
    assert tiny.run(tmp_path / "run", *still, "--gin_bindings=train.Run.skip = '^mlm/|pooler'") == 0
    found, other = (checkpoints.to_host(checkpoints.read_params(folder)) for folder in (tmp_path / "run", trained))
    assert found.keys() == other.keys()
    different = {name for name in other if not np.array_equal(found[name], other[name])}
    assert different and all("mlm/" in name or "pooler" in name for name in different)


@pytest.mark.slow  # a T5 does so in tests/pretrain/test_text_runs.py
def test_continue_from(tiny, trained, run, tmp_path):
    """Parameters, moments, step and place in the data are the other run's: four more steps end with the bits of its own next four."""
    assert tiny.run(run, "TRAIN_STEPS=28") == 0
    source = f"--gin_bindings=train.Run.continue_from = '{trained}'"
    assert tiny.run(tmp_path / "further", "TRAIN_STEPS=28", source) == 0
    assert [step for step, _ in tiny.lines(tmp_path / "further")] == [25, 26, 27, 28]
    assert tiny.hash(tmp_path / "further") == tiny.hash(run)


def test_nothing_to_continue_from(tiny, trained, tmp_path, capfd):
    source = f"--gin_bindings=train.Run.continue_from = '{trained}'"
    both = f"--gin_bindings=train.Run.init_from = '{trained}'"
    assert tiny.run(tmp_path / "both", "TRAIN_STEPS=28", source, both) == 2
    assert "a run begins with init_from" in capfd.readouterr().err
    other = ["--gin_bindings=train.Run.update = @optimizers.lamb()", "--gin_bindings=optimizers.lamb.learning_rate = 1e-3"]
    assert tiny.run(tmp_path / "less", "TRAIN_STEPS=4", source) == 2
    assert f"{trained} is at step 24, and TRAIN_STEPS, which counts from its beginning, is 4" in capfd.readouterr().err
    assert not (tmp_path / "less").exists()
    assert tiny.run(tmp_path / "other", "TRAIN_STEPS=28", source, *other) == 2
    assert "train.Run.continue_from: the checkpoint " in (said := capfd.readouterr().err) and "optimizer with its moments" in said


@pytest.mark.slow
def test_scanned_and_unrolled_take_over_from_each_other(tiny, trained, tmp_path):
    """Storage differs, canonical names and so the hash do not."""
    still = ["TRAIN_STEPS=1", "LEARNING_RATE=0.0", f"--gin_bindings=train.Run.init_from = '{trained}'"]
    assert tiny.run(tmp_path / "run", *still, "--gin_bindings=bert.Config.scan = False") == 0
    assert checkpoints.shapes(tmp_path / "run").keys() != checkpoints.shapes(trained).keys()
    assert tiny.hash(tmp_path / "run") == tiny.hash(trained)


CONFIG = """# python -m rootstock.pretrain
from rootstock.engine import train

# Macros:
SEED = 0
train.Run.rules = \\
    {'embed': ('fsdp',),
     'mlp': ()}
scope/train.Run.model = @bert.PreTraining
train.Run.seed = %SEED
"""


def test_statements_of_a_configuration():
    assert resume.bindings(CONFIG) == {
        "SEED": "0",
        "train.Run.rules": " {'embed': ('fsdp',), 'mlp': ()}",
        "scope/train.Run.model": "@bert.PreTraining",
        "train.Run.seed": "%SEED",
    }


def test_comments_and_the_order_of_statements_do_not_matter(tmp_path):
    assert resume.check_same_run(tmp_path, "SEED = 1") == []
    (tmp_path / "config.gin").write_text("# one\nA = 1\nSEED = 0\nTRAIN_STEPS = 4\n")
    assert resume.check_same_run(tmp_path, "TRAIN_STEPS = 8\nSEED = 0\n# two\nA = 1\n") == ["TRAIN_STEPS: 4 -> 8"]
    with pytest.raises(UserError, match=r"A was 1, is now \(unset\); B was \(unset\), is now 1"):
        resume.check_same_run(tmp_path, "TRAIN_STEPS = 8\nSEED = 0\nB = 1\n")


def test_header_names_the_command(trained):
    head = (trained / "config.gin").read_text().splitlines()[:2]
    assert head[0].startswith("# python -m rootstock.pretrain --gin_file=") and "TRAIN_STEPS=24" in head[0]
    assert "jax " in head[1] and "Python " in head[1]
    assert launch.RECIPES.is_dir()


def test_saved_by_the_clock(tiny, tmp_path):
    """Where `save_minutes` have passed since the last save, whatever `save_every` says."""
    rarely = [f"--gin_bindings=train.Run.{name}" for name in ("save_every = 1000", "keep = 9")]
    assert tiny.run(tmp_path / "always", "TRAIN_STEPS=3", *rarely, "--gin_bindings=train.Run.save_minutes = 1e-9") == 0
    assert tiny.run(tmp_path / "never", "TRAIN_STEPS=3", *rarely, "--gin_bindings=train.Run.save_minutes = 60.0") == 0
    assert [checkpoints.steps(tmp_path / name) for name in ("always", "never")] == [[1, 2, 3], [3]]
