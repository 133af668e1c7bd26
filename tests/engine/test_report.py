"""report.html: every part that the files allow, nothing that they break, and nothing from outside."""

import html.parser
import json
import math
import re
import shlex

import numpy as np
import pytest

from rootstock.engine import page, plots, record, report
from rootstock.engine.errors import UserError
from rootstock.engine.record import Curve

COMMAND = shlex.join(["python", "-m", "rootstock.pretrain", "--gin_file=pretrain/x.gin", "--gin.MODEL_DIR='runs/x'", "--gin.SEED=1"])
CONFIG = f"# {COMMAND}\n# 2026-11-21 04:35 UTC, Python 3.11\n\nfrom __gin__ import dynamic_registration\n\nSEED = 1\nLENGTH = 128\n"


def lines(split, values, task="", step=0):
    return [
        {"step": step, "split": split, "task": task, "name": name, "value": value, "time": 1e9 + step} for name, value in values.items()
    ]


def run(folder, metrics, config=CONFIG):
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    (folder / "config.gin").write_text(config)
    (folder / "config.json").write_text('{"format": 1, "family": "@rootstock.models.bert.PreTraining"}')
    (folder / "model-info.txt").write_text("name   shape\nkernel (8, 8)\n\n4,353,442 parameters, 17,413,768 bytes on each device\n")
    return folder


