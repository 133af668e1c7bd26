"""Text to encoder to scores: what is taken over, what is written, and that the evaluation command agrees with the run."""

import json
import re
import shutil
import zipfile

import numpy as np
import pytest

import rootstock
from rootstock.engine import checkpoints, metrics
from rootstock.finetune import evaluate
from rootstock.models.layers import stack

TASKS = ("boolq", "copa", "wsc")


def canonical(folder, step=None):
    return stack.unstack(checkpoints.to_host(checkpoints.read_params(folder, step=step)))


def final_scores(tiny, folder):
    return {task: lines[-1] for task in TASKS if (lines := scores(folder, task))}


def scores(folder, task):
    return [
        line["value"] for line in metrics.read(folder) if (line["split"], line["task"], line["name"]) == ("validation", task, "accuracy")
    ]


@pytest.fixture
def copied(finetuned, tmp_path):
    shutil.copytree(finetuned, tmp_path / "finetuned")
    return tmp_path / "finetuned"


def test_pretraining_learns(tiny, trained):
    """Below what a model without context can reach."""
    entropy = tiny.lines(trained, "baseline", "unigram_entropy")[0][1]
    losses = [value for _, value in tiny.lines(trained)]
    assert losses[0] > entropy > 0 and losses[-1] < losses[0] - 1
    assert "report.html" in {path.name for path in trained.iterdir()}


def test_finetuning_takes_the_encoder_over(trained, finetuned):
    """The rate of the first step is 0, so its checkpoint holds what the run began with."""
    first, last, source = canonical(finetuned, 1), canonical(finetuned), canonical(trained)
    taken = {name for name in source if name.startswith("encoder/")}
    assert taken == {name for name in first if name.startswith("encoder/")}
    assert all(np.array_equal(first[name], source[name]) for name in taken)
    assert {name.split("/")[1] for name in first if name.startswith("heads/")} == set(TASKS)
    assert not all(np.array_equal(last[name], source[name]) for name in taken)
    assert checkpoints.steps(finetuned) == list(range(1, 11))


@pytest.mark.slow
def test_finetuning_from_random_weights(tiny, trained, finetuned, tmp_path):
    """The same architecture, vocabulary and heads; INIT_FROM alone says where weights come from."""
    assert tiny.finetune(tmp_path / "random", trained, "INIT_FROM=None", "TRAIN_STEPS=1", "--gin_bindings=schedules.share.steps = 10") == 0
    first, pretrained, begun = canonical(tmp_path / "random", 1), canonical(trained), canonical(finetuned, 1)
    assert first.keys() == begun.keys()
    kernels = [name for name in pretrained if name.startswith("encoder/") and name.endswith("kernel")]
    assert kernels and not any(np.array_equal(first[name], pretrained[name]) for name in kernels)


@pytest.mark.slow
def test_unrolled_encoder_takes_scanned_weights(tiny, trained, finetuned, tmp_path):
    unrolled = tmp_path / "unrolled"
    one = ["TRAIN_STEPS=1", "TASKS=('copa',)", "BATCH_SIZE=8", "--gin_bindings=schedules.share.steps = 10"]
    assert tiny.finetune(unrolled, trained, "--gin_bindings=finetuned.encoder_of.scan = False", *one) == 0
    assert not any(stack.stacked(name) for name in checkpoints.shapes(unrolled))
    first, begun = canonical(unrolled, 1), canonical(finetuned, 1)
    assert all(np.array_equal(first[name], begun[name]) for name in first if name.startswith("encoder/"))
    ids = np.arange(10, 26).reshape(1, 2, 8)
    hidden = [model(ids, task="copa").last_hidden_state for model in (rootstock.load(unrolled, 1), rootstock.load(finetuned, 1))]
    np.testing.assert_allclose(hidden[0], hidden[1], atol=1e-6)


def test_finetuning_writes_of_every_task(tiny, finetuned):
    """The loss is the sum of the tasks' own; each is scored untrained and at steps 5 and 10."""
    parts = [tiny.lines(finetuned, "train", f"loss/{task}") for task in TASKS]
    assert [len(lines) for lines in parts] == [10, 10, 10]
    np.testing.assert_allclose(np.sum(parts, 0)[:, 1], [value for _, value in tiny.lines(finetuned)], rtol=1e-6)
    assert all(len(scores(finetuned, task)) == 3 for task in TASKS)


