"""Taps: named places in a forward pass where a run may look at a value or disturb it.

    with tapped(want={"layers/scores"}, add={"embeddings": noise}) as taps:
        model(...)
    taps["layers/scores"]           # a list, one entry a layer

Models call `tap(name, x)` and know nothing more. Taps inside a Stack carry the prefix `layers/`; what is added to one of those has a
leading axis over the layers. Everything happens while JAX traces, so taps that nobody wants cost nothing.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from jaxtyping import Array, Float


class Taps:
    """What a run wants recorded, what it adds, and what was recorded: `taps[name]` is a list in the order of the calls."""

    def __init__(self, want: Collection[str] = (), add: Mapping[str, Array] | None = None):
        self.want = frozenset(want)
        self.add = dict(add or {})
        self.values: dict[str, list[Array]] = {}

    def __getitem__(self, name: str) -> list[Array]:
        return self.values[name]

    def record(self, name: str, value: Array) -> None:
        self.values.setdefault(name, []).append(value)

    def inside(self, prefix: str) -> "Taps":
        """Fresh taps with the wishes that concern `prefix`, without it."""
        cut = len(prefix)
        return Taps({n[cut:] for n in self.want if n.startswith(prefix)}, {n[cut:]: x for n, x in self.add.items() if n.startswith(prefix)})


_active: ContextVar[Taps | None] = ContextVar("taps", default=None)


def tap(name: str, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns `x`, plus what the run adds at `name`; records the sum when the run wants it."""
    taps = _active.get()
    if taps is None:
        return x
    if name in taps.add:
        x = x + taps.add[name]
    if name in taps.want:
        taps.record(name, x)
    return x


def wanted(name: str) -> bool:
    """Whether `tap(name, ...)` would do anything: attention asks, because fused kernels never form the scores."""
    taps = _active.get()
    return taps is not None and (name in taps.want or name in taps.add)


def active() -> Taps:
    """The taps in force; empty ones if there are none."""
    return _active.get() or Taps()


@contextmanager
def tapped(want: Collection[str] = (), add: Mapping[str, Array] | None = None) -> Iterator[Taps]:
    """Puts taps in force while the block is traced."""
    with using(Taps(want, add)) as taps:
        yield taps


@contextmanager
def using(taps: Taps) -> Iterator[Taps]:
    token = _active.set(taps)
    try:
        yield taps
    finally:
        _active.reset(token)
