import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rootstock.engine import optimizers, schedules, train
from rootstock.engine.sockets import Context
from rootstock.methods import expert_steps, layer_decay
from rootstock.models.layers import stack
from rootstock.pretrain.objectives.mlm import MaskedLM

STANDARD = lambda: jax.numpy_dtype_promotion("standard")  # optax mixes counts with floats; the step does the same


def descend(update, params, gradients, rates=False):
    """Parameters after each of the given gradients (or functions of the parameters)."""
    state = update.tx.init(params)

    @jax.jit
    def apply(grads, state, params):
        with STANDARD():
            updates, state = update.tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    path = []
    for gradient in gradients:
        params, state = apply(gradient(params) if callable(gradient) else gradient, state, params)
        path.append(params)
    return path


@pytest.fixture(scope="module")
def gradients(toy):
    """By storage (scanned or not) of a two-layer BERT: its parameters, and for each of ten steps the gradient of masked LM."""
    objective, found = MaskedLM(toy.vocabulary), {}
    for scan in (True, False):
        blueprint = toy.blueprint("one", layers=2, scan=scan)

        def loss(params, batch, number, blueprint=blueprint):
            ctx = Context(step=number, key=jax.random.fold_in(jax.random.key(5), number))
            term = objective(blueprint.merge(params), objective.prepare(batch, ctx), ctx).terms["mlm"]
            return term.total / term.weight

        gradient = jax.jit(jax.grad(loss))
        steps = [functools.partial(gradient, batch=toy.data.batch(32 * i, 32), number=jnp.asarray(i)) for i in range(10)]
        found[scan] = toy.params(blueprint), steps
    return found


@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizers.adamw(1e-2),
        lambda: optimizers.bert_adam(1e-3),
        lambda: optimizers.lamb(1e-2),
        lambda: optimizers.albert_lamb(1e-2),
        lambda: optimizers.adafactor(1e-2, min_dim_size_to_factor=8),
        lambda: optimizers.muon(1e-2, weight_decay=0.1),
    ],
    ids=["adamw", "bert_adam", "lamb", "albert_lamb", "adafactor", "muon"],
)
def test_scanned_trains_as_unrolled(gradients, make):
    """Ten steps of a BERT. A key's bias is left out: its gradient is zero but for rounding, which optimizers scale up."""
    scanned, unrolled = (descend(make(), *gradients[scan])[-1] for scan in (True, False))
    moved = 0.0
    for name, value in stack.unstack(scanned).items():
        if name.endswith("key/bias"):
            continue
        np.testing.assert_allclose(value, unrolled[name], rtol=0, atol=1e-5, err_msg=name)
        moved = max(moved, np.abs(value - gradients[False][0][name]).max())
    assert moved > 5e-3


def test_per_layer_treats_each_layer_alone():
    """By a transformation whose result depends on the whole array: normalisation to length one, with a count as state."""

    def update(updates, state, params=None):
        return {name: g / jnp.linalg.norm(g) for name, g in updates.items()}, state + 1

    tx = stack.per_layer(optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update))
    grads = {
        "layers/0:2:1/w": jnp.asarray([[3.0, 4.0], [0.0, 2.0]]),
        "layers/2/w": jnp.asarray([6.0, 8.0]),
        "other/layers/0:3:1/w": jnp.asarray([[1.0], [-5.0], [2.0]]),
    }
    updates, state = tx.update(grads, tx.init(grads), grads)
    assert list(updates) == list(grads)
    np.testing.assert_allclose(updates["layers/0:2:1/w"], [[0.6, 0.8], [0, 1]])
    np.testing.assert_allclose(updates["layers/2/w"], [0.6, 0.8])
    np.testing.assert_allclose(updates["other/layers/0:3:1/w"], [[1], [-1], [1]])
    assert sorted(np.asarray(x).tolist() for x in jax.tree.leaves(state[1])) == [[1, 1], [1, 1, 1]] and state[0] == 1


PARAMS = {
    "a/kernel": jnp.asarray([[1.0, -2.0]]),
    "a/bias": jnp.asarray([0.5]),
    "norm/scale": jnp.asarray([1.0, 1.0]),
    "table": jnp.asarray([[3.0]]),
}
GRADS = {
    "a/kernel": jnp.asarray([[0.1, -0.3]]),
    "a/bias": jnp.asarray([0.2]),
    "norm/scale": jnp.asarray([-0.4, 0.0]),
    "table": jnp.asarray([[0.05]]),
}