def test_evaluate(tiny, finetuned, copied, capsys):
    """The command's scores are those of the run's last evaluation, on one device and over a mesh."""
    flags = [f"--checkpoint={copied}", f"--data_dir={tiny.folder / 'superglue'}"]
    assert evaluate.main([*flags, "--tasks=boolq,copa,wsc"]) == 0
    shown = capsys.readouterr().out
    written = json.loads((copied / "evaluation.json").read_text())["tasks"]
    expected = final_scores(tiny, finetuned)
    assert {task: result["scores"]["accuracy"] for task, result in written.items()} == expected
    whole = {"documents": 11, "rows": 11, "answers": 11, "scored": 11, "unlabelled": 0}
    cut = {"copa": whole | {"full": 11}}  # a question and a choice are more than 16 tokens
    assert {task: result["rows"] for task, result in written.items()} == dict.fromkeys(TASKS, whole) | cut
    for task in TASKS:
        majority = 100 * written[task]["majority"]["accuracy"]
        assert re.search(rf"{task} +accuracy +11 +{100 * expected[task]:.1f} +{majority:.1f} ", shown)
        lines = [json.loads(line) for line in (copied / "predictions" / f"{task}.validation.jsonl").read_text().splitlines()]
        assert [line["idx"] for line in lines] == list(range(11))
        assert np.mean([line["label"] == line["prediction"] for line in lines]) == pytest.approx(expected[task])
    assert "SuperGLUE, mean of 8 tasks: " in shown and "partial: 3 of 8, without cb, multirc, record, rte, wic" in shown
    assert evaluate.main([*flags, "--tasks=copa", "--mesh=data=4,tensor=2", "--batch_size=8"]) == 0
    assert json.loads((copied / "evaluation.json").read_text())["tasks"]["copa"] == written["copa"]
    assert evaluate.main([*flags, "--tasks=boolq", "--step=5"]) == 0
    assert json.loads((copied / "evaluation.json").read_text())["tasks"]["boolq"]["scores"]["accuracy"] == scores(finetuned, "boolq")[1]
    assert evaluate.main([*flags, "--tasks=boolq", "--step=5", "--split=train"]) == 0
    assert "\ntrain rows, step 5\ntask " in "\n" + capsys.readouterr().out
    told = json.loads((copied / "evaluation.json").read_text())
    assert (told["split"], told["step"]) == ("train", 5)
    assert "The train rows, by the checkpoint of step 5." in (copied / "evaluation.html").read_text()
    assert (copied / "predictions/boolq.train.jsonl").exists() and (copied / "predictions/boolq.validation.jsonl").exists()
    assert evaluate.main([*flags, "--tasks=boolq", "--step=50"]) == 2
    assert "has no checkpoint of step 50; it has [1, 2, 3, " in capsys.readouterr().err


def test_evaluate_a_suite(tiny, copied, capsys, tmp_path):
    """What is missing is listed with its reason, and the archive holds the test rows of what there is."""
    shutil.copytree(tiny.folder / "superglue", tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "WSC")
    for task, keys in (("BoolQ", ("question", "passage")), ("COPA", ("premise", "choice1", "choice2", "question"))):
        rows = [json.loads(line) for line in (tmp_path / "data" / task / "val.jsonl").read_text().splitlines()]
        blind = [{"idx": row["idx"], **{key: row[key] for key in keys}} for row in rows]
        (tmp_path / "data" / task / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in blind))
    flags = [f"--checkpoint={copied}", f"--data_dir={tmp_path / 'data'}"]
    assert evaluate.main([*flags, "--tasks=superglue", f"--submission={tmp_path / 's.zip'}"]) == 0
    shown = capsys.readouterr().out
    written = json.loads((copied / "evaluation.json").read_text())
    assert list(written["tasks"]) == ["boolq", "copa"] and list(written["missing"]) == "cb multirc record rte wic wsc axb axg".split()
    assert "missing axb: no head for rte" in shown and "missing wsc: '" in shown and "holds nothing of wsc" in shown
    assert (written["averages"][0]["count"], written["averages"][0]["whole"]) == (2, 8)
    assert written["averages"][0]["value"] == pytest.approx(np.mean([task["headline"] for task in written["tasks"].values()]))
    assert "22 predictions on the test rows of boolq, copa" in shown and "The leaderboard also wants CB.jsonl, MultiRC.jsonl" in shown
    page = (copied / "evaluation.html").read_text()
    assert "BERT-large" in page and "missing wsc" in page
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        assert archive.namelist() == ["BoolQ.jsonl", "COPA.jsonl"]
        answers = [json.loads(line) for line in archive.read("BoolQ.jsonl").splitlines()]
    validation = [json.loads(line) for line in (copied / "predictions" / "boolq.validation.jsonl").read_text().splitlines()]
    assert answers == [{"idx": line["idx"], "label": line["prediction"].lower()} for line in validation]
    assert evaluate.main([*flags, "--tasks=boolq", "--split=test"]) == 2
    assert "boolq cannot be scored: the split 'test' has no labels" in (said := capsys.readouterr().err) and "--submission=FILE.zip" in said


