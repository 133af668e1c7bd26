"""A user's mistakes: exit code 2, one paragraph that says what was wrong and what was expected, and nothing left behind."""

import json
import re
import shlex

import numpy as np
import pytest

from rootstock.engine import checkpoints, launch
from rootstock.engine.errors import Stopped, UserError

HEAD = """
from __gin__ import dynamic_registration
from rootstock.engine import train
from rootstock.models import bert
"""


@pytest.fixture
def refused(tiny, tmp_path, capfd):
    """(flags) -> the message; MODEL_DIR must not come to be."""

    def refused(*more, flags=None):
        folder = tmp_path / "run"
        assert launch.main("rootstock.pretrain", "", flags or tiny.flags(folder, *more)) == 2
        said = capfd.readouterr()
        assert said.out == "" and not folder.exists()
        last = said.err.strip().splitlines()[-1]
        assert last.startswith("error: ") and "Traceback" not in said.err
        return last

    return refused


@pytest.fixture
def recipe(tiny, tmp_path):
    """(lines) -> flags of a run with a recipe of these lines on top."""

    def recipe(lines):
        (tmp_path / "mine.gin").write_text(HEAD + lines)
        return [f"--gin_file={tmp_path}/mine.gin"]

    return recipe


def test_no_such_recipe(refused):
    said = refused(flags=["--gin_file=pretrain/bert_bsae.gin", "--gin.MODEL_DIR='x'"])
    assert said.endswith("did you mean pretrain/bert_base.gin?") and "--gin_file=pretrain/bert_bsae.gin" in said
    assert "did you mean pretrain/demo_bert.gin?" in refused(flags=["--gin_file=demo_brt.gin"])
    assert "did you mean" not in refused(flags=["--gin_file=zzz"])


def test_unknown_flag(tiny, tmp_path, capfd):
    with pytest.raises(SystemExit, match="2"):
        tiny.run(tmp_path / "run", "--gin_fiel=x")
    assert "unrecognized arguments: --gin_fiel=x" in capfd.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        launch.main("rootstock.pretrain", "", [])
    assert "required: --gin_file" in capfd.readouterr().err