def test_what_decays():
    assert optimizers.decays(PARAMS) == {"a/kernel": True, "a/bias": False, "norm/scale": False, "table": True}
    assert optimizers.decays({"x/biased/kernel": 0, "upscale": 0, "bias": 0}) == {"x/biased/kernel": True, "upscale": True, "bias": False}


@pytest.mark.parametrize("name", ["adamw", "bert_adam", "lamb", "albert_lamb", "muon"])
def test_without_a_gradient_only_kernels_and_tables_decay(name):
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    after = descend(getattr(optimizers, name)(0.1, weight_decay=0.5), PARAMS, [zeros])[-1]
    for key, value in PARAMS.items():
        if key.endswith(("bias", "scale")):
            np.testing.assert_array_equal(after[key], value, err_msg=key)
        else:
            # LAMB's trust ratio makes the decay a step of the parameter's own length times the rate.
            np.testing.assert_allclose(after[key], value * (1 - 0.1 * (1.0 if "lamb" in name else 0.5)), rtol=1e-6, err_msg=key)


@pytest.mark.parametrize("corrected", [True, False], ids=["adamw", "bert_adam"])
def test_adam_by_hand(corrected):
    """Three steps, written out; the first of BERT's own Adam is (1 - b1) g / (sqrt(1 - b2) |g|) = 3.16 times that of AdamW."""
    b1, b2, eps, decay = 0.9, 0.999, 1e-6, 0.01
    rate = schedules.linear(0.1, 4)
    make = optimizers.adamw if corrected else optimizers.bert_adam
    path = descend(make(rate, weight_decay=decay), PARAMS, [GRADS] * 3)
    for name, value in PARAMS.items():
        p, g = np.asarray(value, np.float64), np.asarray(GRADS[name], np.float64)
        m = v = np.zeros_like(p)
        for step in range(3):
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            first, second = (m / (1 - b1 ** (step + 1)), v / (1 - b2 ** (step + 1))) if corrected else (m, v)
            p = p - 0.1 * (1 - step / 4) * (first / (np.sqrt(second) + eps) + (0 if name.endswith(("bias", "scale")) else decay * p))
            np.testing.assert_allclose(path[step][name], p, rtol=1e-5, err_msg=f"{name} after step {step}")


def test_adamw_is_optax():
    ours, theirs = optimizers.adamw(0.1, weight_decay=0.0).tx, optax.adamw(0.1, eps=1e-6, weight_decay=0.0)
    with STANDARD():
        ours, theirs = (tx.update(GRADS, tx.init(PARAMS), PARAMS)[0] for tx in (ours, theirs))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_lamb_by_hand():
    """The first step: g / (|g| + eps) + decay p, scaled to the parameter's norm (You et al. 2019, algorithm 2)."""
    after = descend(optimizers.lamb(0.1, weight_decay=0.01), PARAMS, [GRADS])[-1]
    p, g = np.asarray(PARAMS["a/kernel"]), np.asarray(GRADS["a/kernel"])
    update = g / (np.abs(g) + 1e-6) + 0.01 * p
    np.testing.assert_allclose(after["a/kernel"], p - 0.1 * np.linalg.norm(p) / np.linalg.norm(update) * update, rtol=1e-5)


def test_albert_lamb_by_hand():
    """The first step without bias correction, 0.1 g / (sqrt(0.001) |g| + eps) + decay p, scaled to the norm of what is decayed alone."""
    after = descend(optimizers.albert_lamb(0.1, weight_decay=0.01), PARAMS, [GRADS])[-1]
    raw = lambda g: 0.1 * g / (np.sqrt(0.001) * np.abs(g) + 1e-6)
    p, g = np.asarray(PARAMS["a/kernel"]), np.asarray(GRADS["a/kernel"])
    update = raw(g) + 0.01 * p
    np.testing.assert_allclose(after["a/kernel"], p - 0.1 * np.linalg.norm(p) / np.linalg.norm(update) * update, rtol=1e-5)
    for name in ("a/bias", "norm/scale"):
        np.testing.assert_allclose(after[name], np.asarray(PARAMS[name]) - 0.1 * raw(np.asarray(GRADS[name])), rtol=1e-5)


