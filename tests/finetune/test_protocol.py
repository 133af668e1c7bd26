"""The protocol: what is run in which order, what is kept, what a second start does, and what the report says."""

import dataclasses
import json
import math
import re
import shutil
import statistics
import types

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from rootstock.data.arrays import Arrays
from rootstock.data.streams import Ordered
from rootstock.engine import checkpoints, telemetry
from rootstock.engine.errors import UserError
from rootstock.finetune import evaluate, recipe, superglue
from rootstock.finetune.outcome import Result
from rootstock.finetune.predictions import Predictions, texts
from rootstock.finetune.protocol import Planned, Protocol, Unit, dev, overlap, predict, report, runs
from rootstock.finetune.tasks import Split, find


def planned(protocol, unit, scores):
    """The places of a unit's runs in order, told the score of each as it comes."""
    headlines, places = {}, []
    for one in protocol.plan(unit, headlines):
        headlines[one.place] = scores.get(str(one.place), 0.0)
        places.append(str(one.place))
    return places


def test_every_task_with_every_seed():
    protocol = Protocol("x", ("rte", "cb"), (3, 4), also=("rootstock.finetune.tasks.superglue.axb", "mnli_mismatched"))
    assert [(unit.name, unit.evaluated) for unit in protocol.units] == [("rte", ("rte", "axb")), ("cb", ("cb",))]
    assert [planned(protocol, unit, {}) for unit in protocol.units] == [["rte/seed3", "rte/seed4"], ["cb/seed3", "cb/seed4"]]
    assert protocol.count() == 4


def test_all_tasks_in_one_run():
    protocol = Protocol("x", ("rte", "cb"), (0,), together=True, also=("axg",))
    (unit,) = protocol.units
    assert (unit.name, unit.tasks, unit.evaluated) == ("mixture", ("rte", "cb"), ("rte", "cb", "axg"))


def test_the_best_point_of_the_grid_gets_the_other_seeds():
    protocol = Protocol("x", ("cb",), (0, 1, 2), grid={"LEARNING_RATE": (1e-5, 3e-5), "BATCH_SIZE": (8, 16)})
    best = "cb/LEARNING_RATE=3e-05,BATCH_SIZE=8"
    found = planned(protocol, protocol.units[0], {f"{best}/seed0": 0.7, "cb/LEARNING_RATE=1e-05,BATCH_SIZE=8/seed0": 0.6})
    assert len(found) == protocol.count() == 6
    assert [place.split("/")[-1] for place in found] == ["seed0"] * 4 + ["seed1", "seed2"]
    assert found[-2:] == [f"{best}/seed1", f"{best}/seed2"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (dict(tasks=()), r"protocol.Protocol.tasks is \[\]; expected at least one, each once"),
        (dict(seeds=(1, 1)), r"protocol.Protocol.seeds is \[1, 1\]"),
        (dict(grid={"BATCH_SIZE": ()}), "the grid has no value for BATCH_SIZE"),
        (dict(grid={"ENCODER": ("a/b", "a_b")}), "would share the folder ENCODER=a_b"),
        (dict(tasks=("axb",)), "axb is not trained on: its rows are answered by the head of rte"),
        (dict(also=("cb",)), "cb has training rows of its own; name it in TASKS"),
        (dict(tasks=("rte", "rootstock.finetune.tasks.superglue.rte")), r"protocol.Protocol.tasks is \['rte', 'rte'\]"),
        (dict(evaluations=-1), "protocol.Protocol.evaluations is -1"),
    ],
)
def test_what_makes_no_protocol(how, said):
    with pytest.raises(UserError, match=said):
        Protocol(**{"model_dir": "x", "tasks": ("rte",)} | how)


def test_spread_over_seeds():
    """By hand: of 1, 2, 6 the median is 2, the mean 3, the variance (4 + 1 + 9) / 2 = 7, the standard error sqrt(7 / 3)."""
    spread = report.Spread([6.0, 1.0, 2.0], 0.5, 10)
    assert spread.median == 2 and spread.standard_error == pytest.approx(math.sqrt(7 / 3))
    assert math.isnan(report.Spread([1.0], None, 1).standard_error) and report.Spread([1.0], None, 1).plain()["standard_error"] is None


