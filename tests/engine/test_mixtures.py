"""Mixtures of experts on meshes, and what layers add to the loss of any objective."""

import dataclasses
import math
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rootstock.engine import additions, feed, flops, mesh, optimizers, state, step
from rootstock.engine.errors import UserError
from rootstock.engine.partitioning import Partitioner
from rootstock.engine.schedules import BatchRamp
from rootstock.engine.sockets import Context, Loss, Term
from rootstock.models import bert
from rootstock.models.layers import activations, parameters
from rootstock.models.layers.axes import constrained_by
from rootstock.models.layers.dense import normal
from rootstock.models.layers.moe import dispatch, mixture, placement, routers
from rootstock.pretrain.objectives.mlm import MaskedLM

MESHES = {
    "one": mesh.Shape(data=1),
    "expert4_data2": mesh.Shape(expert=4, data=2),
    "expert2_fsdp2_tensor2": mesh.Shape(expert=2, fsdp=2, tensor=2, data=1),
}
WIDTH, ROWS, LENGTH = 16, 16, 12
KINDS = {
    "top2": dict(router=routers.TopK(capacity=1.25, eval_capacity=1.25), dispatch=dispatch.einsum),
    "top2_ragged": dict(router=routers.TopK(normalise=True), dispatch=dispatch.ragged),
    "chosen": dict(router=routers.ExpertChoice(), dispatch=dispatch.einsum),
    "chosen_ragged": dict(router=routers.ExpertChoice(), dispatch=dispatch.ragged),
}


class Tower(nnx.Module):
    """One mixture of each kind, each over the same input."""

    def __init__(self, key):
        for name, options in KINDS.items():
            build = mixture.Mixture(experts=4, layers=placement.Every(1), router_std=0.5, **options).at(0, 1, False)
            key, here = jax.random.split(key)
            how = dict(activation=activations.gelu, init=normal(0.3), dtype="float32")
            setattr(self, name, build(here, WIDTH, 32, **how))

    def __call__(self, x):
        return {name: getattr(self, name)(x) for name in KINDS}


def partitioner(where):
    return Partitioner(mesh.make(MESHES[where], jax.devices()[: 1 if where == "one" else 8]))


@pytest.fixture(scope="module")
def towers():
    """For every mesh the outputs and gradients of each kind, and the program."""
    x = np.random.default_rng(0).standard_normal((ROWS, LENGTH, WIDTH)).astype(np.float32)
    found = {}
    for where in MESHES:
        blueprint = state.Blueprint.draw(Tower, partitioner(where))

        def outputs(params, x, blueprint=blueprint):
            def loss(params, x):
                answers = blueprint.merge(params)(x)
                return sum((y * jnp.sin(x)).sum() for y in answers.values()), answers

            return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x)

        with constrained_by(blueprint.partitioner.constraint()):
            params = blueprint.init_params(jax.random.key(0))
            program = jax.jit(outputs).lower(params, jax.device_put(x, blueprint.partitioner.batch)).compile()
        found[where] = *jax.device_get(program(params, jax.device_put(x, blueprint.partitioner.batch))), program.as_text()
    return found


@pytest.mark.parametrize("where", list(MESHES)[1:])
def test_meshes_agree_with_one_device(towers, where):
    (grads, answers), (one_grads, one_answers) = towers[where][:2], towers["one"][:2]
    for name in KINDS:
        np.testing.assert_allclose(answers[name], one_answers[name], rtol=0, atol=1e-5)
        assert np.abs(answers[name]).max() > 0.1
    for (path, here), there in zip(jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(one_grads), strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-4, err_msg=str(path))  # sums over 192 tokens, of size 10


@pytest.mark.parametrize("where", list(MESHES)[1:])
def test_tokens_go_by_all_to_all_and_are_gathered_nowhere(towers, where):
    text = towers[where][2]
    assert len(re.findall(r" all-to-all\(", text)) >= len(KINDS)
    gathered = [math.prod(map(int, shape.split(","))) for shape in re.findall(r"= f32\[([\d,]+)\]\S* all-gather\(", text)]
    assert all(size < ROWS * LENGTH * WIDTH for size in gathered), gathered  # weights (fsdp), never the tokens of all devices


def test_experts_that_do_not_divide_the_axis():
    config = bert.Config(vocab_size=50, width=16, layers=2, heads=4, mlp_width=32, max_length=16, mlp=mixture.Mixture(experts=6))
    with pytest.raises(UserError, match=r"'expert' is 4, which does not divide 6.*'experts'"):
        state.Blueprint.draw(lambda key: bert.MaskedLM(config, key), partitioner("expert4_data2"))


