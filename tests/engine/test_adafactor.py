"""Adafactor with T5's settings over several steps: by hand (Shazeer and Stern 2018, arXiv 1804.04235, algorithm 4), and optax's own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rootstock.engine import optimizers, schedules
from rootstock.models.layers import stack

SHAPES = {"kernel": (128, 160), "embedding": (130, 128), "narrow": (127, 200), "scale": (128,)}
STEPS = 4


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    draw = lambda: {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}
    params, grads = draw(), [draw() for _ in range(STEPS)]
    params["scale"] *= 1e-5  # below the smallest scale, 1e-3
    grads[2]["kernel"] *= 30  # a surprise, which clipping holds down
    return params, grads


def trained(tx, params, grads):
    """Parameters after the steps."""
    params = {name: jnp.asarray(value, jnp.float32) for name, value in params.items()}
    state, update = tx.init(params), jax.jit(tx.update)
    for grad in grads:
        updates, state = update({name: jnp.asarray(value, jnp.float32) for name, value in grad.items()}, state, params)
        params = optax.apply_updates(params, updates)
    return params


def by_hand(param, grads, rates):
    """T5's settings: factored from 128 by 128 on, decay 1 - t^-0.8, clipping at 1, steps relative to the parameter, no momentum."""
    row = column = full = 0.0
    for t, (grad, rate) in enumerate(zip(grads, rates, strict=True), start=1):
        decay, square = 1 - t**-0.8, grad**2 + 1e-30
        if grad.ndim == 2 and min(grad.shape) >= 128:
            row = decay * row + (1 - decay) * square.mean(1)
            column = decay * column + (1 - decay) * square.mean(0)
            direction = grad / np.sqrt(np.outer(row, column) / row.mean())
        else:
            full = decay * full + (1 - decay) * square
            direction = grad / np.sqrt(full)
        direction = direction / max(1.0, np.sqrt((direction**2).mean()))
        param = param - rate * max(1e-3, np.sqrt((param**2).mean())) * direction
    return param


def test_t5s_settings_by_hand(problem):
    params, grads = problem
    found = trained(optimizers.adafactor(schedules.inverse_sqrt(warmup=2)).tx, params, grads)
    rates = [1 / np.sqrt(max(step, 2)) for step in range(STEPS)]
    for name, param in params.items():
        wanted = by_hand(param, [grad[name] for grad in grads], rates)
        np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-6 * np.abs(wanted).max(), err_msg=name)


def test_stacked_layers_are_optaxs_one_by_one(problem):
    """Two layers in one array move as optax's Adafactor moves each alone."""
    params, grads = problem
    names = ("e/layers/0/kernel", "e/layers/1/kernel")
    other = {"kernel": params["kernel"][::-1] * 2}
    both = lambda one, two: {"e/layers/0:2:1/kernel": np.stack([one["kernel"], two["kernel"]])}
    found = trained(
        optimizers.adafactor(schedules.constant(0.1)).tx, both(params, other), [both(grad, {"kernel": -grad["kernel"]}) for grad in grads]
    )
    for name, value, sign in zip(names, (params, other), (1, -1), strict=True):
        alone = trained(optax.adafactor(0.1), {"w": value["kernel"]}, [{"w": sign * grad["kernel"]} for grad in grads])["w"]
        np.testing.assert_allclose(stack.unstack(found)[name], alone, rtol=1e-5, atol=1e-6, err_msg=name)