def test_losses_of_rows():
    """-log of the right class's probability where another was answered; squared error; 0 where right or without label."""
    shares = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]])
    classes = Predictions(np.arange(4), np.array([0, 0, 1, -1]), shares.argmax(1), ("a", "b"), shares)
    np.testing.assert_allclose(dev.row_losses(classes), [0, -math.log(0.2), -math.log(0.3), 0])
    numbers = Predictions(np.arange(2), np.array([1.0, np.nan], np.float32), np.array([3.0, 5.0], np.float32))
    np.testing.assert_allclose(dev.row_losses(numbers), [4, 0])
    answers = Predictions(np.arange(3), texts([("x", "y"), ("z",), ()]), texts(["y", "x", "x"]))
    np.testing.assert_allclose(dev.row_losses(answers), [0, 1, 0])


def test_a_wrong_text_is_shown_with_what_was_said():
    """Line separators of Unicode stay inside a line; an answer that names no class is shown as it was written."""
    of_texts = Predictions(np.arange(1), texts([("b",)]), texts(["x\u2028y"]))
    split = Split.__new__(Split)
    split.examples = lambda: [{"query": "q"}]
    (error,) = dev.worst(Result(find("record"), split, of_texts))
    assert error == {"idx": 0, "label": ["b"], "prediction": "x\u2028y", "loss": 1.0, "text": {"query": "q"}}
    of_classes = Predictions(np.arange(1), np.array([1]), np.array([-1]), ("no", "yes"), said=("perhaps",))
    (error,) = dev.worst(Result(find("boolq"), split, of_classes))
    assert error["prediction"] is None and error["said"] == "perhaps"
    assert "no answer: &#x27;perhaps&#x27;" in report._errors("boolq", [error])


def test_limits_name_tasks_and_rows():
    rows = {name: Split.__new__(Split) for name in ("cb", "copa")}
    for split in rows.values():
        split.arrays = {"label": np.arange(9)}
    assert {name: len(split) for name, split in recipe.limited(rows, {"cb": 5, "rte": 7}).items()} == {"cb": 5, "copa": 9}
    with pytest.raises(UserError, match="there is no task 'CB'"):
        recipe.limited(rows, {"CB": 5})
    with pytest.raises(UserError, match="LIMITS has -5 rows for cb; expected at least 1"):
        recipe.limited(rows, {"cb": -5})


def test_rows_to_be_predicted_are_read_before_anything_runs(follow, reviews, tmp_path, capsys):
    shutil.copytree(reviews, tmp_path / "rows")
    (tmp_path / "rows/test.tsv").write_text("sentence\tlabel\nthe dog\tperhaps\n")
    assert follow(tmp_path / "x", f"DATA_DIR = '{tmp_path / 'rows'}'") == 2
    assert "test.tsv' line 2: 'label' is 'perhaps'" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_rows_without_labels_have_no_scores():
    """As AX's, whose answers are wanted all the same."""
    blind = Predictions(np.arange(2), np.array([-1, -1]), np.array([0, 2]), find("ax").labels)
    found = Result(find("ax"), Split.__new__(Split), blind)
    assert found.scores == {} and found.headline is None


def patient(tmp_path, headlines, patience, stops=1000, begin=0):
    """The steps at which a run with these headlines would keep its model, until it ends."""
    hook = dev.Dev({}, every=10, patience=patience)
    running = types.SimpleNamespace(model_dir=tmp_path, step=begin, run=types.SimpleNamespace(train_steps=stops), say=lambda text: None)
    kept = []
    for headline in headlines:
        running.step += 10
        if hook._keeps(running, headline):
            kept.append(running.step)
            (tmp_path / dev.BEST).mkdir(exist_ok=True)
            (tmp_path / dev.BEST / dev.FOUND).write_text(json.dumps({"step": running.step, "headline": headline}))
        if running.step >= running.run.train_steps:
            break
    return kept, running.step


@pytest.mark.parametrize("how", [{"every": 0}, {"patience": 0}])
def test_what_makes_no_hook(how):
    with pytest.raises(UserError, match=r"expected .*at least 1"):
        dev.Dev({}, **how)


def test_early_stopping(tmp_path):
    """Kept where it is better than all before; two evaluations no better end the run. An equal score is no better."""
    assert patient(tmp_path, [0.5, 0.6, 0.6, 0.7, 0.1, 0.7, 0.9], patience=2) == ([10, 20, 40], 60)


