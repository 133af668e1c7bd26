"""A mixture of experts as `mlp` of a configuration: in some layers a router and several MLPs stand for the one MLP.

    y_t = scale * sum over the experts e of token t of  w_te MLP_e(x_t)  [+ shared MLP(x_t)],   w from softmax(x_t W) in float32

Shazeer et al. 2017 (arXiv 1701.06538), GShard, Switch, expert choice (see `routers`), sparse upcycling (Komatsuzaki et al. 2022, arXiv
2212.05055), fine-grained and shared experts (Dai et al. 2024, arXiv 2401.06066). `docs/moe.md` has examples.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from rootstock.models.layers import parameters
from rootstock.models.layers.axes import constrain, constrained_by, layout
from rootstock.models.layers.dense import Dense, normal
from rootstock.models.layers.dropout import split
from rootstock.models.layers.mlp import MLP
from rootstock.models.layers.moe import dispatch as dispatching
from rootstock.models.layers.moe import experts as side_by_side
from rootstock.models.layers.moe.placement import Every
from rootstock.models.layers.moe.routers import ExpertChoice, Router, TopK, entropy_and_z
from rootstock.models.layers.parameters import Initializer
from rootstock.models.layers.tap import tap


@dataclasses.dataclass(frozen=True)
class Mixture:
    """`experts` of the class `mlp`, which is also that of layers without. `layers` says which layers of a stack have them; T5 asks it
    for the encoder and for the decoder. `causal_router` is for causal layers, by default the same. `group_size`: tokens that compete for
    places, at most, in whole rows or equal parts of rows; by default each row is a group. `granularity` divides an expert's hidden width,
    `scale` multiplies what experts answer; `shared` MLPs take every token. `expert_dropout` takes the place of the layers' rate within
    experts. `dispatch` is `dispatch.einsum` or `dispatch.ragged`, by default the faster one where the program runs. Being given a key
    is what tells a layer that it is training.
    """

    experts: int = 8
    router: Router = dataclasses.field(default_factory=TopK)
    causal_router: Router | None = None
    layers: Callable[[int], tuple[int, ...]] = dataclasses.field(default_factory=Every)
    mlp: Callable = MLP
    group_size: int | None = None
    granularity: int = 1
    scale: float = 1.0
    shared: int = 0
    expert_dropout: float | None = None
    router_std: float = 0.02
    dispatch: Callable | None = None

    def __post_init__(self):
        counts = {"experts": (self.experts, 1), "granularity": (self.granularity, 1), "shared": (self.shared, 0)}
        if self.group_size is not None:
            counts["group_size"] = (self.group_size, 1)
        for name, (value, least) in counts.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"Mixture.{name} is {value!r}; expected a whole number of at least {least}")
        for router in (self.router, self.causal_router or self.router):
            router.check(self.experts)

    def at(self, index: int, layers: int, causal: bool) -> Callable[..., nnx.Module]:
        """What builds the feed-forward layer of layer `index` of so many."""
        if causal and (router := self.causal_router or self.router).looks_ahead:
            raise ValueError(
                f"{type(router).__name__} lets later tokens decide about earlier ones, so causal layers cannot use it; give them a TopK "
                "that is not prioritised (Mixture.causal_router, or Mixture.router in a decoder-only model)"
            )
        return functools.partial(self, causal=causal) if index in self.layers(layers) else self.mlp

    def __call__(self, key: Key[Array, ""], width: int, hidden: int, *, causal: bool = False, **how) -> nnx.Module:
        return Sparse(key, width, hidden, mixture=self, causal=causal, **how)


class Sparse(nnx.Module):
    """The feed-forward layer of a mixture: [B, L, width] to the same.

    It adds `added_losses` to the loss of any objective, with these weights, and `added_metrics` to what a step tells (`engine.additions`).
    """

    added_metrics = ("load", "busiest", "idlest", "dropped", "entropy")

    def __init__(
        self,
        key: Key[Array, ""],
        width: int,
        hidden: int,
        *,
        mixture: Mixture,
        causal: bool,
        init: Initializer,
        dtype: str,
        rate: float = 0.0,
        **options,
    ):
        if hidden % mixture.granularity:
            raise ValueError(f"Mixture.granularity {mixture.granularity} does not divide the MLP's hidden width {hidden}")
        keys = jax.random.split(key, 3)
        self.mixture, self.dtype = mixture, dtype
        self.rule = (mixture.causal_router or mixture.router) if causal else mixture.router
        self.router = Dense(
            keys[0], width, mixture.experts, axes=("embed", None), bias=False, init=normal(mixture.router_std), dtype="float32"
        )
        how = dict(init=init, dtype=dtype, **options)
        inner = rate if mixture.expert_dropout is None else mixture.expert_dropout
        build = lambda key: mixture.mlp(key, width, hidden // mixture.granularity, rate=inner, **how)
        self.experts = side_by_side.make(keys[1], mixture.experts, build)
        self.shared = mixture.mlp(keys[2], width, hidden * mixture.shared, rate=rate, **how) if mixture.shared else None

    @property
    def added_losses(self) -> dict[str, float]:
        return self.rule.losses

    def __call__(
        self, x: Float[Array, "B L width"], key: Key[Array, ""] | None = None, segment_ids: Int[Array, "B L"] | None = None
    ) -> Float[Array, "B L width"]:
        """`key`: given in training; `segment_ids`: 0 is padding."""
        mixture, rule = self.mixture, self.rule
        key_router, key_experts, key_shared = split(key, 3)
        groups = _groups(x.shape[0], x.shape[1], mixture.group_size)
        tokens = constrain(x.reshape(*groups, x.shape[-1]), "batch", None, None)
        everyone = segment_ids is None or rule.route_padding
        routed = jnp.ones(groups, bool) if everyone else (segment_ids > 0).reshape(groups)
        logits = self.logits(tokens, key_router)
        y, shares = self._through_experts(tokens.astype(self.dtype), routed, jax.nn.softmax(logits), key_experts)
        self._tell({**shares, **entropy_and_z(logits, routed)})
        y = constrain(y, "batch", None, None).reshape(x.shape)
        y = y if mixture.scale == 1.0 else y * jnp.asarray(mixture.scale, y.dtype)
        return y if self.shared is None else y + self.shared(x, key_shared)

    def _through_experts(self, tokens, routed, probabilities, key):
        """What the experts answer, and what the router tells of each group. On a mesh every device sees to its own groups."""
        dispatch = self.mixture.dispatch or dispatching.default()
        places = self._places(tokens.shape[1], dispatch, training=key is not None)
        graphdef, params = parameters.split(self.experts)

        def run(mesh, params, tokens, routed, probabilities, key):
            routes = self.rule.route(probabilities, routed, places)
            y = dispatch(parameters.merge(graphdef, params), tokens, routes, key, mesh)
            return y, self.rule.shares(probabilities, routed, routes)

        given = (params, tokens, routed, probabilities, key)
        if (over := layout()) is None:
            return run(dispatching.ALONE, *given)
        if len(tokens) % (shards := over.shards("batch")):
            raise ValueError(
                f"{len(tokens)} groups of {tokens.shape[1]} tokens cannot be shared out to {shards} parts of the batch; make "
                "Mixture.group_size smaller, or the batch larger"
            )
        mesh = dispatching.Mesh(over.mesh_axes(side_by_side.AXIS), over.mesh_axes("mlp"))

        def on_each(params, tokens, routed, probabilities, key):
            key = None if key is None else jax.random.fold_in(key, jax.lax.axis_index(over.mesh_axes("batch")))
            with constrained_by(None):
                return run(mesh, params, tokens, routed, probabilities, key)

        # Along the width an expert is whole on every device that has it: where it is kept in parts (fsdp), they are gathered.
        specs = parameters.specs(self.experts)
        kept = {name: tuple(axis if axis in (side_by_side.AXIS, "mlp") else None for axis in spec.axes) for name, spec in specs.items()}
        rows = ("batch",)
        return over.by_shard(on_each, (kept, rows, rows, rows, ()), (rows, rows))(*given)

    def logits(self, x: Float[Array, "G N width"], key: Key[Array, ""] | None) -> Float[Array, "G N E"]:
        """x W in float32, x shaken by `jitter` where there is a key."""
        x = x.astype(jnp.float32)
        if key is not None and (jitter := self.rule.jitter):
            x = x * jax.random.uniform(key, x.shape, minval=1 - jitter, maxval=1 + jitter)
        return self.router(x)

    def _places(self, tokens: int, dispatch: Callable, training: bool) -> int:
        counted = dispatching.drops(dispatch) or isinstance(self.rule, ExpertChoice)
        return self.rule.places(tokens, self.mixture.experts, training) if counted else tokens

    def _tell(self, found: dict[str, Array]) -> None:
        """Means over groups; the loads also as those of the busiest and the idlest expert."""
        means = {name: values.mean(0) for name, values in found.items()}
        means |= {"busiest": means["load"].max(), "idlest": means["load"].min()}
        for name, value in means.items():
            tap(f"added/{name}", value)


def _groups(rows: int, length: int, size: int | None) -> tuple[int, int]:
    """How many groups, of how many tokens."""
    if size is None:
        return rows, length
    if size < length:
        tokens = next(n for n in range(size, 0, -1) if length % n == 0)
        return rows * length // tokens, tokens
    together = next(n for n in range(min(rows, size // length), 0, -1) if rows % n == 0)
    return rows // together, together * length