def test_classes_go_by_their_names(tiny, copied, capsys):
    """A head that came of another program may have the classes in another order, or other ones."""
    path = copied / "config.json"
    config = json.loads(path.read_text())
    flags = [f"--checkpoint={copied}", f"--data_dir={tiny.folder / 'superglue'}", "--tasks=boolq"]

    def written(labels):
        config["model"]["heads"]["boolq"]["labels"] = labels
        path.write_text(json.dumps(config))
        assert evaluate.main(flags) == 0
        return [json.loads(line)["prediction"] for line in (copied / "predictions" / "boolq.validation.jsonl").read_text().splitlines()]

    as_trained = written(["False", "True"])
    assert written(["TRUE", "FALSE"]) == [{"False": "True", "True": "False"}[said] for said in as_trained]
    assert written([]) == as_trained
    config["model"]["heads"]["boolq"]["labels"] = ["no", "yes"]
    path.write_text(json.dumps(config))
    assert evaluate.main(flags) == 2
    assert "boolq (its head tells apart no, yes, the task False, True; give equal classes equal names)" in capsys.readouterr().err


def test_a_task_by_its_dotted_path(tiny, trained, tmp_path, monkeypatch, capsys):
    """It is trained, scored and evaluated under its own name."""
    (tmp_path / "mytasks.py").write_text(
        "import dataclasses\nfrom rootstock.finetune.tasks import find\nreviews = dataclasses.replace(find('boolq'), name='reviews')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    few = ("TRAIN_STEPS=2", "BATCH_SIZE=8", "--gin_bindings=schedules.share.steps = 10", "--gin_bindings=hooks.Evaluate.every = 2")
    assert tiny.finetune(tmp_path / "run", trained, "TASKS=('mytasks.reviews',)", *few) == 0
    assert len(scores(tmp_path / "run", "reviews")) == 2
    flags = [f"--checkpoint={tmp_path / 'run'}", f"--data_dir={tiny.folder / 'superglue'}"]
    assert evaluate.main([*flags, "--tasks=mytasks.reviews"]) == 0
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["tasks"].keys() == {"reviews"}
    assert tiny.finetune(tmp_path / "twice", trained, "TASKS=('mytasks.reviews', 'reviews')", *few) == 2
    assert "names a task twice" in capsys.readouterr().err


def test_majority_is_of_the_same_rows(tiny, finetuned, trained):
    labels = [json.loads(line)["label"] for line in (tiny.folder / "superglue" / "BoolQ" / "val.jsonl").read_text().splitlines()]
    found = [line["value"] for line in metrics.read(finetuned) if (line["split"], line["task"]) == ("baseline", "boolq")]
    assert found == [pytest.approx(max(sum(labels), len(labels) - sum(labels)) / len(labels))]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--tasks=cb"], "cannot answer cb (no head); it has heads for boolq, copa, wsc"),
        (["--tasks=boolk"], "there is no task 'boolk'; known are ax, axb, axg, boolq, cb, cola, copa, "),
        (["--tasks="], "--tasks= names no task"),
        (
            ["--mesh=data=x"],
            "--mesh=data=x is not a mesh; write AXIS=N with commas between, with the axes replica, data, fsdp, expert, tensor",
        ),
        (["--mesh=dta=8"], "--mesh=dta=8 is not a mesh"),
        (["--mesh=data=3"], "wants 3 devices, but 8 are present"),
        (["--mesh=data=0"], "a mesh axis must be a positive number"),
        (["--data_dir=/gone"], "'/gone' does not exist"),
        (["--length=8"], "the length of copa's rows is 8; expected 16 or more"),
        (["--length=32"], "32 tokens are more than the 16 positions of this BERT"),
        (["--batch_size=0"], "--batch_size=0 must be at least 1"),
    ],
)
def test_mistakes_of_evaluate(tiny, finetuned, capsys, flags, message):
    before = (finetuned / "evaluation.json").exists()
    common = [f"--checkpoint={finetuned}", f"--data_dir={tiny.folder / 'superglue'}", "--tasks=copa"]
    assert evaluate.main([*common, *flags]) == 2
    assert message in capsys.readouterr().err
    assert (finetuned / "evaluation.json").exists() == before