def pretraining(steps=30):
    found = lines("baseline", {"unigram_entropy": 6.25}, "text")
    for step in range(1, steps + 1):
        found += lines("train", {"loss": 8 - step / steps, "learning_rate": 1e-3, "tokens_per_second": 4000 + step, "mfu": 0.5}, step=step)
    found += [line for step in (steps // 2, steps) for line in lines("validation", {"loss": 7 - step / steps}, "text", step)]
    return found + lines("goodput", {"train": 1.0}, step=steps // 2) + lines("goodput", {"train": 90.0, "save": 10.0}, step=steps)


def finetuning(accuracy, loss=0.5):
    found = lines("baseline", {"accuracy": 0.62}, "boolq") + lines("train", {"loss": 0.6}, step=1)
    return found + [line for step in (1, 2) for line in lines("val", {"accuracy": accuracy, "loss": loss}, "boolq", step)]


def written(*args, **kwargs):
    """The report's text, after a check that its tags are balanced."""
    text = report.write(*args, **kwargs).read_text(encoding="utf-8")
    Balanced().check(text)
    return text


class Balanced(html.parser.HTMLParser):
    def check(self, text):
        self.open = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def shown(text):
    """What a reader sees, a line for each row or paragraph."""
    body = text[text.index("<body>") :]
    return re.sub(r"<[^>]*>", " ", re.sub(r"</(?:tr|p|h\d|pre|figcaption|div)>", "\n", body.replace("\n", " ")))


def cells(text, heading):
    """The rows of the table under a heading."""
    table = re.search(r"<tbody>.*?</tbody>", text[text.index(f"<h2>{heading}") :], re.DOTALL)[0]
    rows = re.findall(r"<tr>.*?</tr>", table)
    return [re.findall(r'<td(?: class="([^"]*)")?>(.*?)</td>', row) for row in rows]


def test_every_part_is_there(tmp_path):
    text = written(run(tmp_path / "x", pretraining()), "A title", [("More", "<p>my <em>own</em></p>")])
    assert re.findall("<h1>(.*)</h1>", text) == ["A title"]
    assert re.findall("<h2>(.*)</h2>", text) == ["Results", "More", "Curves", "Where the time went", "Configuration"]
    assert re.findall("<figcaption.*?><b>(.*?)</b>", text) == ["Loss", "Learning rate", "Tokens per second", "Model FLOP utilisation"]
    assert text.count("<svg") == text.count("</svg>") == 4
    assert "<p>my <em>own</em></p>" in text
    for part in ("2026-11-21 04:35 UTC, Python 3.11", "SEED = 1", "rootstock.models.bert.PreTraining", "4,353,442", "kernel (8, 8)"):
        assert part in text


def test_difference_from_the_unigram_entropy(tmp_path):
    text = shown(written(run(tmp_path / "x", pretraining())))
    assert "30 steps in 1 min 40 s: training loss 7.000, validation loss 6.000 (0.250 nat below the unigram entropy 6.250)" in text
    assert re.search(r"unigram entropy\s+6\.25\b", text)  # the dashed line
    assert "\N{MINUS SIGN}0.250" in text


def test_above_the_unigram_entropy(tmp_path):
    metrics = lines("baseline", {"unigram_entropy": 6.0}, "text") + lines("validation", {"loss": 6.5}, "text", 1)
    assert "6.500 (0.500 nat above the unigram entropy 6.000)" in written(run(tmp_path / "x", metrics))


def test_goodput_takes_the_last_values(tmp_path):
    rows = cells(written(run(tmp_path / "x", pretraining())), "Where")
    assert [[re.sub("<.*?>", "", text) for _, text in row] for row in rows] == [
        ["train", "90.0", "90.0%"], ["save", "10.0", "10.0%"], ["all", "100.0", "100.0%"],
    ]  # fmt: skip


@pytest.mark.parametrize("accuracy, best", [(0.7, ["", "best"]), (0.5, ["best", ""]), (0.62, ["best", "best"])])
def test_better_of_run_and_baseline_is_marked(tmp_path, accuracy, best):
    (row,) = cells(written(run(tmp_path / "x", finetuning(accuracy))), "Results")
    assert row == [
        ("name", "boolq<small>step 2</small>"), (best[0], "0.6200<small>majority</small>"), (best[1], f"{accuracy:.4f}"), ("", "0.5000"),
    ]  # fmt: skip


def test_the_untrained_model_is_a_column_beside_majority(tmp_path):
    """What was evaluated at step 0; a run that has nothing later has only begun."""
    begun = lines("validation", {"accuracy": 0.55, "loss": 0.9}, "boolq", 0)
    text = written(run(tmp_path / "x", begun + finetuning(0.7)))
    assert re.findall("<th(?: [^>]*)?>(.*?)</th>", text)[:6] == ["Task", "baseline", "untrained", "accuracy", "untrained", "loss"]
    assert cells(text, "Results") == [[
        ("name", "boolq<small>step 2</small>"), ("", "0.6200<small>majority</small>"), ("", "0.5500"), ("best", "0.7000"),
        ("", "0.9000"), ("best", "0.5000"),
    ]]  # fmt: skip
    assert "Untrained: the same model before its first step" in text
    folder = run(tmp_path / "y", begun)
    assert "untrained" not in shown(written(folder)).lower()
    both = report.compare_runs({"x": tmp_path / "x", "y": folder}, tmp_path / "c.html").read_text()
    assert cells(both, "Results")[0][3:] == [("best", "0.7000<small>untrained 0.5500</small>"), ("", "0.5500")]


@pytest.mark.parametrize("name, kind", [("memory_gb", "device, peak"), ("process_memory_gb", "process, peak resident")])
def test_memory_says_whose_it_is(tmp_path, name, kind):
    text = shown(written(run(tmp_path / "x", [line for step in (1, 2) for line in lines("train", {name: 1.5 * step}, step=step)])))
    assert re.search(rf"Memory\s+3 GB\s+{kind}\b", text)
    assert f"Peak {kind.split()[-1] if name != 'memory_gb' else 'device'} memory, GB" in text


def test_two_runs_side_by_side(tmp_path):
    named = {
        "pretrained": run(tmp_path / "a", finetuning(0.7, loss=0.4)),
        "scratch": run(tmp_path / "b", finetuning(0.6, loss=0.5), CONFIG.replace("SEED = 1", "SEED = 2")),
    }
    text = report.compare_runs(named, tmp_path / "new" / "compare.html").read_text(encoding="utf-8")
    Balanced().check(text)
    assert cells(text, "Results") == [
        [("name", "boolq"), ("name", "accuracy"), ("", "0.6200<small>majority</small>"), ("best", "0.7000"), ("", "0.6000")],
        [("name", "boolq"), ("name", "loss"), ("", ""), ("best", "0.4000"), ("", "0.5000")],
    ]
    assert cells(text, "What differs") == [[("name", "SEED"), ("", "1"), ("", "2")]]
    assert re.search(r"boolq: accuracy\s+pretrained\s+0\.7\s+scratch\s+0\.6\s+majority\s+0\.62", shown(text))


def test_run_that_has_only_begun(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "metrics.jsonl").touch()
    text = written(tmp_path / "x")
    assert "<h1>x</h1>" in text and "has not written a metric yet" in text
    assert "<h2>" not in text and "<svg" not in text
    Balanced().check(report.compare_runs({"one": tmp_path / "x", "two": tmp_path / "x"}, tmp_path / "compare.html").read_text())


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"no-run is not a MODEL_DIR"):
        report.compare_runs({"a": tmp_path / "no-run"}, tmp_path / "compare.html")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"other is not a MODEL_DIR: it holds neither config\.gin nor metrics\.jsonl"):
        report.compare_runs({"a": tmp_path / "other"}, tmp_path / "compare.html")
    assert not (tmp_path / "compare.html").exists()


@pytest.mark.parametrize(
    "tail",
    ['{"step": 31, "split": "tra', '{"step": 31}\n', '{"step": null, "split": 1, "task": 1, "name": 1, "value": 1, "time": 1}\n', "[]\n"],
)
def test_line_cut_short_or_foreign(tmp_path, tail):
    folder = run(tmp_path / "x", pretraining())
    whole = written(folder)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(tail)
    assert written(folder) == whole


def test_values_that_are_not_finite(tmp_path):
    metrics = pretraining() + lines("train", {"loss": math.nan, "mfu": math.inf, "grad_norm": math.nan}, step=31)
    text = written(run(tmp_path / "x", metrics + lines("validation", {"loss": math.nan, "accuracy": -math.inf}, "text", 31)))
    assert "training loss NaN, validation loss NaN, 4,016 tokens/s, MFU 50%" in text
    assert "2 values are no finite number" in text
    assert "nan" not in re.sub("<style>.*?</style>", "", text, flags=re.DOTALL)


def test_everything_is_escaped(tmp_path):
    evil = "<script>$alert('1')$</script>\"&\ud800"
    metrics = pretraining() + lines("train", {evil: 1.0}, step=1) + lines("goodput", {evil: 5.0})
    metrics += [line for step in (1, 2) for line in lines("validation", {evil: 0.5}, evil, step)] + lines("baseline", {evil: 0.4}, evil)
    folder = run(tmp_path / "x", metrics, f"# {evil[:-1]}\n# {evil[:-1]}\n\nSEED = {evil[:-1]}\n")
    for name in ("config.json", "model-info.txt"):
        (folder / name).write_text(evil[:-1])
    text = written(folder, evil, [(evil, "")]) + report.compare_runs({evil: folder, "b": folder}, tmp_path / "c.html").read_text()
    assert "<script" not in text
    assert text.count("&lt;script&gt;") > 20


def test_nothing_from_outside(tmp_path):
    text = written(run(tmp_path / "x", pretraining()))
    assert re.findall(r"\w+://|<(?:script|link|img|iframe|object)\b|@import|(?:src|srcset)=", text) == []
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert {*re.findall(r"url\(([^)]*)\)", text), *re.findall(r'href="([^"]*)"', text)} == {f"#{name}" for name in ids}


def test_many_points_become_few(tmp_path):
    text = written(run(tmp_path / "x", [line for step in range(20_000) for line in lines("train", {"loss": step % 7}, step=step)]))
    assert len(text) < 100_000


def test_thinning_keeps_spikes():
    values = np.zeros(50_000)
    values[[123, 45_678]] = 9.0, -9.0
    values[1000:3000] = np.nan
    thin = plots.thinned(Curve(np.arange(50_000), values))
    assert len(thin.steps) <= plots.POINTS
    assert (np.diff(thin.steps) > 0).all()
    assert {(step, value) for step, value in zip(thin.steps, thin.values, strict=True) if abs(value) == 9} == {(123, 9), (45_678, -9)}
    assert np.isnan(thin.values).any()  # the gap stays a gap


@pytest.mark.parametrize("size", [1, 20, 999, 12_345])
def test_smoothing_leaves_a_constant_as_it_is(size):
    values = np.full(size, 3.5)
    values[5::7] = np.nan
    smooth = plots.smoothed(Curve(np.arange(size), values)).values
    np.testing.assert_allclose(smooth[np.isfinite(smooth)], 3.5, rtol=1e-12)
    assert np.isfinite(smooth).sum() >= len(smooth) - 1


def test_a_step_written_twice_counts_as_written_last(tmp_path):
    metrics = [line for value in (1.0, 2.0) for step in (2, 1) for line in lines("train", {"loss": value * step}, step=step)]
    curve = record.read(run(tmp_path / "x", metrics)).train("loss")
    assert curve.steps.tolist() == [1, 2] and curve.values.tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    "command", [COMMAND, COMMAND + " " + "--gin_bindings='bert.Config.layers = 6' " * 4, "a \"$b\" 'c`d'\\'e", "x" * 200]
)
def test_command_is_the_same_for_the_shell(command):
    assert shlex.split(page.shell(command).replace("\\\n", "")) == shlex.split(command)


def test_command_for_a_reader():
    assert page.shell(COMMAND, width=60) == (
        "python -m rootstock.pretrain \\\n    --gin_file=pretrain/x.gin \\\n    \"--gin.MODEL_DIR='runs/x'\" \\\n    --gin.SEED=1"
    )


@pytest.mark.parametrize(
    "value, text", [(8.2256, "8.226"), (4655.4, "4,655"), (5e-4, "5e-4"), (0, "0"), (0.0312, "0.0312"), (math.nan, "NaN")]
)
def test_numbers(value, text):
    assert plots.number(value) == text


@pytest.mark.parametrize("seconds, text", [(0.42, "0.4 s"), (59.7, "60 s"), (119.8, "2 min 00 s"), (7199.9, "2 h 00 min")])
def test_durations(seconds, text):
    assert report.duration(seconds) == text


def test_which_metrics_are_better_when_lower():
    assert [report.lower_is_better(name) for name in ("loss/mlm", "perplexity", "unread")] == [True] * 3
    assert not any(map(report.lower_is_better, ("accuracy", "f1a", "question_exact_match")))
