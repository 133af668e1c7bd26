"""Eight fake CPU devices, strict dtypes and ranks, warnings as errors, shapes checked at run time; tiny runs to test on."""

import dataclasses
import fcntl
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling takes most of the time of these tests, and less without the optimisations, by the older emitters of loops (by 40%) and with
# every program in one piece (by 17%).
FLAGS = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters --xla_cpu_parallel_codegen_split_count=1"
)
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
# Programs that several tests share, and runs in other processes, are compiled once a worker.
COMPILED = tempfile.TemporaryDirectory(prefix="rootstock-tests-compiled-")
os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": COMPILED.name,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    # as below, for other processes
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_DEFAULT_MATMUL_PRECISION": "highest",
}

import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")

jaxtyping.install_import_hook("rootstock.models", "beartype.beartype")
jaxtyping.install_import_hook("rootstock.pretrain", "beartype.beartype")
jaxtyping.install_import_hook("rootstock.finetune", "beartype.beartype")


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def real_data():
    """The folder of real data sets, where ROOTSTOCK_REAL_DATA names one."""
    folder = os.environ.get("ROOTSTOCK_REAL_DATA")
    if not folder:
        pytest.skip("ROOTSTOCK_REAL_DATA is not set: no real data here")
    return folder


WORDS = "the cat dog sat ran on mat and then home june seven it was not i said you do to us in is of this what".split()
RECIPES = pathlib.Path(__file__).parent / "recipes"


def boolq(chance):
    label = chance.random() < 0.5
    return {"question": "is it " + ("june" if label else "seven"), "passage": " ".join(chance.choices(WORDS, k=5)), "label": label}


def copa(chance):
    label = chance.randrange(2)
    words = ["the dog ran", "it was not"]
    return {"premise": "the cat sat", "choice1": words[label], "choice2": words[1 - label], "question": "cause", "label": label}


def wsc(chance):
    label = chance.random() < 0.5
    target = {"span1_text": "the dog", "span1_index": 3, "span2_text": "it", "span2_index": 7}
    return {"text": "the cat and the dog ran then it " + ("sat" if label else "ran"), "target": target, "label": label}


SUPERGLUE = {"BoolQ": boolq, "COPA": copa, "WSC": wsc}


@dataclasses.dataclass
class Tiny:
    """Runs of tiny_mlm.gin over a small corpus whose cache stands already, and of tiny_superglue.gin. `folder` holds `corpus`,
    `cache`, `vocab.txt` and `superglue`.
    """

    folder: pathlib.Path

    def flags(self, model_dir, *more):
        """The command line of a run. Of `more`, `NAME=value` is short for `--gin.NAME=value`."""
        places = {"DATA_DIR": self.folder / "corpus", "CACHE_DIR": self.folder / "cache", "VOCABULARY": self.folder / "vocab.txt"}
        found = [
            f"--gin_file={RECIPES / 'tiny_mlm.gin'}",
            f"--gin.MODEL_DIR='{model_dir}'",
            *(f"--gin.{name}='{path}'" for name, path in places.items()),
        ]
        return found + [flag if flag.startswith("--") else f"--gin.{flag}" for flag in more]

    def run(self, model_dir, *more):
        """Trains in this process; the exit code."""
        from rootstock.engine import launch

        return launch.main("rootstock.pretrain", "", self.flags(model_dir, *more))

    def finetune(self, model_dir, encoder, *more):
        """Fine-tunes on the rows of `folder`/superglue in this process; the exit code."""
        from rootstock.engine import launch

        places = {"MODEL_DIR": model_dir, "ENCODER": encoder, "DATA_DIR": self.folder / "superglue"}
        found = [f"--gin_file={RECIPES / 'tiny_superglue.gin'}", *(f"--gin.{name}='{path}'" for name, path in places.items())]
        return launch.main("rootstock.finetune", "", found + [flag if flag.startswith("--") else f"--gin.{flag}" for flag in more])

    def start(self, model_dir, *more, program=("-m", "rootstock.pretrain")):
        """Trains in another process."""
        command = [sys.executable, *program, *self.flags(model_dir, *more)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finish(self, model_dir, *more, **where):
        """Trains in another process to its end; the exit code and what it said."""
        process = self.start(model_dir, *more, **where)
        said, _ = process.communicate()
        return process.returncode, said

    def stop(self, process, model_dir, step, number=signal.SIGKILL, delay=0.0, when=None):
        """Sends a signal when the run has written of `step`, and then `when()` is true; the exit code and what it said."""
        while process.poll() is None and self.at(model_dir) < step:
            time.sleep(0.005)
        while when and process.poll() is None and not when():
            time.sleep(0.0005)
        time.sleep(delay)
        process.send_signal(number)
        said, _ = process.communicate()
        return process.returncode, said

    def at(self, model_dir):
        """The last step that the run in `model_dir` has written of."""
        return max((line[0] for line in self.lines(model_dir)), default=0)

    @staticmethod
    def lines(model_dir, split="train", name="loss"):
        """(step, value) of every such line of metrics.jsonl, in order."""
        from rootstock.engine import metrics

        return [(line["step"], line["value"]) for line in metrics.read(model_dir) if (line["split"], line["name"]) == (split, name)]

    @staticmethod
    def hash(model_dir, step=None):
        from rootstock.engine import checkpoints
        from rootstock.tools.inspect import parameter_hash

        return parameter_hash(checkpoints.read_params(model_dir, step=step))


def shared(tmp_path_factory, name, make):
    """A folder that `make(folder)` fills, once for all workers. Not to be written to."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder, done = root / name, root / f"{name}.done"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return Tiny(shared(tmp_path_factory, "tiny", make_tiny))


def make_tiny(folder):
    from rootstock.data import build, text, vocabularies

    chance = random.Random(0)
    sentences = (" ".join(chance.choices(WORDS, k=chance.randint(3, 14))) for _ in range(400))
    (folder / "corpus").mkdir(parents=True)
    (folder / "corpus" / "a.txt").write_text("\n\n".join(f"{sentence}." for sentence in sentences))
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [*vocabularies.SPECIALS, *WORDS, *".,?'", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(pieces)) + "\n")
    task = text.TextTask(str(folder / "corpus"), str(folder / "vocab.txt"), 16, validation_fraction=0.2, characters=200)
    build.build(task, folder / "cache", workers=1, progress=False)
    for name, make in SUPERGLUE.items():
        for split, rows in (("train", 24), ("val", 11)):
            file = folder / "superglue" / name / f"{split}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(json.dumps({"idx": number, **make(chance)}) + "\n" for number in range(rows)))


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):
    """MODEL_DIR of an uninterrupted run of 24 steps that saves every 4. Not to be written to."""

    def make(folder):
        assert tiny.run(folder / "run", "TRAIN_STEPS=24") == 0

    return shared(tmp_path_factory, "trained", make) / "run"


@pytest.fixture(scope="session")
def finetuned(tiny, trained, tmp_path_factory):
    """MODEL_DIR of the run `trained`, fine-tuned on three tasks. Not to be written to."""

    def make(folder):
        assert tiny.finetune(folder / "run", trained) == 0

    return shared(tmp_path_factory, "finetuned", make) / "run"
