"""A tiny encoder-decoder of random weights with the vocabulary of the tiny runs, and one that was fine-tuned from it."""

import pathlib

import jax
import pytest

from rootstock.data import vocabularies
from rootstock.engine import checkpoints, launch, mesh, model_dir, state
from rootstock.engine.partitioning import Partitioner
from rootstock.models import t5

RECIPE = pathlib.Path(__file__).parents[2] / "recipes" / "tiny_t5_task.gin"
CONFIG = t5.Config(vocab_size=166, width=32, layers=1, heads=2, head_dim=8, mlp_width=48, buckets=8, dropout=0.0)


@pytest.fixture(scope="session")
def write(tiny):
    """Makes a MODEL_DIR of random parameters: (folder, model class, its configuration) -> folder."""

    def write(folder, model, config):
        folder.mkdir(parents=True)
        drawn = state.Blueprint.draw(lambda key: model(config, key), Partitioner(mesh.make(mesh.Shape(), jax.devices()[:1])))
        saving = checkpoints.Checkpoints(folder)
        saving.save(0, state.init(drawn, drawn.init_params(jax.random.key(1)), [], ()), {"examples": 0, "seed": 0})
        saving.close()
        vocabulary = vocabularies.load(tiny.folder / "vocab.txt")
        vocabulary.save(folder / "vocabulary")
        model_dir.write_config(folder, drawn.model, {"checksum": vocabulary.checksum, "folder": "vocabulary"})
        return folder

    return write


@pytest.fixture(scope="session")
def random_t5(write, tmp_path_factory):
    return write(tmp_path_factory.mktemp("random_t5") / "run", t5.T5, CONFIG)


@pytest.fixture(scope="session")
def finetune(tiny, random_t5):
    """(folder, *flags) -> the exit code of a run of tiny_t5_task.gin. Of the flags, `NAME=value` is short for `--gin.NAME=value`."""

    def run(folder, *more):
        places = {"MODEL_DIR": folder, "PRETRAINED": random_t5, "DATA_DIR": tiny.folder / "superglue"}
        found = [f"--gin_file={RECIPE}", *(f"--gin.{name}='{path}'" for name, path in places.items())]
        return launch.main("rootstock.finetune", "", found + [flag if flag.startswith("--") else f"--gin.{flag}" for flag in more])

    return run


@pytest.fixture(scope="session")
def finetuned_t5(finetune, tmp_path_factory):
    """MODEL_DIR of a run on BoolQ. Not to be written to, but for what evaluations write."""
    folder = tmp_path_factory.mktemp("finetuned_t5") / "run"
    assert finetune(folder) == 0
    return folder
