"""What a mixture must do exactly, by both ways of dispatching where both apply."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rootstock.models.layers import activations, parameters
from rootstock.models.layers.dense import normal
from rootstock.models.layers.mlp import MLP, GatedMLP
from rootstock.models.layers.moe import dispatch, mixture, placement, routers
from rootstock.models.layers.tap import tapped

WIDTH, HIDDEN, EXPERTS = 8, 12, 4
X = np.random.default_rng(0).standard_normal((2, 12, WIDTH)).astype(np.float32)
WAYS = {"einsum": dispatch.einsum, "ragged": dispatch.ragged}
OPEN = dict(capacity=None, eval_capacity=None)
HOW = dict(activation=activations.gelu, init=normal(0.5), dtype="float32")


def build(options, causal=False, seed=1):
    """A layer, and an MLP with biases."""
    build_one = mixture.Mixture(layers=placement.Every(1), router_std=0.5, **{"experts": EXPERTS, **options}).at(0, 1, causal)
    dense = options.get("mlp", MLP)(jax.random.key(2), WIDTH, HIDDEN, **HOW)
    for part in (dense.input, dense.output):
        part.bias.set_value(jax.random.normal(jax.random.key(3), part.bias.shape))
    return build_one(jax.random.key(seed), WIDTH, HIDDEN, **HOW), dense


def copied(layer, dense):
    """The layer with every expert the same."""
    graphdef, params = parameters.split(layer)
    values = parameters.split(dense)[1]
    for name in params:
        if name.startswith("experts/"):
            params[name] = jnp.broadcast_to(values[name.removeprefix("experts/")], params[name].shape)
    return parameters.merge(graphdef, params)


CASES = {
    "top2": dict(router=routers.TopK(normalise=True, **OPEN)),
    "top2_after_drops": dict(router=routers.TopK(normalise=True, after_drops=True, **OPEN)),
    "top1": dict(router=routers.TopK(k=1, normalise=True, **OPEN)),
    "prioritised": dict(router=routers.TopK(k=3, normalise=True, prioritised=True, **OPEN)),
    "everybody": dict(router=routers.ExpertChoice(normalise=True, **OPEN)),
    "gated": dict(router=routers.TopK(normalise=True, **OPEN), mlp=GatedMLP),
    "one_expert": dict(experts=1, router=routers.TopK(k=1, capacity=1.0, eval_capacity=1.0)),
    "one_expert_chooses": dict(experts=1, router=routers.ExpertChoice(capacity=1.0, eval_capacity=1.0)),
    "large_groups": dict(router=routers.TopK(normalise=True, **OPEN), group_size=24),
    "small_groups": dict(router=routers.TopK(normalise=True, **OPEN), group_size=5),
    "plain_top2": dict(router=routers.TopK(**OPEN)),
    "plain_top1": dict(router=routers.TopK(k=1, **OPEN)),
    "plain_choice": dict(router=routers.ExpertChoice()),
    "dropping": dict(router=routers.TopK(k=1, capacity=0.5, eval_capacity=0.5, min_capacity=0)),
    "dropping_normalised": dict(router=routers.TopK(capacity=0.5, eval_capacity=0.5, min_capacity=0, normalise=True, after_drops=True)),
    "padding": dict(router=routers.TopK(route_padding=False, **OPEN)),
    "padding_chosen": dict(router=routers.ExpertChoice(route_padding=False)),
}
REAL = np.array([[1] * 7 + [0] * 5, [1] * 12], np.int32)


@pytest.fixture(scope="module")
def results():
    """For every case and way: outputs with equal experts, with different ones, the MLP's output and the weights of each token's experts."""

    built = {(case, way): build({**CASES[case], "dispatch": go}) for case in CASES for way, go in WAYS.items()}

    def one(x, case, way, layer, dense):
        same = copied(layer, dense)
        segments = jnp.asarray(REAL) if case.startswith("padding") else None
        groups = mixture._groups(2, 12, layer.mixture.group_size)
        probabilities = jax.nn.softmax(layer.logits(x.reshape(*groups, WIDTH), None))
        routed = jnp.ones(groups, bool) if segments is None else (segments > 0).reshape(groups)
        routes = layer.rule.route(probabilities, routed, layer._places(groups[1], WAYS[way], training=False))
        total = routes.masks()[1].sum((2, 3)).reshape(x.shape[:2])
        return dict(same=same(x, None, segments), layer=layer(x, None, segments), dense=dense(x), total=total)

    values = jax.device_get(jax.jit(lambda x: [one(x, *name, *made) for name, made in built.items()])(X))
    return dict(zip(built, values, strict=True))


def close(a, b, atol=1e-5):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", list(CASES)[:10])
def test_copies_with_normalised_weights_are_the_mlp(results, case, way):
    found = results[case, way]
    close(found["total"], 1.0, 1e-6)
    close(found["same"], found["dense"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", list(CASES)[10:])
def test_copies_are_the_mlp_times_the_weights(results, case, way):
    found = results[case, way]
    close(found["same"], found["total"][..., None] * found["dense"])


def test_weights_are_what_was_expected(results):
    """Each case is what its name says: without normalisation less than 1, tokens dropped where there is no room."""
    assert (results["plain_top2", "einsum"]["total"] < 0.999).all() and (results["plain_top2", "einsum"]["total"] > 2 / EXPERTS).all()
    totals = results["dropping", "einsum"]["total"]
    assert 0 < (totals == 0).sum() <= 2 * (12 - EXPERTS)
    kept = results["dropping_normalised", "einsum"]["total"]
    close(np.where(kept > 0, kept, 1.0), 1.0, 1e-6)
    assert (kept == 0).any()


def test_dropped_tokens_and_padding_are_exactly_zero(results):
    found = results["dropping", "einsum"]
    assert (found["layer"][found["total"] == 0] == 0).all()
    for way in WAYS:
        for case in ("padding", "padding_chosen"):
            assert (results[case, way]["layer"][REAL == 0] == 0).all()
            assert (results[case, way]["layer"][REAL == 1] != 0).any(-1).sum() > 12


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("dropping")])
def test_both_ways_agree(results, case):
    close(results[case, "einsum"]["layer"], results[case, "ragged"]["layer"])


def test_experts_differ(results):
    """Otherwise the tests above would say little."""
    assert np.abs(results["top2", "einsum"]["layer"] - results["top2", "einsum"]["same"]).max() > 0.1


@pytest.mark.parametrize("way", WAYS)
def test_gradients_of_copies(way):
    """Normalised: none for the router; those of the experts sum to the MLP's."""
    layer, dense = build(dict(router=routers.TopK(normalise=True, **OPEN), dispatch=WAYS[way]))
    target = np.random.default_rng(1).standard_normal(X.shape).astype(np.float32)

    def gradients(x, target):
        (graphdef, params), (dense_def, dense_params) = parameters.split(copied(layer, dense)), parameters.split(dense)
        loss = lambda graphdef: lambda params: (parameters.merge(graphdef, params)(x) * target).sum()
        return jax.grad(loss(graphdef))(params), jax.grad(loss(dense_def))(dense_params)

    sparse, whole = jax.jit(gradients)(X, target)
    close(sparse.pop("router/kernel"), 0.0)
    for name, gradient in sparse.items():
        close(gradient.sum(0), whole[name.removeprefix("experts/")], 1e-4)  # sums of 24 products of size 10
        assert np.abs(gradient[0] - gradient[1]).max() > 1e-2


