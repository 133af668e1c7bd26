"""The demo's three stages at tiny size: what it prints, what it leaves, and that a stage that fails ends it."""

import pathlib
import re

import pytest

from rootstock.tools import demo

RECIPES = pathlib.Path(__file__).parents[1] / "recipes"
STAGE = "include '{recipe}'\nTRAIN_STEPS = 2\nDATA_DIR = '{data}'\n"


@pytest.fixture
def flags(tiny, tmp_path):
    """Recipes of both stages over the tiny corpus and rows."""
    pretrain = STAGE.format(recipe=RECIPES / "tiny_mlm.gin", data=tiny.folder / "corpus")
    pretrain += f"CACHE_DIR = '{tiny.folder}/cache'\nVOCABULARY = '{tiny.folder}/vocab.txt'\n"
    finetune = STAGE.format(recipe=RECIPES / "tiny_superglue.gin", data=tiny.folder / "superglue") + "TASKS = ('copa',)\nBATCH_SIZE = 8\n"
    (tmp_path / "mlm.gin").write_text(pretrain)
    (tmp_path / "superglue.gin").write_text(finetune)
    return [f"--out={tmp_path}/demo", f"--pretrain={tmp_path}/mlm.gin", f"--finetune={tmp_path}/superglue.gin"]


@pytest.mark.slow
def test_three_stages(flags, tmp_path, capfd):
    """Each is an ordinary command, printed before it runs; the random run has the same encoder and takes nothing from it."""
    assert demo.main([*flags, "--seed=3"]) == 0
    said, progress = capfd.readouterr()
    commands = re.findall(r"^\[(\d)/3\] python -m (\S+) .*--gin\.SEED=3$", said, re.MULTILINE)
    assert commands == [("1", "rootstock.pretrain"), ("2", "rootstock.finetune"), ("3", "rootstock.finetune")]
    assert said.count("--gin.INIT_FROM=None") == 1 and progress.count("step 2/2") == 3
    report = (tmp_path / "demo" / "report.html").read_text()
    assert "<h2>Pretraining</h2>" in report
    (scores,) = re.findall(r"^copa +accuracy +(\S+) +(\S+) +(\S+)$", said, re.MULTILINE)
    shown = [f"{float(share) * 100:.1f}" for share in re.findall(r">(0\.\d{4}|1\.0000)<", report)[:3]]
    assert list(scores) == shown


def test_a_stage_that_fails_ends_the_demo(flags, tmp_path, capfd):
    assert demo.main([*flags, "--gin.TRAIN_STEPS=0"]) == 2
    said = capfd.readouterr()
    assert "[1/3]" in said.out and "[2/3]" not in said.out
    assert "error: TRAIN_STEPS is 0; it must be a whole number and at least 1" in said.err
    assert not (tmp_path / "demo").exists()


def test_only_bindings_are_passed_on(flags, capsys):
    with pytest.raises(SystemExit, match="2"):
        demo.main([*flags, "--tasks=copa"])
    assert "unrecognized arguments: --tasks=copa (only --gin.NAME=value is passed on, to every stage)" in capsys.readouterr().err
