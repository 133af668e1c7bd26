"""Sparse upcycling (Komatsuzaki et al. 2022, arXiv 2212.05055): a dense model becomes a mixture of experts whose experts are its MLPs.

    expert_e = MLP for every e;   router = Normal(0, router_std), new;   everything else as it was

What a parameter of the sparse model is made of is said here once; `tools.upcycle` does it slice by slice on the disk, `Upcycle` in memory,
with the same bits. Options: `noise` on the experts (the paper saw no help from it); `redraw`, a share of each expert's hidden units
that is drawn anew (Drop-Upcycling, Nakamura et al. 2025, arXiv 2502.19261); a `Mixture.granularity` of G above 1 cuts the MLP into G
shards, which the router's equal columns choose together (virtual groups, He et al. 2024, arXiv 2410.07524; with normalised weights
and Mixture.scale = G the model is the dense one).
"""

import dataclasses
import functools
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Key

from rootstock.engine.describe import describe
from rootstock.models.layers import parameters, stack
from rootstock.models.layers.dense import normal
from rootstock.models.layers.moe.mixture import Mixture
from rootstock.models.layers.parameters import Spec

_PART = re.compile(r"^(?P<layer>.*)/(?P<kind>experts|router|shared)/(?P<part>.+)$")


def reset(kind: str) -> bool:
    """Which moments of the optimizer go over: none; T5X's way for language."""
    return False


def keep_dense(kind: str) -> bool:
    """Those of parameters that stay what they were."""
    return kind == "same"


def broadcast(kind: str) -> bool:
    """Those too that an MLP had, to each of its experts; the paper's way for vision."""
    return kind in ("same", "experts", "shared")


@dataclasses.dataclass(frozen=True)
class Surgery:
    """`noise`: its deviation beside that of each kernel. `moments`: `reset`, `keep_dense` or `broadcast`."""

    seed: int = 0
    noise: float = 0.0
    redraw: float = 0.0
    moments: Callable[[str], bool] = reset

    def __post_init__(self):
        if not 0 <= self.redraw <= 1:
            raise ValueError(f"Surgery.redraw is {self.redraw}; expected a share from 0 to 1")
        if not self.noise >= 0:
            raise ValueError(f"Surgery.noise is {self.noise}; expected a number of at least 0")


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a parameter of the sparse model comes from: `kind` is `same`, `experts`, `shared` or `router` (which has no `dense` name)."""

    kind: str
    dense: str | None
    layer: str = ""
    part: str = ""


def origin(name: str) -> Origin:
    """By canonical name."""
    found = _PART.match(name)
    if found is None:
        return Origin("same", name)
    layer, kind, part = found["layer"], found["kind"], found["part"]
    return Origin(kind, None if kind == "router" else f"{layer}/{part}", layer, part)


def sparse_config(config: Any, mixture: Mixture) -> Any:
    """A dense model's configuration with the mixture in it."""
    if hasattr(config, "mlp"):
        if hasattr(config.mlp, "at"):
            raise ValueError(f"the model has experts already ({config.mlp.experts} of them); only a dense one can be upcycled")
        if describe(config.mlp) != describe(mixture.mlp):
            raise ValueError(f"the model's MLP is {describe(config.mlp)}, and Mixture.mlp {describe(mixture.mlp)}; they must be the same")
        return dataclasses.replace(config, mlp=mixture)
    return _within(config, lambda inner: sparse_config(inner, mixture))


def dense_config(config: Any) -> Any:
    """The way back."""
    if hasattr(config, "mlp"):
        if not hasattr(config.mlp, "at"):
            raise ValueError("the model has no experts, so there is nothing to average")
        return dataclasses.replace(config, mlp=config.mlp.mlp)
    return _within(config, dense_config)


def mixture_of(config: Any) -> Mixture:
    """The mixture in a sparse model's configuration."""
    if hasattr(config, "mlp"):
        return config.mlp
    return next(mixture_of(inner) for inner in _inner(config).values())


def _inner(config: Any) -> dict[str, Any]:
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {name: value for name, value in values.items() if name in ("encoder", "config", "discriminator")}


def _within(config: Any, change: Callable[[Any], Any]) -> Any:
    inner = _inner(config)
    if not inner:
        raise ValueError(f"{type(config).__module__}.{type(config).__name__} has no `mlp` that a mixture could replace")
    return dataclasses.replace(config, **{name: change(value) for name, value in inner.items()})