def test_what_was_kept_before_a_kill_counts_once(tmp_path):
    """A run that was killed at step 40, after it had kept that, goes on from step 10: it keeps what it would have."""
    (tmp_path / dev.BEST).mkdir()
    (tmp_path / dev.BEST / dev.FOUND).write_text(json.dumps({"step": 40, "headline": 0.7}))
    assert patient(tmp_path, [0.5, 0.6, 0.6, 0.7, 0.1, 0.7, 0.9], patience=2)[0][-2:] == [20, 40]


def test_a_kill_between_the_stop_and_its_result(tmp_path):
    """Without it the run ends at step 40. Killed there, it goes on from a checkpoint of that step: what comes later is not kept."""
    assert patient(tmp_path, [0.5, 0.7, 0.6, 0.6], patience=2) == ([10, 20], 40)
    assert patient(tmp_path, [0.9, 0.9], patience=2, begin=40) == ([], 50)


def test_without_patience_the_last_model(tmp_path):
    assert patient(tmp_path, [0.9, 0.1, 0.2], patience=None, stops=30) == ([30], 30)


def test_the_headline_is_the_mean_over_the_trained_tasks(tmp_path, monkeypatch):
    """Not over those that their heads answer besides, with or without labels."""
    headlines = {"rte": 0.5, "cb": 0.7, "axb": 0.0, "ax": None}
    hook, seen = dev.Dev({name: Ordered.__new__(Ordered) for name in headlines}), []
    monkeypatch.setattr(hook, "_result", lambda running, name: types.SimpleNamespace(scores={}, headline=headlines[name]))
    monkeypatch.setattr(hook, "_keeps", lambda running, headline: seen.append(headline))
    writer = types.SimpleNamespace(write=lambda *_, **__: None)
    hook.call(types.SimpleNamespace(step=3, writer=writer, goodput=telemetry.Goodput(), say=lambda text: None))
    assert seen == [pytest.approx(0.6)]


def test_overlap_is_told_by_the_cache_and_the_recipe(tmp_path):
    cache, encoder = tmp_path / "cache", tmp_path / "encoder"
    cache.mkdir()
    encoder.mkdir()
    (cache / "manifest.json").write_text(json.dumps({"inputs": [{"file": "wiki_paragraphs.txt"}, {"file": "novels.txt"}]}))
    (encoder / "config.gin").write_text(f"CACHE_DIR = '{cache}'\nDATA_DIR = 'texts/*.txt'\n")
    (encoder / "config.json").write_text(json.dumps({"format": 1, "family": "", "model": {}, "vocabulary": {}}))
    assert set(overlap.pretraining_files(encoder)) == {str(cache), "texts/*.txt", "novels.txt", "wiki_paragraphs.txt"}
    later, saved = tmp_path / "later", tmp_path / "saved"
    for folder, name in ((later, ""), (saved / "one", "wiki.parquet"), (tmp_path / "texts", "")):
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"inputs": [{"file": name}]} if name else [1]))  # not all are ours
    (later / "config.gin").write_text(
        f"train.Run.init_from = %INIT_FROM\nINIT_FROM = %ENCODER\nENCODER = '{encoder}'\n"
        f"sources.SavedDataset.folder = '{saved}'\nDATA_DIR = ['{tmp_path / 'texts'}']\n"
    )
    assert set(overlap.pretraining_files(later)) - set(overlap.pretraining_files(encoder)) == {
        str(saved), "wiki.parquet", str(tmp_path / "texts")
    }  # fmt: skip
    (told,) = overlap.warnings(encoder, ("boolq", "cb"), {"boolq": ("Wiki",), "copa": ("novels",)})
    assert told.startswith("boolq: ") and "wiki_paragraphs.txt" in told and "novels.txt" not in told
    assert not overlap.warnings(encoder, ("cb",), {"boolq": ("wiki",)})


# Whole runs, of a task of the user's own.


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """Rows that a tiny model can learn: the label is whether the text has a cat."""
    folder = tmp_path_factory.mktemp("reviews")
    chance = np.random.default_rng(0)
    for split, rows in (("train", 40), ("validation", 20), ("test", 5)):
        sides = chance.integers(0, 2, rows)
        fill = [" ".join(chance.choice(["the", "ran", "home"], 3)) for _ in range(rows)]
        lines = [
            f"{text} {('dog', 'cat')[side]}" + ("" if split == "test" else f"\t{('no', 'yes')[side]}")
            for text, side in zip(fill, sides, strict=True)
        ]
        header = "sentence" if split == "test" else "sentence\tlabel"
        (folder / f"{split}.tsv").write_text("\n".join([header, *lines]) + "\n")
    return folder


