"""Logical names for the axes of activations: `constrain(x, "batch", "length", "embed")`.

A model knows no mesh. While the engine traces a step it installs a function here that turns logical names into a
sharding constraint; without one, `constrain` returns its argument. What must be done by each device for itself asks for the `layout`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, runtime_checkable

from jaxtyping import Array, Shaped

Names = tuple[str | None, ...]
Constraint = Callable[[Array, Names], Array]


@runtime_checkable
class Layout(Protocol):
    """A constraint over a mesh of several devices, and what its rules say."""

    def __call__(self, x: Array, axes: Names) -> Array: ...

    def mesh_axes(self, name: str) -> tuple[str, ...]:
        """The mesh axes that a logical axis is cut along."""

    def shards(self, name: str) -> int:
        """Into how many parts."""

    def by_shard(self, function: Callable, arguments: Sequence, result: Sequence) -> Callable:
        """`function` run by every device on its own parts. `arguments` and `result`: for each a tree of axes, or axes for a whole tree."""


_constraint: ContextVar[Constraint | None] = ContextVar("constraint", default=None)


def constrain(x: Shaped[Array, "..."], *axes: str | None) -> Shaped[Array, "..."]:
    """Asks that `x` be laid out over the mesh as the rules say for its axes; values do not change."""
    constraint = _constraint.get()
    return x if constraint is None else constraint(x, axes)


def layout() -> Layout | None:
    """The layout in force where there are several devices."""
    constraint = _constraint.get()
    return constraint if isinstance(constraint, Layout) else None


@contextmanager
def constrained_by(constraint: Constraint | None) -> Iterator[None]:
    """Applies `constraint` to every `constrain` traced inside; with None, none."""
    token = _constraint.set(constraint)
    try:
        yield
    finally:
        _constraint.reset(token)
