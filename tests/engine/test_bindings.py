"""Values of recipes against annotations: what is ruled out, and what cannot be told."""

import collections.abc
import typing
from collections.abc import Mapping, Sequence

import pytest

from rootstock.engine import bindings
from rootstock.engine.sockets import Objective


@pytest.mark.parametrize(
    "hint, fit, unfit",
    [
        (int, [1, 0, -3], [1.0, "1", True, None, [1]]),
        (float, [1, 1e-3], ["1e-3", False, None]),
        (bool, [True, False], [0, "no"]),
        (str, ["x"], [1, None, ["x"]]),
        (int | None, [1, None], ["1", 1.5]),
        (float | collections.abc.Callable[[int], float], [1e-3], ["1e-3", [1]]),
        (typing.Optional[float], [None, 2], ["2"]),  # noqa: UP045
        (Sequence[str], [("a",), [], ["a", "b"]], ["a", [1], {"a": 1}]),
        (str | Sequence[str], ["a", ["a"]], [1, [1]]),
        (Mapping[str, Sequence[str]], [{}, {"a": ()}], [[], {"a": "b"}, {1: ()}]),
        (Objective, [], ["mlm", 1, []]),
        (collections.abc.Callable[..., typing.Any], [], ["f"]),
        (typing.Any, [1, "x", None, []], []),
        (complex, [1, "x"], []),  # of what we do not know, nothing is said
    ],
)
def test_fits(hint, fit, unfit):
    assert [value for value in fit if not bindings.fits(value, hint)] == []
    assert [value for value in unfit if bindings.fits(value, hint)] == []
    assert bindings.fits(object(), hint)  # as a reference of gin


def test_told():
    assert bindings.told(int | None) == "a whole number or None"
    assert bindings.told(float | collections.abc.Callable[[int], float]) == "a number or a function, as in @module.name"
    assert bindings.told(Mapping[str, str]) == "a dictionary in braces"
