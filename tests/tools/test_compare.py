"""Runs side by side by their folders' names, and folders that are no run."""

import pathlib
import re

import pytest

from rootstock.tools import compare


def test_two_runs(trained, finetuned, tmp_path, capsys):
    """One file with both runs, named so that they can be told apart: both folders are called `run`."""
    out = tmp_path / "new" / "both.html"
    assert compare.main([str(trained), str(finetuned), f"--out={out}"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    text = out.read_text()
    names = [f"{folder.parent.name}/run" for folder in (trained, finetuned)]
    assert f"<h1>{names[0]} and {names[1]}</h1>" in text
    assert all(f"<h3>{name}</h3>" in text for name in names)
    for heading in ("Results", "Curves", "Where the time went", "What differs", "Configuration"):
        assert f"<h2>{heading}</h2>" in text
    assert "rootstock.models.bert.PreTraining" in text and "rootstock.finetune.finetuned.Finetuned" in text
    assert not re.search(r"\bsrc=|https?://", text)


@pytest.mark.parametrize(
    "folders, names",
    [
        (["a/one", "b/two"], ["one", "two"]),
        (["a/run", "b/run", "b/other"], ["a/run", "b/run", "b/other"]),
        (["x/a/run", "y/a/run/"], ["x/a/run", "y/a/run"]),
    ],
)
def test_names(folders, names):
    assert compare.named(folders) == {name: pathlib.Path(folder).resolve() for name, folder in zip(names, folders, strict=True)}


def test_mistakes(trained, tmp_path, capsys):
    out = tmp_path / "compare.html"
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    for folders, message in (
        ([trained], f"there is only {trained} to compare; name two runs or more"),
        ([trained, f"{trained}/../run"], f"{trained} and {trained}/../run are the same run; name each once"),
        ([trained, tmp_path / "gone"], "gone is not a MODEL_DIR: there is no such folder"),
        ([trained, tmp_path / "empty"], "empty is not a MODEL_DIR: it holds neither config.gin nor metrics.jsonl"),
        ([trained, tmp_path / "file"], "file is not a MODEL_DIR: there is no such folder"),
    ):
        assert compare.main([*map(str, folders), f"--out={out}"]) == 2
        assert message in capsys.readouterr().err and not out.exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "metrics.jsonl").touch()
    assert compare.main([str(trained), str(other), f"--out={tmp_path}/file/compare.html"]) == 2
    assert f"--out={tmp_path}/file/compare.html cannot be written: " in capsys.readouterr().err
