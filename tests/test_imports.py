"""The arrows between the rooms, and what the core may import."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# What a room may import of the house, besides itself.
MAY = {
    "models": set(),
    "data": set(),
    "engine": {"models"},
    "methods": {"engine", "models"},
    "pretrain": {"methods", "engine", "models"},
    "finetune": {"pretrain", "methods", "engine", "models", "data"},
    "tools": {"finetune", "pretrain", "methods", "engine", "models", "data"},
}
HEAVY = {"tensorflow", "seqio", "tensorflow_datasets", "tensorflow_text", "torch", "transformers"}


def imports(path):
    """(module, whether it is imported when the file is) for every import of a file."""
    tree = ast.parse(path.read_text())
    inside = {id(node) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef) for node in ast.walk(function)}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "rootstock" else [node.module]
        for name in names:
            yield name, id(node) not in inside


@pytest.mark.parametrize("room", MAY)
def test_arrows_run_one_way(room):
    for path in (ROOT / room).rglob("*.py"):
        for name, _ in imports(path):
            parts = name.split(".")
            if parts[0] == "rootstock" and len(parts) > 1:
                assert parts[1] in MAY[room] | {room}, f"{path.relative_to(ROOT)} imports {name}; {room} may import {sorted(MAY[room])}"


@pytest.mark.parametrize("room", MAY)
def test_heavy_libraries_stay_in_functions_of_data_and_tools(room):
    for path in (ROOT / room).rglob("*.py"):
        for name, at_once in imports(path):
            if name.split(".")[0] in HEAVY:
                assert room in ("data", "tools") and not at_once, f"{path.relative_to(ROOT)} imports {name}"


def test_core_imports_no_heavy_library():
    core = "rootstock, rootstock.engine.train, rootstock.engine.launch, rootstock.models.bert, rootstock.pretrain.objectives.mlm"
    more = "rootstock.finetune.recipe, rootstock.finetune.evaluate, rootstock.tools.loaded, rootstock.data.cached"
    more += ", rootstock.data.suites.superglue"
    code = f"import sys, {core}, {more}; print(sorted({HEAVY | {'matplotlib', 'tensorboardX'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_trains_without_tensorflow(tiny, tmp_path):
    """A whole run, reading a cache and writing TensorBoard events and the report, where neither TensorFlow nor seqio can be imported."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({sorted(HEAVY)!r})); "
    code = blocked + "from rootstock.engine import launch; sys.exit(launch.main('rootstock.pretrain', '', sys.argv[1:]))"
    process = tiny.start(tmp_path / "run", "TRAIN_STEPS=2", program=("-c", code))
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert (tmp_path / "run" / "report.html").exists() and any((tmp_path / "run" / "tb").iterdir())
