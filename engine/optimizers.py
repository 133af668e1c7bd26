"""Optimizers by recipe: optax's, over flat parameter dictionaries, with decay by canonical name and stacked layers taken one by one.

Biases and the scales of norms are not decayed. Each function returns an `Update`; clip by the global norm with `Run.clip_norm`.
"""

import re

import jax
import jax.numpy as jnp
import optax

from rootstock.engine.sockets import Params, Schedule, Update
from rootstock.models.layers.stack import per_layer

_UNDECAYED = re.compile(r"(^|/)(bias|scale)$")


def decays(params: Params) -> dict[str, bool]:
    """Which parameters weight decay touches: all but biases and norm scales."""
    return {name: _UNDECAYED.search(name) is None for name in params}


def adamw(learning_rate: float | Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6, weight_decay: float = 0.01) -> Update:
    """Adam with bias correction and decoupled decay (Loshchilov and Hutter 2017, arXiv 1711.05101)."""
    return _update(optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=decays), learning_rate)


def bert_adam(learning_rate: float | Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6, weight_decay: float = 0.01) -> Update:
    """`AdamWeightDecayOptimizer` of BERT's released code: AdamW without bias correction."""
    tx = optax.chain(
        _uncorrected_adam(b1, b2, eps), optax.add_decayed_weights(weight_decay, decays), optax.scale_by_learning_rate(learning_rate)
    )
    return _update(tx, learning_rate)


def lamb(learning_rate: float | Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6, weight_decay: float = 0.01) -> Update:
    """Layer-wise adaptive moments (You et al. 2019, arXiv 1904.00962); a trust ratio for every array of every layer."""
    return _update(per_layer(optax.lamb(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=decays)), learning_rate)


def albert_lamb(
    learning_rate: float | Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6, weight_decay: float = 0.01
) -> Update:
    """LAMB as in ALBERT's released code: no bias correction, and what is not decayed has no trust ratio either."""
    tx = optax.chain(
        _uncorrected_adam(b1, b2, eps),
        optax.add_decayed_weights(weight_decay, decays),
        optax.masked(optax.scale_by_trust_ratio(), decays),
        optax.scale_by_learning_rate(learning_rate),
    )
    return _update(per_layer(tx), learning_rate)


def adafactor(
    learning_rate: float | Schedule,
    min_dim_size_to_factor: int = 128,
    decay_rate: float = 0.8,
    clipping_threshold: float | None = 1.0,
    multiply_by_parameter_scale: bool = True,
) -> Update:
    """Factored second moments (Shazeer and Stern 2018, arXiv 1804.04235), with T5's settings by default."""
    parts = [
        optax.scale_by_factored_rms(decay_rate=decay_rate, min_dim_size_to_factor=min_dim_size_to_factor),
        optax.clip_by_block_rms(clipping_threshold) if clipping_threshold is not None else None,
        optax.scale_by_learning_rate(learning_rate, flip_sign=False),
        _times_parameter_scale() if multiply_by_parameter_scale else None,
        optax.scale(-1),  # the parts of optax.adafactor, in its order
    ]
    return _update(per_layer(optax.chain(*(part for part in parts if part is not None))), learning_rate)


def muon(learning_rate: float | Schedule, weight_decay: float = 0.0, consistent_rms: float | None = 0.2) -> Update:
    """Momentum orthogonalised by Newton-Schulz steps on the layers' matrices (Jordan et al. 2024).

    Everything else takes optax's AdamW, with Nesterov momentum. With `consistent_rms` a matrix's update has about that root mean
    square, like Adam's, so one learning rate serves both (Liu et al. 2025, arXiv 2502.16982); None keeps Jordan's scale.
    """

    def matrices(params: Params) -> dict:
        numbers = optax.contrib.MuonDimensionNumbers()
        return {name: numbers if name.endswith("/kernel") and "/layers/" in f"/{name}" else None for name in params}

    # The decay is added here: optax would decay the biases of the AdamW part.
    directions = optax.contrib.muon(-1.0, muon_weight_dimension_numbers=matrices, consistent_rms=consistent_rms)
    tx = optax.chain(directions, optax.add_decayed_weights(weight_decay, decays), optax.scale_by_learning_rate(learning_rate))
    return _update(per_layer(tx), learning_rate)


def _update(tx: optax.GradientTransformation, learning_rate: float | Schedule) -> Update:
    return Update(tx, learning_rate if callable(learning_rate) else optax.constant_schedule(learning_rate))


def _times_parameter_scale(smallest: float = 1e-3) -> optax.GradientTransformation:
    """Updates times the root mean square of their parameter, at least `smallest`. `optax.scale_by_param_block_rms` has a derivative, for
    which it copies every parameter and reads it twice.
    """
    scale = lambda parameter: jnp.maximum(jnp.sqrt(jnp.mean(parameter * parameter)), smallest)
    return optax.stateless(lambda updates, params: jax.tree.map(lambda u, p: u * scale(p), updates, params))


def _uncorrected_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(grads, state, params=None):
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, grads)
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu), optax.ScaleByAdamState(optax.safe_increment(state.count), mu, nu)

    return optax.GradientTransformation(init, update)
