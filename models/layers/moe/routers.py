"""Routers: from the probabilities p = softmax(x W), in float32, to who goes where.

Token choice (`TopK`): each token takes its k best experts; all first choices are placed before any second one, from left to right or, if
`prioritised`, the surest tokens first (Riquelme et al. 2021, arXiv 2106.05974); who finds an expert full is dropped and lives on the
residual alone. k = 1 is Switch (Fedus et al. 2021, arXiv 2101.03961), k = 2 GShard (Lepikhin et al. 2020, arXiv 2006.16668).

Expert choice (`ExpertChoice`; Zhou et al. 2022, arXiv 2202.09368): each expert takes its best tokens, as many as it has places.

Places of an expert for a group of n tokens: max(min_capacity, round(capacity n / E)), never more than n; flaxformer's rule, in which k
plays no part.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rootstock.models.layers.moe.routes import ByExperts, ByTokens


@dataclasses.dataclass(frozen=True)
class Router:
    """What both kinds have. `capacity` (training) and `eval_capacity` count how often each token would find a place if all experts were
    filled; None drops nobody. `normalise`: the weights of a token's experts sum to 1. `route_padding` off: padding takes no place
    and counts in no loss. `jitter` multiplies the router's inputs by something between 1 - jitter and 1 + jitter, in training.
    `z_weight`: of the mean of logsumexp(logits)^2 in the loss.
    """

    capacity: float | None = 2.0
    eval_capacity: float | None = 2.0
    min_capacity: int = 4
    normalise: bool = False
    route_padding: bool = True
    jitter: float = 0.0
    z_weight: float = 0.0

    def __post_init__(self):
        for name in ("capacity", "eval_capacity"):
            if (value := getattr(self, name)) is not None and not value >= 0:
                raise ValueError(f"{type(self).__name__}.{name} is {value}; expected a number of at least 0, or None to drop nobody")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"{type(self).__name__}.jitter is {self.jitter}; expected a number from 0 to below 1")

    def places(self, tokens: int, experts: int, training: bool) -> int:
        """How many tokens of a group an expert takes."""
        factor = self.capacity if training else self.eval_capacity
        if factor is None:
            return tokens
        places = max(self.min_capacity, round(factor * tokens / experts))
        if places < 1:
            name = "capacity" if training else "eval_capacity"
            raise ValueError(
                f"{type(self).__name__}.{name} {factor} leaves {experts} experts {factor * tokens / experts:.2g} places each for "
                f"{tokens} tokens, and min_capacity is 0: under one token; raise one of them, or take larger groups"
            )
        return min(places, tokens)


@dataclasses.dataclass(frozen=True)
class TopK(Router):
    """Token choice. `after_drops`: with `normalise`, over the experts that had a place (fairseq) and not over all that were chosen
    (Mixtral). `balance_weight`: of the balance loss E sum_e f_e P_e, with f_e the share of tokens that chose e, among their k or, with
    `first_only`, as their first (GShard, fairseq), and P_e its mean probability. It is k (1 with `first_only`) where all is even.
    """

    k: int = 2
    after_drops: bool = False
    prioritised: bool = False
    first_only: bool = False
    balance_weight: float = 0.01

    @property
    def looks_ahead(self) -> bool:
        """Whether a later token can take an earlier one's place by its content, so that causal layers must not use it."""
        return self.prioritised

    @property
    def losses(self) -> dict[str, float]:
        return {"balance": self.balance_weight, "router_z": self.z_weight}

    def check(self, experts: int) -> None:
        if not 1 <= self.k <= experts:
            raise ValueError(f"TopK.k is {self.k}; of {experts} experts a token can choose 1 to {experts}")

    def route(self, probabilities: Float[Array, "G N E"], routed: Bool[Array, "G N"], capacity: int) -> ByTokens:
        experts = probabilities.shape[-1]
        weights, chosen = jax.lax.top_k(probabilities, self.k)
        order = jnp.argsort(-weights[..., 0], axis=1) if self.prioritised else None
        places = _places(chosen, routed, experts, order)
        kept = routed[..., None] & (places < capacity)
        if self.normalise:
            counted = weights * kept.astype(weights.dtype) if self.after_drops else weights
            weights = weights / jnp.maximum(counted.sum(-1, keepdims=True), jnp.finfo(weights.dtype).tiny)
        return ByTokens(chosen, weights, places, kept, experts, capacity)

    def shares(self, probabilities: Float[Array, "G N E"], routed: Bool[Array, "G N"], routes: ByTokens) -> dict[str, Array]:
        """For each group: the balance loss, the load of each expert (1 is its fair share of what was chosen), what share was dropped."""
        experts = probabilities.shape[-1]
        picks = routes.chosen[..., :1] if self.first_only else routes.chosen
        chosen = _mean(jax.nn.one_hot(picks, experts, dtype=jnp.float32).sum(2), routed)
        balance = experts * (chosen * _mean(probabilities, routed)).sum(-1)
        every = _mean(jax.nn.one_hot(routes.chosen, experts, dtype=jnp.float32).sum(2), routed)
        dropped = _mean(1.0 - routes.kept.astype(jnp.float32).mean(-1, keepdims=True), routed)[..., 0]
        return {"balance": balance, "load": every * experts / self.k, "dropped": dropped}


