"""The one place that stacks layers, scans over them and recomputes them in the backward pass.

A layout is a sequence of runs `(period, repeats)`: a run holds `period * repeats` layers, of which layer i and layer i + period are
alike. Alike layers are stored as one module whose arrays have a leading `layers` axis, and the run is one `lax.scan`; a run that is not
repeated is unrolled. BERT scanned is ((1, 12),), unrolled ((12, 1),); ModernBERT is ((1, 1), (3, 7)).

A parameter's canonical name is `.../layers/{i}/...`; in storage, stacked layers read `.../layers/{start}:{stop}:{step}/...`, which is the
Python slice of the layers that the leading axis holds. So a storage name alone tells every canonical name inside it (`address`).
"""

import functools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Key

from rootstock.models.layers import tap

Layout = tuple[tuple[int, int], ...]
Remat = Callable[..., Any] | None

_EXPERTS = re.compile(r"(^|/)experts/")
_STACKED = re.compile(r"(?<=/)(\d+):(\d+):(\d+)(?=/)")


def layout(layers: int, *, period: int = 1, prefix: int = 0, suffix: int = 0, scan: bool = True, unlike: Collection[int] = ()) -> Layout:
    """`prefix` single layers, as many whole periods as fit, and the rest, at least `suffix`, as single ones; everything unrolled if `scan`
    is off. With `unlike`, the numbers of layers that differ from the others, as much as can be repeated is repeated.
    """
    if not scan:
        return tuple(run for run in ((layers - suffix, 1), (suffix, 1)) if run[0])
    if unlike:
        kinds = [((i - prefix) % period, i in unlike) for i in range(prefix, layers - suffix)]
        return tuple(run for run in ((prefix, 1), *_repeats(kinds), (suffix, 1)) if run[0])
    repeats, rest = divmod(layers - prefix - suffix, period)
    runs = ((prefix, 1), (period, repeats), (rest + suffix, 1))
    return tuple(run for run in runs if run[0] and run[1])