@pytest.fixture(scope="module")
def follow(reviews, trained):
    """Runs the protocol of mytask.gin on them with the encoder of the fixture `trained`; the exit code."""

    def run(model_dir, *bindings):
        own = ["LENGTH = 16", "EPOCHS = 3", "BATCH_SIZE = 8", "LEARNING_RATE = 1e-2", "own.define.labels = ('no', 'yes')"]
        own += [
            "lengths.shortened.lengths = (8,)",
            "train.Run.log_every = 4",
            "protocol.Protocol.seeds = (0, 1)",
            f"MODEL_DIR = '{model_dir}'",
            f"ENCODER = '{trained}'",
        ]
        given = (*own, f"DATA_DIR = '{reviews}'", *bindings)
        flags = [text if text.startswith("--") else f"--gin_bindings={text}" for text in given]
        return superglue.main(["--gin_file=finetune/mytask.gin", *flags])

    return run


@pytest.fixture(scope="module")
def followed(follow, tmp_path_factory):
    folder = tmp_path_factory.mktemp("followed") / "protocol"
    assert follow(folder) == 0
    return folder


def results(folder):
    return json.loads((folder / "results.json").read_text())["tasks"]["reviews"]["accuracy"]


def test_what_is_left(followed):
    """Fifteen steps of eight rows are three epochs of forty; one checkpoint is kept, no training state."""
    found = [json.loads((followed / f"runs/reviews/seed{seed}/result.json").read_text()) for seed in (0, 1)]
    assert [(one["seed"], one["steps"], one["epochs"]) for one in found] == [(0, 15, 3.0), (1, 15, 3.0)]
    assert "lengths.shortened.lengths = (8,)" in (followed / "runs/reviews/seed0/config.gin").read_text()  # of a step's methods too
    values = [one["tasks"]["reviews"]["scores"]["accuracy"] for one in found]
    assert results(followed)["values"] == values and results(followed)["median"] == statistics.median(values)
    assert checkpoints.steps(followed / "best/reviews") == [15]
    assert not list(followed.glob("runs/*/*/checkpoints")) and not list(followed.glob("runs/*/*/best"))
    predictions = [
        json.loads(line) for line in (followed / "runs/reviews/seed0/predictions/reviews.validation.jsonl").read_text().splitlines()
    ]
    assert len(predictions) == 20 and np.mean([line["label"] == line["prediction"] for line in predictions]) == pytest.approx(values[0])