# What layers add

VOCABULARY = types.SimpleNamespace(size=50, mask_id=4, special_ids=(0, 1, 2, 3, 4))


def sparse_bert(**router):
    moe = mixture.Mixture(experts=4, router=routers.TopK(**{"capacity": 1.25, "z_weight": 0.1, "balance_weight": 0.5, **router}))
    config = bert.Config(vocab_size=50, width=16, layers=4, heads=4, mlp_width=32, max_length=16, mlp=moe)
    return dataclasses.replace(config, dropout=0.0, attention_dropout=0.0)


def trained(toy, where, config, micro_batches=1, steps=3):
    blueprint = state.Blueprint.draw(lambda key: bert.PreTraining(config, key), partitioner(where))
    update = optimizers.adamw(1e-2)
    params = blueprint.init_params(jax.random.key(0))
    now = state.init(blueprint, params, [(update.tx, blueprint.trainable)], ())
    objective = additions.including(MaskedLM(VOCABULARY), blueprint.model)
    run = step.make(blueprint, [step.Phase(objective, update.tx, blueprint.trainable)], step.Methods(), micro_batches)
    run = step.compile_step(run, blueprint, now, feed.abstract(toy.data, 16, blueprint.partitioner), jax.random.key(1))
    curve = []
    for batch in feed.batches(toy.data, BatchRamp([(0, 16)]), 0, steps, blueprint.partitioner):
        now, metrics = run(now, batch)
        curve.append({name: float(term.total / term.weight) for name, term in metrics.items()})
    return curve


@pytest.fixture(scope="module")
def curve(toy):
    return trained(toy, "one", sparse_bert())


def test_a_step_tells_of_its_mixtures(curve):
    first = curve[0]
    assert first["loss"] == pytest.approx(first["loss/mlm"] + 0.5 * first["loss/balance"] + 0.1 * first["loss/router_z"], abs=1e-5)
    loads = [first[f"load/{i}"] for i in range(4)]
    assert sum(loads) == pytest.approx(4, abs=1e-5)
    assert first["busiest"] >= max(loads) - 1e-6 > 1 > min(loads) + 1e-6 >= first["idlest"] > 0
    assert 0 < first["dropped"] < 0.7 and 1.2 < first["entropy"] <= math.log(4) + 1e-6
    assert first["loss/balance"] >= 1.9 and first["loss/router_z"] == pytest.approx(math.log(4) ** 2, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("where, parts", [("one", 4), ("expert4_data2", 1), ("expert2_fsdp2_tensor2", 2)])
def test_steps_are_the_same_on_every_mesh_and_in_micro_batches(toy, curve, where, parts):
    for here, there in zip(trained(toy, where, sparse_bert(), parts), curve, strict=True):
        assert here.keys() == there.keys()
        for name, value in there.items():
            if parts == 1 or name not in ("busiest", "idlest"):  # extremes of the means over a whole batch, not of those over its parts
                assert here[name] == pytest.approx(value, abs=2e-5, rel=2e-5), name
        assert here["busiest"] >= there["busiest"] - 2e-5 and here["idlest"] <= there["idlest"] + 2e-5


def test_a_model_without_additions_keeps_its_objective():
    model = parameters.abstract(lambda key: bert.PreTraining(dataclasses.replace(sparse_bert(), mlp=bert.Config.mlp), key))
    objective = MaskedLM(VOCABULARY)
    assert additions.including(objective, model) is objective


def test_an_objective_that_hides_its_layers_is_told():
    class Blind:
        scales = types.MappingProxyType({"x": lambda step: 1.0})

        def __call__(self, model, batch, ctx):
            return Loss({"x": Term(jnp.ones(()), jnp.ones(()))})

    model = parameters.abstract(lambda key: bert.PreTraining(sparse_bert(), key))
    including = additions.including(Blind(), model)
    with pytest.raises(ValueError, match="no layer told its 'balance'"):
        including(model, {"x": jnp.ones((2, 3))}, Context(jnp.zeros((), jnp.int32), jax.random.key(0)))


def test_ragged_products_count_every_row_once():
    rows, matrices, sizes = jnp.ones((10, 4)), jnp.ones((3, 4, 6)), jnp.array([2, 5, 3])
    assert flops.forward(jax.lax.ragged_dot, rows, matrices, sizes) == 2 * 10 * 4 * 6