def test_places():
    """Left to right, first choices before second ones, no expert over its capacity (8 tokens, 4 experts: 4 places, as in fairseq)."""
    router = routers.TopK(capacity=2.0, eval_capacity=2.0)
    assert router.places(8, 4, training=True) == 4
    first = jnp.zeros((1, 8, 4)).at[:, :, 0].set(0.6).at[:, :, 1].set(0.3).at[:, 7].set(jnp.array([0.3, 0.6, 0.1, 0.0]))
    routes = router.route(first, jnp.ones((1, 8), bool), 4)
    np.testing.assert_array_equal(routes.chosen[0, :, 0], [0] * 7 + [1])
    np.testing.assert_array_equal(routes.kept[0, :, 0], [1, 1, 1, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(routes.kept[0, :, 1], [1, 1, 1, 0, 0, 0, 0, 0])  # token 7's first choice comes before
    mask, weights = routes.masks()
    assert mask.sum((1, 3)).max() <= 4 and (mask.sum(1) <= 1).all() and mask.sum((2, 3)).max() <= 2
    np.testing.assert_array_equal(mask, weights > 0)
    unsure_first = routers.TopK(k=1, prioritised=True).route(
        jnp.asarray(np.linspace([0.5, 0.2], [0.9, 0.1], 8, dtype=np.float32))[None], jnp.ones((1, 8), bool), 4
    )
    np.testing.assert_array_equal(unsure_first.kept[0, :, 0], [0, 0, 0, 0, 1, 1, 1, 1])


def test_experts_choose_exactly_as_many_as_they_have_places():
    probabilities = jax.nn.softmax(jax.random.normal(jax.random.key(0), (2, 12, EXPERTS)))
    routes = routers.ExpertChoice().route(probabilities, jnp.ones((2, 12), bool), 6)
    mask, weights = routes.masks()
    np.testing.assert_array_equal(mask.sum((1, 3)), 6)
    assert mask.sum() == 2 * EXPERTS * 6 and (mask.sum(1) == 1).all()
    best = np.sort(probabilities, 1)[:, -6:]
    close(np.sort(np.asarray(weights.sum(3)), 1)[:, -6:], best, 1e-7)
    shares = routers.ExpertChoice().shares(probabilities, jnp.ones((2, 12), bool), routes)
    close(shares["dropped"], (mask.sum((2, 3)) == 0).mean(1), 1e-7)


@pytest.mark.parametrize("k", [1, 2])
def test_losses_of_even_and_of_one_sided_routing(k):
    everyone = jnp.ones((1, 8), bool)
    even = jnp.full((1, 8, 4), 0.25)
    chosen = jnp.stack([jnp.arange(8) % 4, (jnp.arange(8) + 1) % 4], -1)[None, :, :k]
    router = routers.TopK(k=k)
    spread = dataclasses.replace(router.route(even, everyone, 8), chosen=chosen)
    close(router.shares(even, everyone, spread)["balance"], k)
    close(routers.TopK(k=k, first_only=True).shares(even, everyone, spread)["balance"], 1.0)  # whatever the choices, for even gates
    close(router.shares(even, everyone, spread)["load"], 1.0)
    sure = jnp.zeros((1, 8, 4)).at[:, :, 2].set(1.0)
    routes = routers.TopK(k=1).route(sure, everyone, 8)
    found = routers.TopK(k=1).shares(sure, everyone, routes)
    close(found["balance"], 4.0)
    close(found["load"], [[0, 0, 4, 0]])
    close(routers.TopK(k=1).shares(sure, everyone, routers.TopK(k=1).route(sure, everyone, 2))["dropped"], 0.75)
    told = routers.entropy_and_z(jnp.zeros((1, 8, 4)), everyone)
    close(told["entropy"], np.log(4))
    close(told["router_z"], np.log(4) ** 2)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("router", [routers.TopK(**OPEN), routers.TopK(k=1, capacity=1.0, eval_capacity=1.0, min_capacity=1)])
def test_causality(way, router):
    """A later token changes nothing before it: with room for all, or with one choice a token."""
    layer, _ = build(dict(router=router, dispatch=WAYS[way]), causal=True)
    run = jax.jit(layer)
    changed = np.array(X)
    changed[:, 7:] = -3 * changed[:, 7:]
    before, after = run(X), run(changed)
    close(before[:, :7], after[:, :7], 1e-6)
    assert np.abs(before - after).max() > 0.1


def test_training_has_a_capacity_jitter_and_dropout_of_its_own():
    router = routers.TopK(k=1, capacity=0.5, eval_capacity=None, min_capacity=0, jitter=0.3)
    layer, _ = build(dict(router=router, dispatch=dispatch.einsum, expert_dropout=0.5))

    def run(x, key):
        with tapped(want=["added/dropped"]) as taps:
            y = layer(x, key)
        return y, taps["added/dropped"][0], layer.logits(x, key)

    quiet, loud = jax.jit(lambda x: run(x, None))(X), jax.jit(run)(X, jax.random.key(0))
    assert quiet[1] == 0 and loud[1] >= 1 / 3  # two places for each of four experts, twelve tokens
    ratio = np.abs(loud[2] - quiet[2])
    assert 0 < ratio.max() < 0.3 * np.abs(X).sum(-1).max() * np.abs(layer.router.kernel[...]).max()


def test_experts_have_a_dropout_of_their_own():
    """In place of the layers' rate: of the key, none without one or at rate 0."""
    open_to_all, x = dict(router=routers.TopK(k=1, **OPEN), dispatch=dispatch.einsum), jnp.asarray(X)
    always, never = (build(open_to_all | {"expert_dropout": rate})[0] for rate in (0.5, 0.0))
    run, quiet = jax.jit(lambda key: always(x, key)), jax.jit(lambda key: never(x, key))
    one, other = run(jax.random.key(0)), run(jax.random.key(1))
    np.testing.assert_array_equal(one, run(jax.random.key(0)))
    assert min(np.abs(one - other).max(), np.abs(one - always(x)).max()) > 0.1
    close(quiet(jax.random.key(0)), never(x))


def test_every_expert_has_a_mask_of_its_own():
    """Equal experts that both take every token, with equal weights: with one mask they would give what two of the first give."""
    both = dict(experts=2, router=routers.ExpertChoice(capacity=2.0, eval_capacity=2.0), dispatch=dispatch.einsum, expert_dropout=0.5)
    graphdef, params = parameters.split(build(both)[0])
    equal = {name: jnp.broadcast_to(x[:1], x.shape) if "experts" in name else jnp.zeros_like(x) for name, x in params.items()}
    alone = {name: x.at[1].set(0.0) if "experts" in name else x for name, x in equal.items()}
    two, first = (parameters.merge(graphdef, values)(jnp.asarray(X), jax.random.key(0)) for values in (equal, alone))
    assert np.abs(first).max() > 0.1 and np.abs(two - 2 * first).max() > 0.1


def test_shared_experts_scale_and_fine_grains():
    """Shards of one MLP, equally weighted, times their number: the MLP. A shared expert is added."""
    layer, dense = build(dict(experts=3, granularity=3, scale=3.0, shared=1, router=routers.TopK(k=3, normalise=True, **OPEN)))
    graphdef, params = parameters.split(layer)
    values = parameters.split(dense)[1]
    params["router/kernel"] = jnp.zeros((WIDTH, 3))
    params["experts/input/kernel"] = jnp.stack(jnp.split(values["input/kernel"], 3, 1))
    params["experts/input/bias"] = jnp.stack(jnp.split(values["input/bias"], 3))
    params["experts/output/kernel"] = jnp.stack(jnp.split(values["output/kernel"], 3, 0))
    params["experts/output/bias"] = jnp.broadcast_to(values["output/bias"] / 3, (3, WIDTH))
    for name, value in values.items():
        params[f"shared/{name}"] = value
    found, wanted = jax.jit(lambda params, x: (parameters.merge(graphdef, params)(x), dense(x)))(params, X)
    close(found, 2 * wanted)


def test_parameters_have_names_and_axes():
    layer, _ = build({})
    found = {name: (spec.shape, spec.axes) for name, spec in parameters.specs(layer).items()}
    assert found["router/kernel"] == ((WIDTH, EXPERTS), ("embed", None))
    assert found["experts/input/kernel"] == ((EXPERTS, WIDTH, HIDDEN), ("experts", "embed", "mlp"))
    assert found["experts/output/bias"] == ((EXPERTS, WIDTH), ("experts", "embed"))


WRONG = {
    "12 experts": lambda: mixture.Mixture(experts=0),
    "k above E": lambda: mixture.Mixture(experts=2, router=routers.TopK(k=3)),
    "capacity": lambda: routers.TopK(capacity=-1.0),
    "under one token": lambda: routers.TopK(capacity=0.1, min_capacity=0).places(16, 8, training=True),
    "jitter": lambda: routers.TopK(jitter=1.0),
    "granularity": lambda: build(dict(granularity=5)),
    "ahead": lambda: mixture.Mixture(router=routers.ExpertChoice()).at(1, 2, causal=True),
    "ahead, prioritised": lambda: mixture.Mixture(router=routers.TopK(prioritised=True)).at(1, 2, causal=True),
    "out of range": lambda: mixture.Mixture(layers=placement.Listed((1, 4))).at(1, 4, causal=False),
    "negative": lambda: placement.Listed((-1,))(4),
    "twice": lambda: placement.Listed((1, 1))(4),
    "last": lambda: placement.Last(5)(4),
    "stride": lambda: placement.Every(5)(4),
    "group": lambda: mixture.Mixture(group_size=0),
}
SAYS = {
    "12 experts": "experts is 0", "k above E": "k is 3", "capacity": "capacity is -1.0", "under one token": "under one token",
    "jitter": "jitter is 1.0", "granularity": "5 does not divide", "ahead": "ExpertChoice lets", "ahead, prioritised": "TopK lets",
    "out of range": r"\[1, 4\].* 0 to 3", "negative": "0 to 3", "twice": "different", "last": "1 to 4", "stride": "1 to 4",
    "group": "group_size is 0",
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_told(case):
    with pytest.raises(ValueError, match=SAYS[case]):
        WRONG[case]()


def test_placement():
    assert placement.Every()(6) == (1, 3, 5) and placement.Every(1)(3) == (0, 1, 2) and placement.Every(3)(7) == (2, 5)
    assert placement.Last(2)(6) == (4, 5) and placement.First(2)(6) == (0, 1) and placement.Listed((4, 2))(6) == (2, 4)


def test_a_wrapped_function_drops_nobody_either():
    """As gin hands it over."""
    wrapped = functools.wraps(dispatch.ragged)(lambda *arguments: dispatch.ragged(*arguments))
    assert dispatch.drops(dispatch.einsum) and not dispatch.drops(wrapped)


def test_an_adapter_in_an_expert_is_refused():
    layer, _ = build({})
    layer.experts.input.delta = lambda x: x
    with pytest.raises(ValueError, match="delta"):
        layer(jnp.asarray(X))


def test_an_expert_with_other_parameters_is_refused():
    class Learned(nnx.Module):
        def __init__(self):
            self.scale = parameters.parameter(jnp.ones(1), (None,))

        def __call__(self, x):
            return x * self.scale[...]

    with pytest.raises(ValueError, match=r"activation/scale is not of a Dense"):
        mixture.Mixture(layers=placement.Every(1)).at(0, 1, False)(jax.random.key(0), WIDTH, HIDDEN, **HOW | {"activation": Learned})
