"""Whole runs of the denoising and LM recipes, made tiny, on bytes."""

import pathlib
import shutil

import pytest

from rootstock.engine import checkpoints, launch, load, model_dir, optimizers, schedules, state
from rootstock.tools import converted

RECIPE = pathlib.Path(__file__).parents[1] / "recipes" / "tiny_t5.gin"
SIZES = {"layers": 1, "width": 16, "heads": 2, "head_dim": 8, "mlp_width": 32}


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    return tmp_path_factory.mktemp("text_runs")


@pytest.fixture(scope="module")
def run(tiny, folder):
    """Trains by a recipe; `NAME=value` is short for `--gin.NAME=value`. The exit code."""

    def start(place, *more, recipe=RECIPE):
        kind = "raw" if recipe == RECIPE else pathlib.Path(recipe).stem
        places = {"MODEL_DIR": place, "DATA_DIR": tiny.folder / "corpus", "CACHE_DIR": folder / "cache" / kind}
        flags = [f"--gin_file={recipe}", *(f"--gin.{name}='{path}'" for name, path in places.items())]
        return launch.main("rootstock.pretrain", "", flags + [flag if flag.startswith("--") else f"--gin.{flag}" for flag in more])

    return start


@pytest.fixture(scope="module")
def whole(run, folder):
    assert run(folder / "whole") == 0
    return folder / "whole"


def test_loss_falls(tiny, whole):
    """From about log 259 + log 2 pi / 2, far below it within 8 steps: most bytes of English are a few letters."""
    losses = [loss for _, loss in tiny.lines(whole)]
    assert len(losses) == 8 and losses[-1] < losses[0] - 0.2 and losses[-1] < 6


@pytest.mark.slow
def test_interrupted_and_continued(tiny, run, whole, folder):
    """Stopped after 4 steps and started again the run ends with the same bits: masks are drawn by the place of an example."""
    assert run(folder / "twice", "TRAIN_STEPS=4") == 0
    assert run(folder / "twice") == 0
    assert tiny.hash(folder / "twice") == tiny.hash(whole)
    assert tiny.lines(folder / "twice") == tiny.lines(whole)


def test_continues_from_a_converted_checkpoint(tiny, run, whole, folder, capfd):
    """With moments and step, as `convert_t5x --slots` writes them: no config.gin, and no place in the data but the step's."""
    source = folder / "converted"
    blueprint, params = load.load(whole, step=4)
    planned = state.abstract(blueprint, [(optimizers.adafactor(schedules.inverse_sqrt()).tx, blueprint.trainable)], ())
    shutil.copytree(whole, folder / "halfway")
    shutil.rmtree(folder / "halfway" / "checkpoints" / "8")
    found = checkpoints.read_state(folder / "halfway", planned)
    vocabulary = dict(model_dir.read_config(whole).vocabulary)
    converted.write_model_dir(source, blueprint, params, vocabulary, found.opt_state, 4)

    option = f"--gin_bindings=train.Run.continue_from = '{source}'"
    assert run(folder / "further", option, "--gin_bindings=hooks.Evaluate.every = 4") == 0
    assert [step for step, _ in tiny.lines(folder / "further", "validation")] == [4, 8]  # before its first step, and after its last
    assert tiny.hash(folder / "further") == tiny.hash(whole)
    assert tiny.lines(folder / "further") == tiny.lines(whole)[4:]
    shutil.rmtree(source / "checkpoints" / "4" / "training")
    assert run(folder / "nothing", option) == 2
    assert "train.Run.continue_from: " in capfd.readouterr().err
    assert run(source) == 2
    assert "names it by train.Run.continue_from" in capfd.readouterr().err


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--gin_bindings=t5.Config.vocab_size = 200"], "the vocabulary has 259 ids, sentinels included, the model's vocab_size is 200"),
        (["TARGET_LENGTH=7"], "give up to 32 inputs and 8 targets. Give more room or cut the text into rows of fewer tokens"),
        (["VOCABULARY='data/demo/vocab.txt'", "CACHE_DIR='{}/other'"], "has no sentinels: it has no piece <extra_id_0>"),
    ],
)
def test_mistakes(run, folder, capfd, flags, message):
    assert run(folder / "mistaken", *(flag.format(folder) for flag in flags)) == 2
    assert message in capfd.readouterr().err
    assert not (folder / "mistaken").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t5_iid", "t5_ul2", "t5_lm_adapt", "t5_multitask", "decoder_base"])
def test_two_steps_of_a_recipe(tiny, run, whole, folder, name):
    of = "decoder" if name.startswith("decoder") else "t5"
    sizes = [f"--gin_bindings={of}.Config.{field} = {value}" for field, value in ({"vocab_size": 259} | SIZES).items()]
    rows = ["--gin_bindings=raw_text.RawTextTask.characters = 200", "--gin_bindings=raw_text.RawTextTask.validation_fraction = 0.2"]
    flags = ["VOCABULARY='bytes'", "LENGTH=64", "TRAIN_STEPS=2", "BATCH_SIZE=8", "--gin_bindings=train.Run.log_every = 1"]
    flags += ["TARGET_LENGTH=64"] * (of == "t5")
    if name == "t5_lm_adapt":
        flags.append("--gin_bindings=train.Run.init_from = None")
        flags.append("INIT_FROM='unused'")
    if name == "t5_multitask":
        tasks = {"TASK_DIR": f"'{tiny.folder / 'superglue'}'", "TASKS": "('boolq', 'copa')", "TASK_CACHE_DIR": f"'{folder / 'tasks'}'"}
        flags += [f"{macro}={value}" for macro, value in tasks.items()]
    assert run(folder / name, *flags, *sizes, *rows, recipe=f"pretrain/{name}.gin") == 0
    assert len(tiny.lines(folder / name)) == 2