@pytest.mark.parametrize(
    "flag, message",
    [
        ("TRAIN_STEP=3", r"--gin.TRAIN_STEP: no recipe defines the macro TRAIN_STEP; did you mean TRAIN_STEPS?; defined are BATCH_SIZE, "),
        (
            "LENGTH=sixteen",
            """the binding 'LENGTH = sixteen' is wrong: sixteen is no Python value. A text needs its own quotes inside the \
shell's: --gin.LENGTH="'sixteen'\"""",
        ),
        ("--gin_bindings=train.Run.clip_norm = 0.0", "train.Run.clip_norm is 0.0; expected a number above 0, or None for no clipping"),
        ("--gin_bindings=train.Run.micro_batch_size = -4", "train.Run.micro_batch_size is -4; expected at least 1"),
        ("SEED=(1", "the binding 'SEED = (1' is wrong: "),
        (
            "--gin_bindings=bert.Config.vidth = 3",
            "the binding 'bert.Config.vidth = 3' is wrong: Configurable 'bert.Config' doesn't have a parameter named 'vidth'",
        ),
        ("TRAIN_STEPS=0", "TRAIN_STEPS is 0; it must be a whole number and at least 1"),
        ("TRAIN_STEPS='many'", "TRAIN_STEPS is 'many'; it must be"),
        ("TRAIN_STEPS=1e3", "TRAIN_STEPS is 1000.0; it must be"),
        ("BATCH_SIZE=0", "BATCH_SIZE is 0; it must be"),
        ("--gin_bindings=train.Run.log_every = 0", "train.Run.log_every is 0; it must be"),
        ("--gin_bindings=train.Run.save_every = 0", "train.Run.save_every is 0; it must be"),
        ("--gin_bindings=train.Run.keep = 0", "train.Run.keep is 0; it must be"),
        ("BATCH_SIZE=12", "a batch has 12 examples, which the 8 data shards of the mesh {'replica': 1, 'data': 8, "),
        ("--gin_bindings=train.Run.micro_batch_size = 3", "micro_batch_size 3 does not divide the batch size 8"),
        ("--gin_bindings=train.Run.micro_batch_size = 4", "cannot be cut into 2 micro-batches on 8 data shards"),
        ("--gin_bindings=mesh.Shape.data = 16", "wants 16 devices, but 8 are present; change the bindings of rootstock.engine.mesh.Shape"),
        ("--gin_bindings=mesh.Shape.data = 3", "wants 3 devices, but 8 are present"),
        ("--gin_bindings=mesh.Shape.tensor = 0", "a mesh axis must be a positive number"),
        (
            "--gin_bindings=train.Run.rules = {'embed': ('tensr',)}",
            "the partitioning rules name the mesh axes ['tensr'], but the mesh has ",
        ),
        ("--gin_bindings=train.Run.trainable = 'nothing'", "no parameter's name matches trainable='nothing'; one of them is 'encoder/"),
        ("--gin_bindings=bert.Config.vocab_size = 50", " entries, the model's vocab_size is 50; make it at least as large"),
        ("--gin_bindings=bert.Config.heads = 3", "3 heads do not divide the width 16"),
        ("--gin_bindings=optimizers.adamw.learning_rate = @schedules.lineal()", "module 'rootstock.engine.schedules' from "),
        ("LENGTH=32", "was made for another task: length is 16 there and 32 here"),
        ("LEARNING_RATE='1e-3'", "LEARNING_RATE is '1e-3'; it must be a number. Without the inner quotes: --gin.LEARNING_RATE=1e-3"),
        ("--gin_bindings=schedules.constant.peak = '1e-3'", "schedules.constant.peak is '1e-3'; it must be a number. Without the inner"),
        ("--gin_bindings=schedules.constant.warmup = 2.5", "schedules.constant.warmup is 2.5; it must be a whole number"),
        ("--gin_bindings=bert.Config.layers = '2'", "bert.Config.layers is '2'; it must be a whole number"),
        ("--gin_bindings=bert.Config.scan = 'no'", "bert.Config.scan is 'no'; it must be True or False"),
        ("--gin_bindings=train.Run.clip_norm = 'one'", "train.Run.clip_norm is 'one'; it must be a number or None"),
        ("--gin_bindings=train.Run.hooks = {}", "train.Run.hooks is {}; it must be a list in brackets"),
        ("--gin_bindings=train.Run.objective = 'mlm'", "train.Run.objective is 'mlm'; it must be an object, as in @module.Name()"),
        ("--gin_bindings=train.Run.model = 'bert'", "train.Run.model is 'bert'; it must be a function, as in @module.name"),
        ("VOCABULARY=7", "VOCABULARY is 7; it must be a text"),
    ],
)
def test_values(refused, flag, message):
    assert message in refused(flag)


def test_mesh_that_does_not_divide_a_parameter(refused):
    said = refused(
        "--gin_bindings=mesh.Shape.data = 1", "--gin_bindings=mesh.Shape.tensor = 8", "--gin_bindings=bert.Config.mlp_width = 36"
    )
    assert "the mesh axis 'tensor' is 8, which does not divide 36, the size of the axis 'mlp' of the parameter encoder/layers/" in said


@pytest.mark.parametrize(
    "line, message",
    [
        ("train.Run.seed = %SEDE", "the recipe uses %SEDE, which nothing defines; did you mean SEED?"),
        ("bert.Config.vidth = 3", "Configurable 'bert.Config' doesn't have a parameter named 'vidth'. In file "),
        ("train.Run.model = @bert.PreTrainig", "Couldn't resolve selector bert.PreTrainig"),
        ("from rootstock.models import brt", "No module named 'rootstock.models.brt'"),
        ("include 'pretrain/nothing.gin'", "nothing.gin"),
        ("train.Run.seed 3", "Couldn't parse statement"),
    ],
)
def test_recipes(refused, recipe, line, message):
    said = refused(*recipe(line))
    assert message in said
    assert "mine.gin" in said or "%" in line


def test_value_that_a_library_refuses(refused, recipe, tiny):
    """Told with the name of what was called and what was bound to it, and not with the library's traceback."""
    lines = "import optax\nfrom rootstock.engine import optimizers\ninclude 'RECIPE'\n"
    lines += "optimizers.adamw.learning_rate = @optax.cosine_decay_schedule()\n"
    lines += "optax.cosine_decay_schedule.init_value = 1.0\noptax.cosine_decay_schedule.decay_steps = 0\n"
    first, *others = tiny.flags("run", "--dry_run")
    said = refused(flags=[*recipe(lines.replace("RECIPE", first.partition("=")[2])), *others])
    assert "the recipe's values do not fit cosine_decay_schedule (init_value = 1.0, decay_steps = 0): " in said
    assert "requires positive decay_steps" in said