def test_curves_matrix_and_errors(followed):
    """Evaluated once an epoch; the confusion matrix adds up to the rows and its diagonal to the accuracy."""
    found = json.loads((followed / "runs/reviews/seed0/result.json").read_text())["tasks"]["reviews"]
    counts = np.array(found["confusion"])
    assert counts.sum() == 20 and np.trace(counts) / 20 == pytest.approx(found["scores"]["accuracy"])
    assert len(found["worst"]) == 20 - np.trace(counts)
    lines = [json.loads(line) for line in (followed / "runs/reviews/seed0/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if (line["split"], line["name"]) == ("validation", "accuracy")] == [5, 10, 15]
    names = {line["name"] for line in lines}
    assert "tokens_per_second" in names and "mfu" not in names  # padding is skipped: the FLOPs of a step are not known
    counts = json.loads((followed / "runs/reviews/seed0/result.json").read_text())["training"]["reviews"]
    assert counts == {"documents": 40, "dropped": 0, "used": 40, "full": 0}
    page = (followed / "report.html").read_text()
    assert "Of them full" in page and re.search(r"reviews</td>.*train</td>.*40</td>.*0</td>.*40</td>", page.replace("\n", ""))
    assert all(part in page for part in ("Majority", "reviews, seed", "labels down, predictions across", "<svg", "seed1"))


def test_the_kept_model_answers_as_the_run_did(followed, reviews):
    """best/ is a MODEL_DIR for every tool: evaluation gives the scores of the better run again."""
    (score,) = [
        value["accuracy"] for value in evaluate.scores(str(followed / "best/reviews"), ["reviews"], str(reviews), length=16).values()
    ]
    assert score == max(results(followed)["values"])


def test_predictions_without_labels(followed):
    lines = [json.loads(line) for line in (followed / "predictions/reviews.test.jsonl").read_text().splitlines()]
    assert [line["idx"] for line in lines] == list(range(5))
    assert all(
        line["label"] is None and line["prediction"] in ("no", "yes") and sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        for line in lines
    )


def test_more_seeds_and_nothing_twice(follow, followed, tmp_path, monkeypatch):
    """A third seed is trained; the first two are read. A kill in between changes nothing."""
    folder, train, commands = tmp_path / "again", runs._train, []
    shutil.copytree(followed, folder)

    def killed(command):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "_train", killed)
    assert follow(folder, "protocol.Protocol.seeds = (0, 1, 2)") == 130
    monkeypatch.setattr(runs, "_train", lambda command: (commands.append(command), train(command))[1])
    assert follow(folder, "protocol.Protocol.seeds = (0, 1, 2)") == 0
    assert len(commands) == 1
    assert results(folder)["values"][:2] == results(followed)["values"] and len(results(folder)["values"]) == 3


def test_a_plan_that_leaves_the_best_run_out(follow, followed, tmp_path, capsys):
    """Its model is the only one that was kept, and no other run's settings belong to it."""
    folder = tmp_path / "again"
    shutil.copytree(followed, folder)
    place = json.loads((folder / "best/reviews/run.json").read_text())["place"]
    values = results(folder)["values"]
    assert place == f"reviews/seed{values.index(max(values))}"
    assert follow(folder, f"protocol.Protocol.seeds = ({1 - int(place[-1])},)") == 2
    assert f"is the model of {place}, which this plan leaves out" in capsys.readouterr().err


def test_a_better_model_of_an_earlier_plan_stays(tmp_path):
    runs_of = []
    for seed, headline, rate in ((0, 0.7, "1"), (1, 0.6, "1"), (2, 0.8, "1"), (3, 0.5, "2")):
        folder = tmp_path / "runs" / "cb" / f"seed{seed}"
        (folder / dev.BEST).mkdir(parents=True)
        (folder / dev.BEST / dev.FOUND).write_text(json.dumps({"headline": headline}))
        found = {"headline": headline, "settings": {"SEED": str(seed), "LEARNING_RATE": rate}}
        runs_of.append(runs.Trained(Planned(Unit("cb", ("cb",), ("cb",)), {}, seed), folder, found))
    kept = []
    for plan in ([run] for run in runs_of):
        kept.append(json.loads((runs.settle(str(tmp_path), plan) / "run.json").read_text())["place"])
    assert kept == ["cb/seed0", "cb/seed0", "cb/seed2", "cb/seed3"]  # the last one is of another recipe
    assert not list(tmp_path.glob("runs/*/*/best"))


def test_early_stopping_in_a_run(follow, tmp_path):
    """Nothing is learnt, so the first evaluation is the best and the second, one epoch later, the last."""
    assert follow(tmp_path / "x", "PATIENCE = 1", "LEARNING_RATE = 0.0", "protocol.Protocol.seeds = (0,)") == 0
    found = json.loads((tmp_path / "x/runs/reviews/seed0/result.json").read_text())
    assert (found["steps"], found["step"]) == (10, 5) and checkpoints.steps(tmp_path / "x/best/reviews") == [5]


def test_evaluations_of_an_epoch(follow, tmp_path):
    """Of five steps: 2.5 evaluations are one every two steps, and one at the end."""
    assert follow(tmp_path / "x", "protocol.Protocol.evaluations = 2.5", "protocol.Protocol.seeds = (0,)") == 0
    lines = [json.loads(line) for line in (tmp_path / "x/runs/reviews/seed0/metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if (line["split"], line["name"]) == ("validation", "accuracy")]
    assert steps == [*range(2, 16, 2), 15]


def test_the_overlap_is_told_before_anything_runs(follow, trained, tmp_path, capsys):
    file = overlap.pretraining_files(trained)[0]
    assert follow(tmp_path / "x", f"protocol.Protocol.overlaps = {{'reviews': ('{file}',)}}", "--dry_run") == 0
    assert f"warning: reviews: texts of its validation and test rows are known to be in what {trained}" in capsys.readouterr().err


def test_every_model_dir_keeps_its_own_programs(tmp_path):
    settings = {name: getattr(jax.config, name) for name in ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")}
    try:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        for number, name in enumerate(("first", "second")):
            superglue._keep_programs(str(tmp_path / name))
            jax.jit(lambda x, number=number: x * 3 + number)(np.ones(7 + number)).block_until_ready()
            assert list((tmp_path / name / "compiled").iterdir())
    finally:
        for name, value in settings.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def test_the_grid_decides_how_the_best_model_predicts(follow, reviews, tmp_path, monkeypatch):
    """The values of the best point hold, not the last one's."""
    other, run, asked = str(tmp_path / "other"), runs.run, []
    shutil.copytree(reviews, other)

    def scored(*planned):
        one = run(*planned)
        return dataclasses.replace(one, found={**one.found, "headline": float(one.planned.point["DATA_DIR"] == str(reviews))})

    monkeypatch.setattr(runs, "run", scored)
    monkeypatch.setattr(predict.evaluate, "predict", lambda directory, names, data_dir, *_, **__: (asked.append(data_dir), 1 / 0))
    grid = f"protocol.Protocol.grid = {{'DATA_DIR': {(str(reviews), other)}}}"
    with pytest.raises(ZeroDivisionError):
        follow(tmp_path / "x", grid, "protocol.Protocol.seeds = (0,)", "EPOCHS = 0.2")
    assert asked == [str(reviews)]
    assert len(results(tmp_path / "x")["values"]) == 1  # a point of the grid that was not chosen is no seed
    said = "were chosen on the validation rows that are scored here"
    assert all(said in (tmp_path / "x" / name).read_text() for name in ("results.txt", "report.html"))


def test_changed_files(follow, followed, reviews, tmp_path, capsys):
    """Rows to be predicted are predicted again; of other rows to learn from it is another run."""
    folder = tmp_path / "again"
    shutil.copytree(followed, folder)
    test, train = reviews / "test.tsv", reviews / "train.tsv"
    before = {path: path.read_text() for path in (test, train)}
    try:
        test.write_text(before[test] + "the cat ran\n")
        assert follow(folder) == 0
        assert len((folder / "predictions/reviews.test.jsonl").read_text().splitlines()) == 6
        yes, no = (before[train].index(f"{animal}\t") for animal in ("cat", "dog"))
        one, other = sorted((yes, no))
        swapped = before[train]  # two labels: as many bytes as before
        for place in (one, other):
            swapped = swapped[:place] + {"cat": "dog", "dog": "cat"}[swapped[place : place + 3]] + swapped[place + 3 :]
        train.write_text(swapped)
        assert follow(folder) == 2
        assert "what DATA_DIR holds was train.tsv (SHA-256 " in capsys.readouterr().err
    finally:
        for path, text in before.items():
            path.write_text(text)


def test_another_recipe_is_refused(follow, followed, tmp_path, capsys):
    assert follow(followed, "LEARNING_RATE = 2e-2") == 2
    assert "was run with another recipe: LEARNING_RATE was 0.01, is now 0.02" in capsys.readouterr().err
    shutil.copytree(followed, tmp_path / "killed")
    seed = tmp_path / "killed/runs/reviews/seed1"
    (seed / "result.json").unlink()
    (seed / "checkpoints/5").mkdir(parents=True)  # it was begun, and did not end
    assert follow(tmp_path / "killed", "EPOCHS = 4", "protocol.Protocol.seeds = (1,)") == 2
    assert f"{seed} was begun with 15 steps, and EPOCHS, LIMITS or the rows now make 20" in capsys.readouterr().err


def test_a_bad_row_is_told_before_anything_runs(follow, reviews, tmp_path, capsys):
    shutil.copytree(reviews, tmp_path / "data")
    with (tmp_path / "data" / "validation.tsv").open("a") as file:
        file.write("the cat ran\tmaybe\n")
    assert follow(tmp_path / "x", f"DATA_DIR = '{tmp_path / 'data'}'") == 2
    assert "validation.tsv' line 22: 'label' is 'maybe', expected one of 'no', 'yes'" in capsys.readouterr().err
    assert not (tmp_path / "x" / "runs").exists()


def test_dry_run_lists_the_runs(reviews, trained, tmp_path, capsys):
    flags = [f"--gin.MODEL_DIR='{tmp_path / 'x'}'", f"--gin.ENCODER='{trained}'", f"--gin.DATA_DIR='{reviews}'", "--dry_run"]
    flags.append("--gin_bindings=own.define.labels = ('no', 'yes')")
    assert superglue.main(["--gin_file=finetune/mytask.gin", *flags]) == 0
    assert "[3/3] reviews/seed2" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "binding, said",
    [
        ("TRAIN_STEPS = 2", "TRAIN_STEPS is bound anew for each run of the protocol: it counts steps by EPOCHS"),
        ("SEED = 5", "its seeds are protocol.Protocol.seeds"),
        ("LENGTH = 8", "the length of reviews's rows is 8; expected 16 or more"),
    ],
)
def test_told_before_anything_runs(follow, tmp_path, capsys, binding, said):
    assert follow(tmp_path / "x", binding) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_missing_rows_of_all_tasks_are_told_at_once(tiny, trained, tmp_path, capsys):
    places = {"MODEL_DIR": tmp_path / "x", "ENCODER": trained, "DATA_DIR": tiny.folder / "superglue"}
    flags = [f"--gin.{name}='{path}'" for name, path in places.items()]
    assert superglue.main(["--gin_file=finetune/superglue_protocol.gin", *flags, "--gin.TASKS=('boolq','cb','rte')", "--dry_run"]) == 2
    assert "nothing of cb" in (said := capsys.readouterr().err) and "nothing of rte" in said and "nothing of boolq" not in said


def test_a_recipe_that_is_no_protocol(trained, tmp_path, capsys):
    flags = [f"--gin.MODEL_DIR='{tmp_path / 'x'}'", f"--gin.ENCODER='{trained}'"]
    assert superglue.main(["--gin_file=finetune/superglue.gin", *flags]) == 2
    assert "superglue.gin describes no protocol: include" in capsys.readouterr().err


@pytest.mark.slow
def test_a_mixture_in_one_run(tiny, trained, tmp_path):
    """Two tasks, a head each, in one run a seed: 48 rows twice make 6 steps of 16."""
    bindings = [f"MODEL_DIR = '{tmp_path / 'x'}'", f"ENCODER = '{trained}'", f"DATA_DIR = '{tiny.folder / 'superglue'}'"]
    bindings += ["TASKS = ('boolq', 'copa')", "protocol.Protocol.together = True", "protocol.Protocol.seeds = (0,)", "LENGTH = 16"]
    bindings += ["BATCH_SIZE = 16", "EPOCHS = 2"]
    assert superglue.main(["--gin_file=finetune/superglue_protocol.gin", *(f"--gin_bindings={binding}" for binding in bindings)]) == 0
    found = json.loads((tmp_path / "x/runs/mixture/seed0/result.json").read_text())
    assert found["steps"] == 6 and list(found["tasks"]) == ["boolq", "copa"]
    assert found["headline"] == pytest.approx(np.mean([task["headline"] for task in found["tasks"].values()]))
    assert checkpoints.steps(tmp_path / "x/best/mixture") == [6]


def test_limits_take_the_first_rows(tiny, trained):
    """Of a mixture: twelve rows of one task, all 24 of the other."""
    how = (str(tiny.folder / "superglue"), str(tiny.folder / "vocab.txt"), 16, 0)
    mixed = recipe.training(("boolq", "copa"), *how, 16, limits={"boolq": 12})
    assert [len(stream.source) for stream in mixed.streams.values()] == [12, 24]
    assert isinstance(mixed.streams["boolq"].source, Arrays)
    whole = find("boolq").read(*how[:3], "train")
    np.testing.assert_array_equal(mixed.streams["boolq"].source.arrays["input_ids"], whole.arrays["input_ids"][:12])


def test_parts_of_a_batch(tiny):
    """Equal ones, rounded where they are no whole rows; by the numbers of rows, capped; or as they are given."""
    how = (("boolq", "copa"), str(tiny.folder / "superglue"), str(tiny.folder / "vocab.txt"), 16, 0)
    parts = lambda size, **more: {name: len(rows["label"]) for name, rows in recipe.training(*how, size, **more).batch(0, size).items()}
    assert parts(8) == {"boolq": 4, "copa": 4}
    assert sorted(parts(7).values()) == [3, 4]
    assert parts(9, temperature=1, limits={"boolq": 12}) == {"boolq": 3, "copa": 6}
    assert parts(9, temperature=1, cap=4, limits={"boolq": 2}) == {"boolq": 3, "copa": 6}
    assert parts(8, shares={"boolq": 3, "copa": 1}) == {"boolq": 6, "copa": 2}
    assert parts(7, shares={"boolq": 3, "copa": 1}) == {"boolq": 5, "copa": 2}
