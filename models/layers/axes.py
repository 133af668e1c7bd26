"""Logical names for the axes of activations: `constrain(x, "batch", "length", "embed")`.

A model knows no mesh. While the engine traces a step it installs a function here that turns logical names into a
sharding constraint; without one, `constrain` returns its argument.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from jaxtyping import Array, Shaped

Constraint = Callable[[Array, tuple[str | None, ...]], Array]
_constraint: ContextVar[Constraint | None] = ContextVar("constraint", default=None)


def constrain(x: Shaped[Array, "..."], *axes: str | None) -> Shaped[Array, "..."]:
    """Asks that `x` be laid out over the mesh as the rules say for its axes; values do not change."""
    constraint = _constraint.get()
    return x if constraint is None else constraint(x, axes)


@contextmanager
def constrained_by(constraint: Constraint) -> Iterator[None]:
    """Applies `constraint` to every `constrain` traced inside."""
    token = _constraint.set(constraint)
    try:
        yield
    finally:
        _constraint.reset(token)
