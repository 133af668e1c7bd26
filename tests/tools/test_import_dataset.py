"""The command that turns official files into TFDS directories. It imports TensorFlow."""

import json

import pytest

pytest.importorskip("tensorflow_datasets")

from rootstock.tools import import_dataset

CB = [{"premise": "The cat ran.", "hypothesis": "it sat", "idx": index, "label": "neutral"} for index in range(3)]


@pytest.fixture
def official(tmp_path):
    folder = tmp_path / "official"
    (folder / "CB").mkdir(parents=True)
    (folder / "CB" / "val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*CB, CB[0] | {"idx": 3, "label": "-"}]))
    (folder / "AX-g").mkdir()
    (folder / "AX-g" / "AX-g.jsonl").write_text(json.dumps(CB[0] | {"label": "entailment"}) + "\n")
    return folder


def test_a_suite(official, tmp_path, capsys):
    arguments = ["super_glue", f"--from={official}", f"--to={tmp_path}/tfds"]
    assert import_dataset.main(arguments) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{tmp_path}/tfds/super_glue/cb/1.0.2\n")
    assert "  train: missing; the official split has 250 rows\n" in shown
    assert "  validation: 3 (0 entailment, 0 contradiction, 3 neutral) of the official 56 rows: a subset\n" in shown
    assert "  super_glue/cb validation: 1 row skipped ('" in shown and "val.jsonl' line 4: its label is '-'" in shown
    assert "  super_glue/cb is a subset of the official set\n" in shown and "super_glue/axg/1.0.2" in shown
    assert sorted(path.name for path in (tmp_path / "tfds").iterdir()) == ["super_glue"]
    assert import_dataset.main(["super_glue/axg", *arguments[1:]]) == 2
    assert "super_glue/axg/1.0.2' is there already; an import never overwrites" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, message",
    [
        ("super_glue/qa", "there is no set or suite 'super_glue/qa' to import; known are super_glue, glue, super_glue/boolq"),
        ("glue", "holds official files of no set of glue; looked into its folders CoLA, SST-2"),
        ("super_glue/boolq", "holds nothing of boolq"),
        ("super_glue/rte", "val.jsonl' line 1: 'label' is 'maybe', expected one of 'entailment', 'not_entailment'"),
    ],
)
def test_mistakes(official, tmp_path, capsys, name, message):
    (official / "RTE").mkdir()
    (official / "RTE" / "val.jsonl").write_text(json.dumps(CB[0] | {"label": "maybe"}) + "\n")
    assert import_dataset.main([name, f"--from={official}", f"--to={tmp_path}/tfds"]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ") and message in told.err and told.out == ""
    assert not (tmp_path / "tfds").exists()


def test_help(capsys):
    with pytest.raises(SystemExit, match="0"):
        import_dataset.main(["--help"])
    assert "tfds.load" in capsys.readouterr().out