def test_model_dir_missing(refused, tiny):
    flags = [flag for flag in tiny.flags("x") if "MODEL_DIR" not in flag]
    assert refused(flags=flags) == """error: the recipe needs MODEL_DIR: add --gin.MODEL_DIR="'...'\""""


def test_no_recipe_of_a_run(refused, recipe):
    assert "hardware/gpu.gin defines none: it is no recipe of a run by itself" in refused(
        flags=["--gin_file=hardware/gpu.gin", "--gin.SEED=1"]
    )
    said = refused(flags=recipe("include 'run.gin'\nMODEL_DIR = 'x'\nTRAIN_STEPS = 1\nBATCH_SIZE = 1"))
    assert "the recipe leaves something out: Run.__init__() missing" in said


def test_model_dir_that_cannot_be_made(tiny, tmp_path, capfd):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        assert tiny.run(folder) == 2
        assert f"error: MODEL_DIR {folder} cannot be written: " in capfd.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_corpus(refused, tmp_path):
    cache = f"CACHE_DIR='{tmp_path}/cache'"
    said = refused(cache, f"DATA_DIR='{tmp_path}/gone/*.txt'")
    assert said == f"error: '{tmp_path}/gone/*.txt' matches no file; looked for '{tmp_path}/gone/*.txt'."
    (tmp_path / "corpus").mkdir()
    assert "matches no file that ends in .txt" in refused(cache, f"DATA_DIR='{tmp_path}/corpus'")
    (tmp_path / "corpus" / "a.txt").write_text("\n \n")
    assert "there is no text in " in refused(cache, f"DATA_DIR='{tmp_path}/corpus'")
    assert refused(cache, f"VOCABULARY='{tmp_path}/gone.txt'") == f"error: '{tmp_path}/gone.txt' does not exist."
    (tmp_path / "corpus" / "a.txt").write_bytes(b"\x7fELF\x02\x01\x00\x00")
    assert f"'{tmp_path}/corpus/a.txt' is a binary file (a zero in line 1), expected UTF-8 text" in refused(
        cache, f"DATA_DIR='{tmp_path}/corpus'"
    )
    assert not (tmp_path / "cache").exists()


def test_init_from(refused, trained, tmp_path):
    said = refused(f"--gin_bindings=train.Run.init_from = '{tmp_path}/gone'")
    assert f"{tmp_path}/gone holds no checkpoint" in said and "give the MODEL_DIR of a run that has saved one" in said
    said = refused(f"--gin_bindings=train.Run.init_from = '{trained}'", "--gin_bindings=bert.Config.width = 32")
    assert "has shape (16,), the model wants (32,): another size of model or vocabulary" in said
    said = refused(f"--gin_bindings=train.Run.init_from = '{trained}'", "--gin_bindings=bert.Config.layers = 3")
    assert "the checkpoint has no parameter encoder/layers/2/attention/key/bias, encoder/layers/2/attention/key/kernel, " in said
    assert " and 8 more; it has for example " in said and said.endswith("What may begin at random is named by train.Run.skip")


def test_init_from_another_vocabulary(refused, trained, tiny, tmp_path):
    """As many pieces in another order: every embedding would stand for another word."""
    first, rest = (lines := (tiny.folder / "vocab.txt").read_text().splitlines())[:5], lines[5:]
    (tmp_path / "other.txt").write_text("\n".join(first + rest[::-1]) + "\n")
    flags = [f"VOCABULARY='{tmp_path}/other.txt'", f"CACHE_DIR='{tmp_path}/cache'", f"--gin_bindings=train.Run.init_from = '{trained}'"]
    said = refused(*flags)
    assert "the data was made with another vocabulary (SHA-256 " in said and said.endswith(f"; use {trained}/vocabulary")
    said = refused(f"--gin_bindings=vocabularies.load.path = '{tmp_path}/other.txt'")
    assert "than MaskedLM.vocabulary (" in said and said.endswith("name the one that the data has")


