"""One update in closed form, on a linear model; then the sockets around it."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rootstock.engine import state, step
from rootstock.engine.sockets import Loss, Term

BOTH = frozenset({"w", "b"})
W, B = np.array([1.0, -2.0]), np.array([0.5])


def sgd(linear, names=BOTH, rate=0.1, objective=None):
    return step.Phase(objective or linear.squares(), optax.sgd(rate), frozenset(names))


def stepped(after):
    return np.asarray(after.params["w"]), np.asarray(after.params["b"])


def assert_stepped(after, gradient, rate=0.1):
    for value, start, slope in zip(stepped(after), (W, B), gradient, strict=True):
        np.testing.assert_allclose(value, start - rate * slope, rtol=1e-5)


@pytest.mark.parametrize("micro_batches", [1, 2, 4])
def test_one_step_is_the_mean_over_the_whole_batch(linear, micro_batches):
    """Micro-batches hold between none and two of the five weighted rows; the mean is over the five."""
    after, [metrics] = linear.run([sgd(linear)], micro_batches=micro_batches)
    assert_stepped(after, linear.gradient(W, B))
    left = linear.x @ W + B - linear.y
    assert metrics["loss"] == pytest.approx(0.5 * (left**2 * linear.weight).sum() / 5, rel=1e-5)
    assert metrics["grad_norm"] == pytest.approx(np.sqrt(sum((g**2).sum() for g in linear.gradient(W, B))), rel=1e-5)
    assert after.step == 1


def test_a_batch_without_weight_moves_nothing(linear):
    class Nothing(linear.squares):
        def prepare(self, batch, ctx):
            return {**batch, "weight": jnp.zeros_like(batch["weight"])}

    after, [metrics] = linear.run([sgd(linear, objective=Nothing())])
    assert_stepped(after, (0 * W, 0 * B))
    assert metrics["loss"] == 0


@pytest.mark.parametrize("clip_norm", [0.1, 1e3])
def test_clip_norm(linear, clip_norm):
    after, [metrics] = linear.run([sgd(linear)], step.Methods(clip_norm=clip_norm))
    gradient = linear.gradient(W, B)
    norm = np.sqrt(sum((g**2).sum() for g in gradient))
    assert 0.1 < norm < 1e3
    assert_stepped(after, [g * min(1, clip_norm / norm) for g in gradient])
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-5)  # as it was before


def sam(grad_fn, rho=0.3):
    """STYLE.md's example: sharpness-aware minimisation (Foret et al. 2020, arXiv 2010.01412)."""

    def at_the_worst_point(params, batch, ctx):
        _, uphill = grad_fn(params, batch, ctx)
        scale = rho / (optax.tree.norm(uphill) + 1e-12)
        return grad_fn(jax.tree.map(lambda p, g: p + scale * g, params, uphill), batch, ctx)

    return at_the_worst_point


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_gradient_socket_stands_outside_accumulation(linear, micro_batches):
    """SAM sees the gradient of the whole batch, and the loss is that of the worst point."""
    after, [metrics] = linear.run([sgd(linear)], step.Methods(gradient=sam), micro_batches)
    uphill = linear.gradient(W, B)
    scale = 0.3 / np.sqrt(sum((g**2).sum() for g in uphill))
    worst = W + scale * uphill[0], B + scale * uphill[1]
    assert_stepped(after, linear.gradient(*worst))
    assert metrics["loss"] == pytest.approx(0.5 * ((linear.x @ worst[0] + worst[1] - linear.y) ** 2 * linear.weight).sum() / 5, rel=1e-5)


def test_micro_gradient_socket_stands_inside(linear):
    """Signs of the gradients of each micro-batch are added up; micro-batch i holds rows i, i + 2, ..."""

    def signs(grad_fn):
        def signed(params, batch, ctx):
            loss, grads = grad_fn(params, batch, ctx)
            return loss, jax.tree.map(jnp.sign, grads)

        return signed

    after, _ = linear.run([sgd(linear)], step.Methods(micro_gradient=signs), micro_batches=2)
    slices = [linear.gradient(W, B, slice(i, None, 2)) for i in range(2)]
    assert_stepped(after, [np.sign(a) + np.sign(b) for a, b in zip(*slices, strict=True)])


def test_view_socket_stands_before_the_merge(linear):
    """A pruned weight: the loss is computed without it, and it has no gradient."""
    seen = []

    def pruned(params, ctx):
        seen.append(ctx.step)
        return {**params, "w": params["w"] * jnp.asarray([1.0, 0.0])}

    after, _ = linear.run([sgd(linear)], step.Methods(view=pruned))
    slope = linear.gradient(W * [1, 0], B)
    assert_stepped(after, (slope[0] * [1, 0], slope[1]))
    assert seen


