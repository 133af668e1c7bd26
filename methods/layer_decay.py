"""A smaller learning rate for layers nearer to the input (ELECTRA: Clark et al. 2020, arXiv 2003.10555, appendix B).

    rate(parameter) = rate * decay^(L + 2 - depth)

with depth 0 for embeddings (and their projection), i + 1 for layer i of L, and L + 2 for what the task adds, so that the last layer has
decay^2, as in the released code (`optimization._get_layer_lrs`), which gives no parameter the depth L + 1. Everything of the encoder that
is no layer (a pooler, a last norm, tables of relative positions) has rates of its own in no released code: what lies behind the layers is
taken to the task, what the layers read to the embeddings. Depths go by canonical names, so by a layer's place in this model, however it
is stored; ALBERT's groups count as layers.

The factor stands behind the update's own steps: decay of weights is scaled as well, as it is there.
"""

import dataclasses
import re

import jax.numpy as jnp
import optax
from jaxtyping import Array

from rootstock.engine.sockets import Params, Update
from rootstock.models.layers import stack

_LAYER = re.compile(r"(?:^|/)layers/(\d+)/")
_BEFORE = re.compile(r"(?:^|/)(?:embeddings|project|relative|relative_norm)/")


def layer_decay(update: Update, decay: float = 0.8) -> Update:
    """`update` with every step scaled by the depth of its parameter: 0.8 for ELECTRA-small and base, 0.9 for large."""

    def step(grads, state, params):
        updates, state = update.tx.update(grads, state, params)
        factors = factors_of(updates, decay)
        return {name: factors[name].astype(g.dtype) * g for name, g in updates.items()}, state

    return dataclasses.replace(update, tx=optax.GradientTransformation(update.tx.init, step))


def factors_of(params: Params, decay: float) -> dict[str, Array]:
    """By storage name; stacked parameters have one factor a layer."""
    names = [canonical for stored in params for canonical, _ in stack.address(stored)]
    layers = 1 + max((int(found.group(1)) for found in map(_LAYER.search, names) if found), default=-1)
    found = {}
    for stored, value in params.items():
        rates = jnp.asarray([decay ** (layers + 2 - depth(name, layers)) for name, _ in stack.address(stored)], jnp.float32)
        found[stored] = rates.reshape(-1, *(1,) * (value.ndim - 1)) if stack.stacked(stored) else rates[0].reshape((1,) * value.ndim)
    return found


def depth(name: str, layers: int) -> int:
    """Of a canonical name in a model of so many layers."""
    if found := _LAYER.search(name):
        return int(found.group(1)) + 1
    return 0 if _BEFORE.search(name) else layers + 2