@pytest.mark.parametrize(
    "decay, what, good",
    [
        ("0.0", "loss became|grad_norm became", [1]),
        pytest.param("1e12", "a parameter is no finite number", [], marks=pytest.mark.slow),
    ],
)
def test_loss_that_is_no_number(tiny, tmp_path, capfd, decay, what, good):
    """A step of 1e30 overflows in the next forward pass; multiplied by a huge decay it does so by itself, while the loss is still good."""
    run = tmp_path / "run"
    huge = ["LEARNING_RATE=1e30", f"--gin_bindings=optimizers.adamw.weight_decay = {decay}", "--gin_bindings=train.Run.save_every = 1"]
    assert tiny.run(run, *huge) == 2
    said = capfd.readouterr().err.strip().splitlines()[-1]
    named = f"the newest complete checkpoint is {run}/checkpoints/1" if good else "there is no checkpoint yet"
    assert re.match(rf"error: ({what}).* at or shortly before step {1 + len(good)}; {named}\. A smaller learning rate", said)
    assert checkpoints.steps(run) == good
    for step in good:
        assert all(np.isfinite(x).all() for x in checkpoints.to_host(checkpoints.read_params(run, step=step)).values())
    assert tiny.at(run) == 1 and np.isfinite([value for _, value in tiny.lines(run)]).all()


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--process_count=2", "--process_index=1"], "are given together or not at all"),
        (["--coordinator_address=localhost", "--process_count=2", "--process_index=1"], "expected HOST:PORT"),
        (["--coordinator_address=localhost:1", "--process_count=2", "--process_index=2"], "an index from 0 to below the count"),
        (["--distributed"], "the processes do not come together: "),
    ],
)
def test_several_processes(tiny, tmp_path, capfd, flags, message):
    assert launch.main("rootstock.pretrain", "", tiny.flags(tmp_path / "run", *flags)) == 2
    assert message in capfd.readouterr().err


@pytest.mark.parametrize("argument", ["--gin.MODEL_DIR='x'", "train.Run.skip = 'x'", "'a' = 1", "x'", "--gin_bindings=a = '$b'"])
def test_the_command_can_be_pasted(argument):
    assert shlex.split(launch.command_line("p", ["--gin_bindings", argument])) == ["python", "-m", "p", "--gin_bindings", argument]


def test_guarded(capfd, tmp_path):
    """What a command ends with."""

    def told(error):
        raise error

    assert launch.guarded(lambda: None) == 0
    assert launch.guarded(lambda: told(UserError("a\n  In call to configurable 'Run' (<class 'x'>)"))) == 2
    assert capfd.readouterr().err == "error: a\n"
    assert launch.guarded(lambda: told(Stopped("saved", 75))) == 75
    assert launch.guarded(lambda: told(KeyboardInterrupt())) == 130
    assert launch.guarded(lambda: (tmp_path / "file").mkdir()) == 0
    assert launch.guarded(lambda: (tmp_path / "file").mkdir()) == 2
    assert capfd.readouterr().err.endswith(f"error: '{tmp_path}/file': File exists\n")
    with pytest.raises(FileNotFoundError):  # of a file that we should not have missed
        launch.guarded(lambda: (tmp_path / "gone").read_text())
    with pytest.raises(json.JSONDecodeError):  # from a library's depth: a bug, told with its traceback
        launch.guarded(lambda: json.loads("{"))


def test_macros():
    """Their values, where a macro stands for another too."""
    launch.bind(["finetune/superglue.gin"], ["ENCODER = 'x'", "TASKS = ('cb', %MODEL_DIR)", "MODEL_DIR = 'y'"])
    assert (launch.macro("INIT_FROM"), launch.macro("TASKS"), launch.macro("LENGTH")) == ("x", ("cb", "y"), 256)
    with pytest.raises(ValueError, match="no bound parameters"):
        launch.macro("GONE")


def test_command_can_be_repeated():
    flags = ["--gin_file=x.gin", "--gin.MODEL_DIR='runs/my run'", "--gin.TASKS=('boolq',)", "--gin.SEED=1", "--gin_bindings=a.b = 'c'"]
    command = launch.parse("rootstock.pretrain", "", flags, "").command
    assert shlex.split(command) == ["python", "-m", "rootstock.pretrain", *flags]
    assert "--gin.MODEL_DIR=\"'runs/my run'\"" in command