def router(layer: str, shape: tuple[int, int], mixture: Mixture, surgery: Surgery) -> Array:
    """A new router; the shards of one MLP have equal columns."""
    return _router(_key(surgery, layer, "router"), shape, mixture.router_std, mixture.granularity)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _router(key, shape, std, shards):
    return jnp.repeat(normal(std)(key, (shape[0], shape[1] // shards)), shards, axis=1)


def expert(of: Origin, number: int, dense: Array | np.ndarray, axes: tuple, mixture: Mixture, surgery: Surgery) -> Array | np.ndarray:
    """A parameter of one expert, from that of the MLP; `axes` are the logical names of its dimensions."""
    hidden = axes.index("mlp") if "mlp" in axes else None
    changed = surgery.redraw and hidden is not None
    noisy = surgery.noise and dense.ndim > 1
    if mixture.granularity == 1 and not changed and not noisy:
        return dense
    units = _key(surgery, of.layer, f"units {number}")
    draws = _key(surgery, of.layer, f"{of.part} {number}")
    shard = number % mixture.granularity
    return _expert(units, draws, dense, shard, hidden, mixture.granularity, surgery.noise if noisy else 0.0, surgery.redraw)


@functools.partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _expert(units, draws, dense, shard, hidden, shards, noise, redraw):
    x = jnp.asarray(dense)
    if hidden is None:
        x = x / shards  # what does not belong to hidden units (the last bias) is added by every shard
    else:
        size = x.shape[hidden] // shards
        x = jax.lax.dynamic_slice_in_dim(x, shard * size, size, hidden)
    for_noise, for_units = jax.random.split(draws)
    if noise:
        x = x + noise * x.std() * jax.random.normal(for_noise, x.shape, x.dtype)
    if redraw and hidden is not None:
        chosen = jax.random.permutation(units, x.shape[hidden]) < round(redraw * x.shape[hidden])
        chosen = chosen.reshape([-1 if d == hidden else 1 for d in range(x.ndim)])
        x = jnp.where(chosen, x.mean() + x.std() * jax.random.normal(for_units, x.shape, x.dtype), x)
    return x


def average(parts: list[np.ndarray], axes: tuple, mixture: Mixture) -> np.ndarray:
    """A parameter of the MLP, from those of its experts: the mean, in double precision, so that equal experts give their own bits back."""
    shards, hidden = mixture.granularity, axes.index("mlp") if "mlp" in axes else None
    means = [sum(part.astype(np.float64) for part in parts[s::shards]) / len(parts[s::shards]) for s in range(shards)]
    whole = sum(means) if hidden is None else np.concatenate(means, hidden)
    return whole.astype(parts[0].dtype)


def _key(surgery: Surgery, layer: str, what: str) -> Key[Array, ""]:
    """By name, so that no order and no stacking matters."""
    return jax.random.fold_in(jax.random.key(surgery.seed), zlib.crc32(f"{layer} {what}".encode()))


@dataclasses.dataclass(frozen=True)
class Upcycle:
    """A Graft: the sparse model with the values of the dense one. Draws depend on `surgery.seed` alone, as in the tool."""

    mixture: Mixture
    surgery: Surgery = dataclasses.field(default_factory=Surgery)

    def __call__(self, model: nnx.Module, key: Key[Array, ""]) -> nnx.Module:
        config = sparse_config(model.config, self.mixture)
        sparse = parameters.abstract(lambda key: type(model)(config, key))
        dense = stack.unstack(parameters.split(model)[1])
        return parameters.merge(
            nnx.split(sparse)[0], {name: self._leaf(name, spec, dense) for name, spec in parameters.specs(sparse).items()}
        )

    def _leaf(self, name: str, spec: Spec, dense: Mapping[str, Array]) -> Array:
        cut = 1 if stack.stacked(name) else 0
        values = [self._value(canonical, spec.shape[cut:], spec.axes[cut:], dense) for canonical, _ in stack.address(name)]
        return jnp.stack(values) if cut else values[0]

    def _value(self, name: str, shape: tuple[int, ...], axes: tuple, dense: Mapping[str, Array]) -> Array:
        of = origin(name)
        if of.kind == "router":
            return router(of.layer, shape, self.mixture, self.surgery)
        if of.kind != "experts":
            return dense[of.dense]
        return jnp.stack([expert(of, number, dense[of.dense], axes[1:], self.mixture, self.surgery) for number in range(shape[0])])