def _repeats(kinds: Sequence) -> Iterable[tuple[int, int]]:
    """Runs that cover a sequence of kinds of layers, from the front, each time the one that repeats the most layers."""
    while kinds:
        periods = range(1, len(kinds) // 2 + 1)
        covered, short = max([(covered, -p) for p in periods if (covered := _covered(kinds, p)) > p], default=(1, -1))
        yield -short, covered // -short
        kinds = kinds[covered:]


def _covered(kinds: Sequence, period: int) -> int:
    """How many layers from the front are whole repetitions of the first `period`."""
    alike = next((i for i, kind in enumerate(kinds) if kind != kinds[i % period]), len(kinds))
    return alike // period * period


def save_nothing(*_, **__) -> bool:
    """A `remat` policy: recompute every activation of a layer in the backward pass; only what passes between layers is kept."""
    return False


def save_products(*args, **params) -> bool:
    """A `remat` policy: keep the results of matrix products, recompute the rest."""
    return jax.checkpoint_policies.dots_saveable(*args, **params)


class Stack(nnx.Module):
    """Layers `make(key, index)` for every index of the layout.

    `remat` is `save_nothing`, `save_products` or another policy of `jax.checkpoint`, or None to keep all activations. A layer is called as
    `layer(carry, **shared, **per_layer[i])` and returns the next carry, of the same structure.
    """

    def __init__(self, key: Key[Array, ""], make: Callable[[Key[Array, ""], int], nnx.Module], runs: Layout, remat: Remat = None):
        self.runs, self.remat = runs, remat
        for start, period, repeats in _starts(runs):
            for first in range(start, start + period):
                keys = [jax.random.fold_in(key, i) for i in range(first, start + period * repeats, period)]
                module = make(keys[0], first) if repeats == 1 else _stacked(make, jnp.stack(keys), first)
                setattr(self, _part(start, first, period, repeats), module)

    def run(
        self,
        carry: Any,
        shared: Mapping[str, Any] | None = None,
        per_layer: Mapping[str, Any] | None = None,
        method: str = "__call__",
        stop: int | None = None,
    ) -> Any:
        """Carries `carry` through all layers, by their call or another method. Leaves of `per_layer` have a leading axis over the layers
        (keys, biases). `stop`: the layer before which to end, one that stands alone in the layout.

        What taps inside the layers record reaches the taps in force outside, under `layers/...`, one value a layer.
        """
        taps = tap.active()
        per_layer = {"args": dict(per_layer or {}), "add": taps.inside("layers/").add}
        for start, end, modules, run in self._parts():
            if stop is not None and start >= stop:
                break
            part = jax.tree.map(lambda x, a=start, b=end: x[a:b], per_layer)
            carry, recorded = run(modules, carry, dict(shared or {}), part, taps.inside("layers/").want, self.remat, method)
            for layer in recorded:
                for name, values in layer.items():
                    for value in values:
                        taps.record(f"layers/{name}", value)
        return carry

    def alone(self, index: int) -> nnx.Module:
        """The layer of this number, which stands alone in the layout."""
        return getattr(self, str(index))

    def _parts(self):
        """For each run its first layer, the one after its last, its modules, and how they are run."""
        for start, period, repeats in _starts(self.runs):
            modules = [getattr(self, _part(start, first, period, repeats)) for first in range(start, start + period)]
            yield start, start + period * repeats, modules, _scan if repeats > 1 else _unroll


class Shared(Stack):
    """`layers` layers with the parameters of only `groups` (ALBERT): each group is run layers / groups times in a row.

    Parameters are named by group, `layers/{group}/...`.
    """

    def __init__(
        self, key: Key[Array, ""], make: Callable[[Key[Array, ""], int], nnx.Module], groups: int, layers: int, remat: Remat = None
    ):
        if layers % groups:
            raise ValueError(f"{groups} groups do not divide the {layers} layers that share them")
        super().__init__(key, make, ((groups, 1),), remat)
        self.times = layers // groups

    def _parts(self):
        for group in range(self.runs[0][0]):
            yield group * self.times, (group + 1) * self.times, [getattr(self, str(group))], functools.partial(_repeat, self.times)


def unrolled(model: nnx.Module) -> nnx.Module:
    """`model`, changed so that every layer of its stacks stands alone: for a loop around them, in which a scan would copy the parameters
    of each layer at every turn.
    """
    for part in [part for _, part in nnx.iter_graph(model) if isinstance(part, Stack)]:
        for start, period, repeats in _starts(part.runs):
            for first in range(start, start + period) if repeats > 1 else ():
                name = _part(start, first, period, repeats)
                graphdef, state = nnx.split(getattr(part, name))
                delattr(part, name)
                for index in range(repeats):
                    alone = nnx.merge(graphdef, jax.tree.map(lambda x, index=index: x[index], state))
                    setattr(part, str(first + index * period), alone)
        part.runs = ((sum(period * repeats for period, repeats in part.runs), 1),)
    return model


def _unroll(modules, carry, shared, per_layer, want, remat, method):
    recorded = []
    for index, module in enumerate(modules):
        one = jax.tree.map(lambda x, index=index: x[index], per_layer)
        carry, values = _checkpointed(_call, remat, scanned=False)(carry, *nnx.split(module), shared, one, want, method)
        recorded.append(values)
    return carry, recorded


def _scan(modules, carry, shared, per_layer, want, remat, method):
    graphdefs, states = zip(*(nnx.split(module) for module in modules), strict=True)
    period = len(modules)
    rows = jax.tree.map(lambda x: x.reshape(-1, period, *x.shape[1:]), per_layer)

    def body(carry, xs):
        states, row = xs
        recorded = []
        for index, (graphdef, state) in enumerate(zip(graphdefs, states, strict=True)):
            one = jax.tree.map(lambda x, index=index: x[index], row)
            carry, values = _call(carry, graphdef, state, shared, one, want, method)
            recorded.append(values)
        return carry, recorded

    carry, recorded = jax.lax.scan(_checkpointed(body, remat, scanned=True), carry, (states, rows))
    repeats = jax.tree.leaves(states)[0].shape[0]
    return carry, [jax.tree.map(lambda x, j=j: x[j], values) for j in range(repeats) for values in recorded]


def _repeat(times, modules, carry, shared, per_layer, want, remat, method):
    graphdef, state = nnx.split(modules[0])

    def body(carry, one):
        return _call(carry, graphdef, state, shared, one, want, method)

    carry, recorded = jax.lax.scan(_checkpointed(body, remat, scanned=True), carry, per_layer, length=times)
    return carry, [jax.tree.map(lambda x, j=j: x[j], recorded) for j in range(times)]


def _call(carry, graphdef, state, shared, one, want, method):
    with tap.using(tap.Taps(want, one["add"])) as taps:
        carry = getattr(nnx.merge(graphdef, state), method)(carry, **shared, **one["args"])
    return carry, taps.values


def _checkpointed(function, remat, scanned):
    if remat is None:
        return function
    static = () if scanned else (1, 5, 6)  # the graph definition, the wishes of the taps, the method
    return jax.checkpoint(function, policy=remat, prevent_cse=not scanned, static_argnums=static)


def _stacked(make, keys, first):
    return jax.vmap(lambda key: make(key, first))(keys)


def _starts(runs: Layout) -> Iterable[tuple[int, int, int]]:
    start = 0
    for period, repeats in runs:
        yield start, period, repeats
        start += period * repeats


def _part(start: int, first: int, period: int, repeats: int) -> str:
    return str(first) if repeats == 1 else f"{first}:{start + period * repeats}:{period}"


def stacked(name: str) -> bool:
    """Whether the array of this storage name has a leading axis over layers."""
    return _STACKED.search(name) is not None


def expert(name: str) -> bool:
    """Whether this is a parameter of the experts of a layer, with an axis over them, the first after that over layers."""
    return _EXPERTS.search(name) is not None


def address(name: str) -> list[tuple[str, int | None]]:
    """The canonical names inside a storage name, each with its index on the leading axis (None: the array itself)."""
    found = _STACKED.search(name)
    if found is None:
        return [(name, None)]
    return [(f"{name[: found.start()]}{i}{name[found.end() :]}", j) for j, i in enumerate(range(*map(int, found.groups())))]


def unstack(params: Mapping[str, Array | np.ndarray]) -> dict[str, Array | np.ndarray]:
    """Every parameter under its canonical name. Works on numpy and JAX arrays; slices are views where the library makes them so."""
    return {canonical: value if index is None else value[index] for name, value in params.items() for canonical, index in address(name)}


class PerLayer(NamedTuple):
    """The state of `per_layer`: of the arrays that stand alone, and of those with leading axes, by the lengths of these."""

    alone: Any
    mapped: dict[str, Any]


def per_layer(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """`tx` applied to each layer of a stacked array, and to each expert of a mixture, as if it stood alone.

    For optimizers that look at a whole tensor (LAMB's trust ratio, Adafactor's factored moments and clipping, Muon's orthogonalisation):
    on stacked layers they would mix layers. `tx` must treat each array by itself; clip by the global norm outside.
    """

    def parts(tree):
        alone, rest = {}, {}
        for name, x in tree.items():
            lengths = _leading(name, x.shape)
            (rest.setdefault(lengths, {}) if lengths else alone)[name] = x
        return alone, rest

    def init(params):
        alone, rest = parts(params)
        return PerLayer(tx.init(alone), {lengths: _mapped(tx.init, lengths)(tree) for lengths, tree in rest.items()})

    def update(updates, state, params):
        alone, rest = parts(updates)
        alone_params, rest_params = parts(params)
        alone, alone_state = tx.update(alone, state.alone, alone_params)
        new = {lengths: _mapped(tx.update, lengths)(tree, state.mapped[lengths], rest_params[lengths]) for lengths, tree in rest.items()}
        merged = alone | {name: x for tree, _ in new.values() for name, x in tree.items()}
        return {name: merged[name] for name in updates}, PerLayer(alone_state, {lengths: s for lengths, (_, s) in new.items()})

    return optax.GradientTransformation(init, update)


def _leading(name: str, shape: tuple[int, ...]) -> str:
    """The lengths of the axes over layers and experts: "12", "6x8", "x8" (experts of a layer that stands alone), or nothing."""
    depth = str(shape[0]) if stacked(name) else ""
    return depth + (f"x{shape[1 if depth else 0]}" if expert(name) else "")


def _mapped(function: Callable, lengths: str) -> Callable:
    return functools.reduce(lambda f, _: jax.vmap(f), filter(None, lengths.split("x")), function)