@dataclasses.dataclass(frozen=True)
class ExpertChoice(Router):
    """Every expert is always full, so there is no balance loss; `dropped` is the share of tokens that nobody chose."""

    @property
    def looks_ahead(self) -> bool:
        return True

    @property
    def losses(self) -> dict[str, float]:
        return {"router_z": self.z_weight}

    def check(self, experts: int) -> None:
        """Any number of experts will do."""

    def route(self, probabilities: Float[Array, "G N E"], routed: Bool[Array, "G N"], capacity: int) -> ByExperts:
        groups, tokens, _ = probabilities.shape
        scores = jnp.where(routed[..., None], probabilities, -1.0)  # padding is chosen last, and then weighs nothing
        weights, chosen = jax.lax.top_k(jnp.swapaxes(scores, 1, 2), capacity)
        weights = jnp.maximum(weights, 0.0)
        if self.normalise:
            rows = jnp.arange(groups)[:, None, None]
            sums = jnp.zeros((groups, tokens), weights.dtype).at[rows, chosen].add(weights)
            weights = weights / jnp.maximum(sums[rows, chosen], jnp.finfo(weights.dtype).tiny)
        return ByExperts(chosen, weights, tokens)

    def shares(self, probabilities: Float[Array, "G N E"], routed: Bool[Array, "G N"], routes: ByExperts) -> dict[str, Array]:
        groups, tokens, experts = probabilities.shape
        rows = jnp.arange(groups)[:, None, None]
        times = jnp.zeros((groups, tokens), jnp.float32).at[rows, routes.chosen].add(1.0)
        dropped = _mean((times == 0).astype(jnp.float32)[..., None], routed)[..., 0]
        return {"load": jnp.ones((groups, experts), jnp.float32), "dropped": dropped}


def _places(chosen: Int[Array, "G N K"], routed: Bool[Array, "G N"], experts: int, order: Int[Array, "G N"] | None) -> Int[Array, "G N K"]:
    """How many came before to the same expert: first choices before second ones, tokens in the given order, or from left to right."""
    groups, tokens, times = chosen.shape
    if order is not None:
        chosen, routed = jnp.take_along_axis(chosen, order[..., None], axis=1), jnp.take_along_axis(routed, order, axis=1)
    marks = jax.nn.one_hot(chosen, experts, dtype=jnp.int32) * routed[..., None, None].astype(jnp.int32)
    queue = jnp.swapaxes(marks, 1, 2).reshape(groups, times * tokens, experts)
    before = (jnp.cumsum(queue, axis=1) - queue).reshape(groups, times, tokens, experts)
    places = (jnp.swapaxes(before, 1, 2) * marks).sum(-1)
    return places if order is None else jnp.take_along_axis(places, jnp.argsort(order, axis=1)[..., None], axis=1)


def _mean(x: Float[Array, "G N F"], routed: Bool[Array, "G N"]) -> Float[Array, "G F"]:
    """Over the tokens of each group that are routed."""
    weights = routed.astype(x.dtype)
    return (x * weights[..., None]).sum(1) / jnp.maximum(weights.sum(1), 1.0)[:, None]


def entropy_and_z(logits: Float[Array, "G N E"], routed: Bool[Array, "G N"]) -> dict[str, Array]:
    """For each group: the mean entropy of the probabilities, in nats, and the router's z-loss."""
    logs = jax.nn.log_softmax(logits)
    entropy = -(jnp.exp(logs) * logs).sum(-1, keepdims=True)
    z = jnp.square(jax.nn.logsumexp(logits, axis=-1, keepdims=True))
    return {"entropy": _mean(entropy, routed)[..., 0], "router_z": _mean(z, routed)[..., 0]}
