"""Objects as JSON and back."""

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from ml_collections import ConfigDict

from rootstock.engine import describe, flops, mesh, schedules
from rootstock.engine.errors import UserError


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Any
    function: Callable = math.sqrt
    sizes: tuple = (1, 2.5, "three", None, True)


def test_there_and_back():
    value = {"outer": schedules.BatchRamp(((0, 8), (3, 16))), "shape": mesh.Shape(data=2), "call": flops.forward, "class_": mesh.Shape}
    text = json.dumps(describe.describe(value))
    assert describe.rebuild(json.loads(text)) == value
    assert describe.rebuild(ConfigDict(json.loads(text))) == value
    assert '"@rootstock.engine.flops.forward"' in text


def test_nested():
    described = describe.describe(Outer({"a": [mesh.Shape()]}))
    assert described["inner"]["a"][0] == {"class": "@rootstock.engine.mesh.Shape", **dataclasses.asdict(mesh.Shape())}
    assert described["function"] == "@math.sqrt" and described["sizes"] == [1, 2.5, "three", None, True]


@pytest.mark.parametrize("value", [lambda x: x, object(), Outer(lambda x: x), {1, 2}], ids=["lambda", "object", "inside", "set"])
def test_what_has_no_name(value):
    with pytest.raises(TypeError, match=r"cannot be written to config.json: name a function or class of a module, or use a dataclass"):
        describe.describe(value)


@pytest.mark.parametrize("value", ["@user", {"class": 3}, Outer(("@user",))])
def test_what_would_be_read_as_something_else(value):
    with pytest.raises(TypeError, match="give it another name"):
        describe.describe(value)


@pytest.mark.parametrize("path", ["rootstock.engine.mesh.Gone", "nowhere.at.all", "plain", ""])
def test_what_is_not_there(path):
    with pytest.raises(UserError, match="in this installation"):
        describe.resolve(path)
