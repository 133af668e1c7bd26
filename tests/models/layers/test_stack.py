import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rootstock.models.layers import parameters, stack
from rootstock.models.layers.tap import tap, tapped


@pytest.mark.parametrize(
    "arguments, runs",
    [
        (dict(layers=12), ((1, 12),)),
        (dict(layers=12, scan=False), ((12, 1),)),
        (dict(layers=22, period=3, prefix=1), ((1, 1), (3, 7))),  # ModernBERT
        (dict(layers=8, period=3, prefix=1), ((1, 1), (3, 2), (1, 1))),
        (dict(layers=5, period=2), ((2, 2), (1, 1))),
        (dict(layers=2, period=3), ((2, 1),)),
        (dict(layers=1), ((1, 1),)),
    ],
)
def test_layout(arguments, runs):
    assert stack.layout(**arguments) == runs
    assert sum(period * repeats for period, repeats in runs) == arguments["layers"]


def test_address():
    assert stack.address("encoder/layers/1:8:3/mlp/input/kernel") == [
        ("encoder/layers/1/mlp/input/kernel", 0),
        ("encoder/layers/4/mlp/input/kernel", 1),
        ("encoder/layers/7/mlp/input/kernel", 2),
    ]
    assert stack.address("encoder/layers/0/mlp/input/kernel") == [("encoder/layers/0/mlp/input/kernel", None)]
    assert stack.stacked("encoder/layers/0:2:1/kernel") and not stack.stacked("encoder/pooler/kernel")


class Toy(nnx.Module):
    """x, noise, shift -> tanh(x * w + shift), with a tap; layers differ in kind by their index modulo 3."""

    def __init__(self, key, kind):
        self.w = parameters.parameter(jax.random.normal(key, (2 + kind,)), (None,))

    def __call__(self, x, *, scale, shift):
        return tap("out", jnp.tanh(x * self.w[...].sum() * scale + shift))


def build(runs, remat=None):
    class Holder(nnx.Module):
        def __init__(self):
            self.layers = stack.Stack(jax.random.key(0), lambda key, index: Toy(key, index % 3), runs, remat)

    return Holder()


LAYOUTS = [((8, 1),), ((1, 1), (3, 2), (1, 1)), ((3, 2), (2, 1))]


@pytest.mark.parametrize("remat", [None, stack.save_nothing, stack.save_products], ids=["keep", "nothing", "products"])
@pytest.mark.parametrize("runs", LAYOUTS, ids=str)
def test_every_layout_is_the_plain_loop(runs, remat):
    """Values, gradients, what the taps see in the order of the layers, and what they add; whatever is stacked or recomputed."""
    shifts, noise, x = jnp.linspace(-1, 1, 8), jnp.linspace(0, 0.3, 8).reshape(8, 1), jnp.asarray([0.3, -0.7])
    graphdef, params = parameters.split(build(runs, remat))
    canonical = stack.unstack(params)
    assert set(canonical) == {f"layers/{i}/w" for i in range(8)}

    def stacked(params, noise):
        with tapped(want={"layers/out"}, add={"layers/out": noise}) as taps:
            y = parameters.merge(graphdef, params).layers.run(x, {"scale": 1.5}, {"shift": shifts})
        return y.sum(), jnp.stack(taps["layers/out"])

    def loop(params, noise):
        y, seen = x, []
        for i in range(8):
            y = jnp.tanh(y * params[f"layers/{i}/w"].sum() * 1.5 + shifts[i]) + noise[i]
            seen.append(y)
        return y.sum(), jnp.stack(seen)

    (value, seen), (grads, grad_noise) = jax.jit(jax.value_and_grad(stacked, (0, 1), has_aux=True))(params, noise)
    (wanted, wanted_seen), (wanted_grads, wanted_noise) = jax.jit(jax.value_and_grad(loop, (0, 1), has_aux=True))(canonical, noise)
    np.testing.assert_allclose(value, wanted, rtol=1e-6)
    np.testing.assert_allclose(seen, wanted_seen, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(grad_noise, wanted_noise, rtol=1e-5, atol=1e-6)
    grads = stack.unstack(grads)
    for name, grad in wanted_grads.items():
        np.testing.assert_allclose(grads[name], grad, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("runs", LAYOUTS, ids=str)
def test_unrolled_is_the_same_model(runs):
    model = build(runs)
    shared, per_layer = {"scale": 1.5}, {"shift": jnp.linspace(-1, 1, 8)}
    before, canonical = model.layers.run(jnp.ones(3), shared, per_layer), stack.unstack(parameters.split(model)[1])
    found = parameters.split(stack.unrolled(model))[1]
    assert found.keys() == canonical.keys() and all((found[name] == canonical[name]).all() for name in found)
    np.testing.assert_allclose(model.layers.run(jnp.ones(3), shared, per_layer), before, rtol=1e-6)


def test_layouts_draw_the_same_layers():
    models = [stack.unstack(parameters.split(build(runs))[1]) for runs in LAYOUTS]
    for other in models[1:]:
        for name, value in models[0].items():
            np.testing.assert_array_equal(value, other[name], err_msg=name)
    assert (models[0]["layers/1/w"] != models[0]["layers/4/w"]).any()  # alike, and stacked in the second layout


@pytest.fixture(scope="module")
def observed(tiny):
    """(changes to the configuration) -> logits, tapped values and gradients of one and the same two-layer BERT, with dropout."""
    ids = jnp.asarray(np.random.default_rng(0).integers(5, 31, (2, 12)), jnp.int32)
    segments = jnp.asarray([[1] * 12, [1] * 5 + [2] * 4 + [0] * 3], jnp.int32)

    def observe(**changes):
        graphdef, params = parameters.split(tiny(layers=2, dropout=0.1, attention_dropout=0.1, **changes))

        def loss(params):
            with tapped(want={"embeddings", "layers/hidden", "layers/probabilities"}) as taps:
                logits = parameters.merge(graphdef, params)(ids, segment_ids=segments, key=jax.random.key(1)).logits
            return jnp.square(logits).mean(), (logits, taps.values)

        (_, seen), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        return seen, stack.unstack(grads)

    return observe


@pytest.fixture(scope="module")
def scanned(observed):
    return observed()


@pytest.mark.parametrize("changes", [dict(scan=False), dict(remat=stack.save_nothing)], ids=["unrolled", "recomputed"])
def test_bert_does_not_depend_on_its_storage(observed, scanned, changes):
    """Logits, every gradient, hidden states and attention probabilities agree but for the order of float32 sums."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), scanned, observed(**changes))
    assert len(scanned[0][1]["layers/probabilities"]) == 2


def test_a_parameter_without_axes():
    """Of a layer that somebody wrote: it is named, and how to make it right."""

    class Mine(nnx.Module):
        def __init__(self):
            self.scale = nnx.Param(jnp.ones(()))

    with pytest.raises(ValueError, match=r"the parameter scale names no axes; make it with models\.layers\.parameters\.parameter"):
        parameters.specs(Mine())