def test_adafactor_by_hand():
    """The first step of a factored matrix (Shazeer and Stern 2018, algorithm 4): clipped at 1, relative to the parameter's size."""
    rng = np.random.default_rng(0)
    p, g = (rng.standard_normal((4, 6)) for _ in range(2))
    after = descend(
        optimizers.adafactor(0.1, min_dim_size_to_factor=2), {"w": jnp.asarray(p, jnp.float32)}, [{"w": jnp.asarray(g, jnp.float32)}]
    )[-1]
    square = g * g + 1e-30
    update = g / np.sqrt(np.outer(square.mean(1), square.mean(0)) / square.mean())
    update /= max(1.0, np.sqrt((update**2).mean()))
    np.testing.assert_allclose(after["w"], p - 0.1 * np.sqrt((p**2).mean()) * update, rtol=1e-5, atol=1e-6)


def test_muon_orthogonalises_kernels_of_layers():
    """Their updates have singular values near one (Newton-Schulz: 0.7 to 1.2), or by default 0.2 sqrt(width) times that.

    Anything else, the pooler's kernel too, takes the first step of Adam with Nesterov momentum: (b1 (1 - b1) / (1 - b1^2) + 1) g / |g|.
    """
    left, _, right = np.linalg.svd(np.random.default_rng(0).standard_normal((3, 8, 8)))
    kernel = jnp.asarray(left @ (np.linspace(0.2, 1, 8)[:, None] * right), jnp.float32)
    params = {"e/layers/0:3:1/kernel": jnp.zeros((3, 8, 8)), "pooler/kernel": jnp.zeros((8, 8)), "e/layers/0:3:1/bias": jnp.zeros((3, 8))}
    grads = {"e/layers/0:3:1/kernel": kernel, "pooler/kernel": kernel[0], "e/layers/0:3:1/bias": kernel[:, 0]}
    jordan = descend(optimizers.muon(1.0, consistent_rms=None), params, [grads])[-1]
    values = np.linalg.svd(np.asarray(jordan["e/layers/0:3:1/kernel"]), compute_uv=False)
    assert values.min() > 0.65 and values.max() < 1.25
    after = descend(optimizers.muon(1.0), params, [grads])[-1]
    expected = jordan["e/layers/0:3:1/kernel"] * 0.2 * np.sqrt(8)
    np.testing.assert_allclose(after["e/layers/0:3:1/kernel"], expected, rtol=1e-4, atol=1e-5)
    for name in ("pooler/kernel", "e/layers/0:3:1/bias"):
        np.testing.assert_allclose(after[name], -(0.09 / 0.19 + 1) * np.sign(grads[name]), rtol=1e-4)


def test_update_tells_its_rate():
    assert optimizers.adamw(0.3).learning_rate(7) == 0.3
    assert optimizers.lamb(schedules.constant(0.2)).learning_rate(7) == pytest.approx(0.2)
    params = {"w": jnp.ones(2)}
    assert optimizers.muon(0.1).eval_params((), params) is params


def test_what_is_evaluated_is_what_the_updates_hand_on():
    """Of two phases each by its own optimizer state; what no phase moves stays. Methods around an update keep it."""
    handing = lambda factor: dataclasses.replace(
        optimizers.adamw(0.1), eval_params=lambda state, params: {name: factor * state * x for name, x in params.items()}
    )
    updates = handing(2.0), handing(3.0)
    values = {name: jnp.ones(2) for name in ("a", "b", "frozen")}
    running = types.SimpleNamespace(
        run=types.SimpleNamespace(phases=[types.SimpleNamespace(update=update) for update in updates]),
        state=types.SimpleNamespace(all_params=dict(values), params=values, opt_state=(5.0, 7.0)),
        _moved=(["a"], ["b"]),
    )
    found = train.Running.eval_params(running)
    assert {name: float(x[0]) for name, x in found.items()} == {"a": 10.0, "b": 21.0, "frozen": 1.0}
    for around in (layer_decay.layer_decay(updates[0]), expert_steps.scaled(updates[0], 0.5)):
        assert around.eval_params is updates[0].eval_params