def test_evaluate_of_what_is_no_finetuned_model(tiny, trained, tmp_path, capsys):
    flags = ["--tasks=copa", f"--data_dir={tiny.folder / 'superglue'}"]
    assert evaluate.main([f"--checkpoint={trained}", *flags]) == 2
    assert "cannot answer copa (no head); it has heads for no task: fine-tune it first" in capsys.readouterr().err
    assert evaluate.main([f"--checkpoint={tmp_path}", *flags]) == 2
    assert "is not a MODEL_DIR: it holds no config.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, message",
    [
        (["TASKS=()"], """TASKS is empty; name at least one task, as in --gin.TASKS="('boolq',)\""""),
        (["TASKS=('boolk',)"], "there is no task 'boolk'; known are ax, axb, axg, boolq, cb, "),
        (["TASKS=('rte',)"], "holds nothing of rte: neither a TFDS directory 'super_glue/rte' nor in 'RTE' any of train.jsonl, val.jsonl"),
        (["BATCH_SIZE=20"], "a batch has 6 examples, which the 8 data shards of the mesh"),
        (["BATCH_SIZE=12"], "a batch has 4 examples, which the 8 data shards of the mesh "),
        (["LENGTH=32"], "32 tokens are more than the 16 positions of this BERT"),
        (["ENCODER='/gone'"], "/gone is not a MODEL_DIR: it holds no config.json"),
        (["--gin_bindings=recipe.training.shares = {'boolq': 1}"], "recipe.training.shares is {'boolq': 1}; it has no share for copa, wsc"),
        (["--gin_bindings=finetuned.encoder_of.girth = 2"], "girth"),
    ],
)
def test_mistakes_of_finetuning(tiny, trained, tmp_path, capsys, flags, message):
    assert tiny.finetune(tmp_path / "run", trained, *flags) == 2
    said = capsys.readouterr().err
    assert message in said.strip().splitlines()[-1] and not (tmp_path / "run").exists()


def test_init_from_a_folder_without_checkpoint(tiny, trained, tmp_path, capsys):
    """ENCODER tells the architecture, INIT_FROM holds nothing."""
    shutil.copytree(trained, tmp_path / "bare", ignore=shutil.ignore_patterns("checkpoints"))
    assert tiny.finetune(tmp_path / "run", tmp_path / "bare", "TASKS=('copa',)", "BATCH_SIZE=8") == 2
    assert f"{tmp_path}/bare holds no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "file, line, message",
    [
        ("BoolQ/train.jsonl", '{"idx": 2, "quest', "line 3 is not JSON: "),
        ("COPA/val.jsonl", '{"premise": "the cat sat", "choice1": "a", "choice2": "b", "question": "cause", "idx": 2, "label": 2}',
         "line 3: 'label' is 2, expected one of 0, 1."),
        ("WSC/train.jsonl", "\0\0", "is a binary file"),
    ],
)  # fmt: skip
def test_rows_that_are_wrong(tiny, trained, tmp_path, capsys, file, line, message):
    """File and line are named, whichever split they are in."""
    data = tmp_path / "superglue"
    shutil.copytree(tiny.folder / "superglue", data)
    lines = (data / file).read_text().splitlines()
    (data / file).write_text("\n".join([*lines[:2], line, *lines[3:]]) + "\n")
    assert tiny.finetune(tmp_path / "run", trained, f"DATA_DIR='{data}'") == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"error: '{data / file}' {message}") and not (tmp_path / "run").exists()


def test_a_vocabulary_that_is_not_the_checkpoints(tiny, trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "encoder")
    with (tmp_path / "encoder" / "vocabulary" / "vocab.txt").open("a") as file:
        file.write("extra\n")
    assert tiny.finetune(tmp_path / "run", tmp_path / "encoder") == 2
    assert "/vocabulary is not the vocabulary that the checkpoint was trained with: its SHA-256 is " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
