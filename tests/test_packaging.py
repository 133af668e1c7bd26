"""The frame: the list of packages, the pinned requirements, and a wheel that works beside a user's own `data` and `models`."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PYPROJECT["tool"]["setuptools"]["packages"]
PINS = sorted((ROOT / "requirements").glob("python*.txt"))
NOT_INSTALLED = {"tests", "benchmarks", "docs", "runs", "build", "dist"}


def folders_of_python():
    """Every folder of the product that holds Python files, as a package name."""
    for folder, below, files in os.walk(ROOT):
        path = Path(folder).relative_to(ROOT)
        below[:] = [name for name in below if not name.startswith((".", "__")) and not (path == Path() and name in NOT_INSTALLED)]
        if any(name.endswith(".py") for name in files):
            yield ".".join(("rootstock", *path.parts)), Path(folder)


def test_every_package_is_listed():
    found = dict(folders_of_python())
    assert sorted(PACKAGES) == sorted(found)
    assert [name for name, folder in found.items() if not (folder / "__init__.py").is_file()] == []


def pinned(path):
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    # This form leaves no room for an address, a path, an option or a hash.
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!]+", line)] == []
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def test_one_set_of_pins_for_each_python():
    assert [path.stem for path in PINS] == ["python3.11", "python3.12"]


@pytest.mark.parametrize("path", [*PINS, ROOT / "pyproject.toml"], ids=lambda path: path.name)
def test_requirements_name_no_address(path):
    assert re.findall(r"https?:|file:|git\+|index-url|find-links|--hash|(?:^|[\s'\"=@])/\w", path.read_text(), re.MULTILINE) == []


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.stem)
def test_pins_meet_pyproject(path):
    project = PYPROJECT["project"]
    pins = pinned(path)
    wanted = map(Requirement, project["dependencies"] + project["optional-dependencies"]["data"] + project["optional-dependencies"]["test"])
    missed = {str(want): pins.get(canonicalize_name(want.name)) for want in wanted}
    assert {want: pin for want, pin in missed.items() if pin is None or pin not in Requirement(want).specifier} == {}
    assert not pins.keys() & {"torch", "transformers", "apache-beam"}  # far larger, or in conflict with protobuf 7


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The unpacked wheel, built without a network from a copy: setuptools leaves a build folder, and takes files from an old one."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "runs", "build", "dist"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    subprocess.run([*pip, folder / "source"], check=True)
    (built,) = folder.glob("rootstock-*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.mark.slow
@pytest.mark.parametrize("below, pattern", [("gin_configs", "*.gin"), ("data/demo", "*")])
def test_wheel_carries(wheel, below, pattern):
    def files(root):
        return sorted(str(path.relative_to(root)) for path in (root / below).rglob(pattern) if path.is_file())

    assert files(ROOT) != []
    assert files(wheel / "rootstock") == files(ROOT)


@pytest.mark.slow
def test_wheel_leaves_the_workshop_behind(wheel):
    assert {path.name for path in (wheel / "rootstock").iterdir()}.isdisjoint(NOT_INSTALLED)
    assert {path.parts[0] for path in (entry.relative_to(wheel) for entry in wheel.iterdir())} == {"rootstock", "rootstock-0.1.0.dist-info"}


@pytest.mark.slow
def test_wheel_beside_a_users_own_folders(wheel, tmp_path):
    for name in ("data", "models"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("OWNER = 'the user'\n")
    program = f"""
import importlib, pathlib
for name in {PACKAGES}:
    module = importlib.import_module(name)
    assert pathlib.Path(module.__file__).is_relative_to({str(wheel)!r}), (name, module.__file__)
import data, models
assert data.OWNER == models.OWNER == "the user"
"""
    environment = os.environ | {"PYTHONPATH": str(wheel), "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