def test_phases_run_in_order(linear):
    """The second phase sees what the first has done, moves its own parameters and keeps its own optimizer state."""
    phases = [sgd(linear, {"w"}), step.Phase(linear.squares(), optax.sgd(0.2, momentum=0.9), frozenset({"b"}))]
    after, metrics = linear.run(phases, steps=2)
    w, b, momentum = W, B, 0.0
    for _ in range(2):
        w = w - 0.1 * linear.gradient(w, b)[0]
        momentum = 0.9 * momentum + linear.gradient(w, b)[1]
        b = b - 0.2 * momentum
    np.testing.assert_allclose(stepped(after)[0], w, rtol=1e-5)
    np.testing.assert_allclose(stepped(after)[1], b, rtol=1e-5)
    assert after.step == 2 and len(after.opt_state) == 2
    assert {"0/loss", "1/loss"} <= metrics[0].keys() and metrics[0]["1/loss"] < metrics[0]["0/loss"]
    assert metrics[0]["0/draw0"] != metrics[0]["1/draw0"]  # phases draw their own masks


@pytest.mark.parametrize("micro_batches, rows", [(1, 5.0), (4, 1112.0)])
def test_what_is_carried_goes_from_slice_to_slice_and_step_to_step(linear, micro_batches, rows):
    """Micro-batch i holds rows i and i + 4, of which 1 + 0, 1 + 0, 0 + 1 and 1 + 1 have weight: ((1 * 10 + 1) * 10 + 1) * 10 + 2."""
    after, _ = linear.run([sgd(linear)], micro_batches=micro_batches, carried={"rows": jnp.zeros(())})
    assert after.carried["rows"] == rows
    after, _ = linear.run([sgd(linear)], micro_batches=micro_batches, carried={"rows": jnp.zeros(())}, steps=2)
    assert after.carried["rows"] == rows * 10**micro_batches + rows


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_per_example_comes_back_in_the_order_of_the_batch(linear, micro_batches):
    found = []

    def spy(grad_fn):
        def watched(params, batch, ctx):
            loss, grads = grad_fn(params, batch, ctx)
            jax.debug.callback(lambda rows: found.append(np.asarray(rows)), loss.per_example)
            return loss, grads

        return watched

    linear.run([sgd(linear)], step.Methods(gradient=spy), micro_batches)
    jax.effects_barrier()
    np.testing.assert_allclose(found[0], 0.5 * (linear.x @ W + B - linear.y) ** 2 * linear.weight, rtol=1e-5)


def test_every_step_and_every_slice_draws_anew(linear):
    """Keys for masks and for dropout: four slices of four steps, 32 different draws, the same in a second run."""

    class Draws(linear.squares):
        def __call__(self, model, batch, ctx):
            loss = super().__call__(model, batch, ctx.replace(carried=()))
            one = jnp.ones(())
            slot = jnp.arange(4.0) == ctx.carried["slice"] % 4.0
            draws = {
                f"{kind}{i}": Term(jnp.where(slot[i], jax.random.uniform(key), 0.0), one / 4)
                for kind, key in (("key", ctx.key), ("dropout", ctx.dropout))
                for i in range(4)
            }
            return Loss(loss.terms, draws, {"slice": ctx.carried["slice"] + 1})

    runs = [linear.run([sgd(linear, objective=Draws())], micro_batches=4, steps=4, carried={"slice": jnp.zeros(())})[1] for _ in range(2)]
    draws = [value for metrics in runs[0] for name, value in metrics.items() if name[:-1] in ("key", "dropout")]
    assert len(draws) == 32 and len(set(draws)) == 32 and 0 not in draws
    assert runs[0] == runs[1]


def test_terms_have_their_own_denominators_and_scales(linear):
    class Two(linear.squares):
        scales = types.MappingProxyType({"squares": lambda step: 1.0, "size": lambda step: 3.0 * (jnp.asarray(step, jnp.float32) + 1)})

        def weights(self, batch):
            return {**super().weights(batch), "size": batch["x"].shape[0] * jnp.ones(())}

        def __call__(self, model, batch, ctx):
            loss = super().__call__(model, batch, ctx)
            return Loss({**loss.terms, "size": Term(model.w[...].sum() * batch["x"].shape[0], jnp.ones(()) * batch["x"].shape[0])})

    for micro_batches in (1, 2):
        after, metrics = linear.run([sgd(linear, objective=Two())], micro_batches=micro_batches, steps=2)
        w, b = W, B
        for number in range(2):
            slope = linear.gradient(w, b)
            squares = 0.5 * ((linear.x @ w + b - linear.y) ** 2 * linear.weight).sum() / 5
            assert metrics[number]["loss/squares"] == pytest.approx(squares, rel=1e-5)
            assert metrics[number]["loss/size"] == pytest.approx(w.sum(), rel=1e-5)
            assert metrics[number]["loss"] == pytest.approx(squares + 3 * (number + 1) * w.sum(), rel=1e-5)
            w, b = w - 0.1 * (slope[0] + 3 * (number + 1)), b - 0.1 * slope[1]
        np.testing.assert_allclose(stepped(after)[0], w, rtol=1e-5)


def test_the_state_is_donated(linear):
    blueprint = linear.blueprint
    phase = sgd(linear)
    before = state.init(blueprint, blueprint.init_params(jax.random.key(0)), [(phase.tx, phase.names)], ())
    run = step.compile_step(step.make(blueprint, [phase], step.Methods()), blueprint, before, linear.batch, jax.random.key(1))
    run(before, linear.batch)
    assert before.params["w"].is_deleted()
