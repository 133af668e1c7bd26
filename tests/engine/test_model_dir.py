"""What a run leaves in MODEL_DIR, and the lock on it."""

import json
import subprocess
import sys

import pytest

from rootstock.engine import checkpoints, describe, load, model_dir
from rootstock.engine.errors import UserError
from rootstock.models import bert
from rootstock.models.layers import stack


def test_a_run_leaves_what_the_design_says(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"config.gin", "config.json", "model-info.txt", "metrics.jsonl", "tb", "checkpoints", "report.html", "vocabulary"} <= names
    assert not [name for name in names if name.endswith(".tmp")]
    assert any((trained / "tb").iterdir())
    assert "<html" in (trained / "report.html").read_text()


def test_model_info(trained):
    lines = (trained / "model-info.txt").read_text().splitlines()
    canonical = {name for stored in checkpoints.shapes(trained) for name, _ in stack.address(stored)}
    assert {line.split()[0] for line in lines[1:-2]} == canonical
    embeddings = next(line for line in lines if line.startswith("encoder/embeddings/token/"))
    assert "(160, 16)" in embeddings and "float32" in embeddings and "('vocab', 'embed')" in embeddings
    assert lines[0].split() == ["name", "shape", "dtype", "axes", "partition", "bytes/device"]


def test_the_lock_is_held_by_a_process_and_goes_with_it(tmp_path):
    code = (
        "import sys, time; from rootstock.engine.model_dir import claimed\n"
        f"with claimed({str(tmp_path)!r}): print('mine', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "mine\n"
    with pytest.raises(UserError, match=f"is in use by process {process.pid}; wait for it or choose another MODEL_DIR"):
        with model_dir.claimed(tmp_path):
            pass
    process.kill()
    process.communicate()
    with model_dir.claimed(tmp_path) as path:
        assert path == tmp_path


def test_a_folder_made_for_nothing_goes(tmp_path):
    folder = tmp_path / "a" / "run"
    with pytest.raises(UserError), model_dir.claimed(folder):
        (folder / "checkpoints").mkdir()
        raise UserError("a mistake")
    assert not folder.exists()
    with pytest.raises(UserError), model_dir.claimed(folder):
        (folder / "config.gin").write_text("")
        raise UserError("later")
    assert (folder / "config.gin").exists()
    with pytest.raises(UserError), model_dir.claimed(folder):
        raise UserError("a folder that was there before stays")
    assert folder.is_dir()


def test_config_json(trained, tmp_path):
    config = model_dir.read_config(trained)
    assert config.family == "@rootstock.models.bert.PreTraining" and config.format == 1
    rebuilt = describe.rebuild(config.model)
    assert isinstance(rebuilt, bert.Config) and (rebuilt.layers, rebuilt.width, rebuilt.dropout) == (2, 16, 0.1)
    assert len(config.vocabulary.checksum) == 64 and (trained / config.vocabulary.folder).is_dir()
    with pytest.raises(AttributeError):
        config.family = "another"


@pytest.mark.parametrize(
    "change, message",
    [
        (None, "is not a MODEL_DIR: it holds no config.json"),
        ('{"model_type": "bert"}', "KeyError 'format'; a Hugging Face model is converted by rootstock.tools.convert_hf"),
        ({"format": 9}, "has format 9, this version of rootstock reads 1"),
        ({"family": ...}, "is not a config.json of rootstock: KeyError 'family'"),
        ("{", "is not a config.json of rootstock: JSONDecodeError"),
        ("[]", "is not a config.json of rootstock: TypeError"),
    ],
)
def test_config_json_that_is_none(trained, tmp_path, change, message):
    if isinstance(change, dict):
        config = json.loads((trained / "config.json").read_text()) | change
        (tmp_path / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))
    elif change:
        (tmp_path / "config.json").write_text(change)
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        model_dir.read_config(tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"family": "@rootstock.models.bert.Gone"},
            "describes no model of this version: there is no 'rootstock.models.bert.Gone'",
        ),
        ({"family": "@nowhere.Model"}, "there is no 'nowhere.Model' in this installation"),
        ({"model": {"class": "@rootstock.models.bert.Config", "girth": 3}}, "config.json describes no model of this version: .*girth"),
        ({"layers": 3}, "does not fit its config.json: missing: encoder/layers/2/attention/key/bias, .* and 8 more$"),
        ({"layers": 1}, "does not fit its config.json: unexpected: encoder/layers/1/attention/key/bias, .* and 8 more$"),
        ({"max_length": 32}, r"config.json: of another shape: encoder/embeddings/position/table \(16, 16\) instead of \(32, 16\)$"),
        ({"scan": False}, r"does not fit its config.json: its layers are stacked in another way \(Config.scan\)$"),
    ],
)
def test_config_json_of_another_model(trained, tmp_path, change, message):
    (tmp_path / "checkpoints").symlink_to(trained / "checkpoints")
    config = json.loads((trained / "config.json").read_text())
    change = change if {"family", "model"} & change.keys() else {"model": config["model"] | change}
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=message):
        load.load(tmp_path)


def test_a_failed_write_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    with pytest.raises(UnicodeEncodeError):
        model_dir.write_atomically(path, "two \ud800")
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]


def test_write_atomically(tmp_path):
    path = tmp_path / "file"
    model_dir.write_atomically(path, "one")
    model_dir.write_atomically(path, "zwölf")
    assert path.read_text(encoding="utf-8") == "zwölf" and list(tmp_path.iterdir()) == [path]
