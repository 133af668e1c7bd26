import types

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from rootstock.engine import flops
from rootstock.engine.sockets import Context
from rootstock.models import bert
from rootstock.models.layers import parameters, stack
from rootstock.pretrain.objectives.mlm import MaskedLM

BASE = types.SimpleNamespace(size=30522, mask_id=103, special_ids=(0, 101, 102, 103))


def forward_of_masked_lm(config, length, rows=2):
    """FLOPs of the forward pass over a batch; nothing is allocated."""
    params, objective = {}, MaskedLM(BASE)
    model = parameters.abstract(lambda key: bert.PreTraining(config, key))
    for name, spec in parameters.specs(model).items():
        params[name] = jax.ShapeDtypeStruct(spec.shape, spec.dtype)
    graphdef, _ = nnx.split(model)
    ids = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    batch = dict(input_ids=ids, segment_ids=ids, positions=ids, token_type_ids=ids)

    def run(params, batch):
        ctx = Context(step=jnp.zeros((), jnp.int32), key=jax.random.key(0))
        return objective(parameters.merge(graphdef, params), objective.prepare(batch, ctx), ctx).terms

    return flops.forward(run, params, batch)


def closed_form(config, length, rows=2):
    """Per row: projections and MLP, attention's two products, and the head at round(0.15 L) places."""
    layer = 2 * length * (4 * config.width**2 + 2 * config.width * config.mlp_width) + 4 * length**2 * config.width
    head = 2 * round(0.15 * length) * (config.width**2 + config.width * config.vocab_size)
    return rows * (config.layers * layer + head)


@pytest.mark.parametrize("length, megaflops", [(128, 545), (512, 588)])
def test_bert_base(length, megaflops):
    """The figures that flops.py promises for a training step, three times the forward pass."""
    counted = forward_of_masked_lm(bert.Config(), length)
    assert counted == closed_form(bert.Config(), length)
    assert round(flops.TRAINING * counted / (2 * length) / 1e6) == megaflops


@pytest.mark.parametrize(
    "changes",
    [dict(scan=False), dict(remat=stack.save_nothing), dict(dtype="bfloat16"), dict(dropout=0.5)],
    ids=["unrolled", "recomputed", "bfloat16", "dropout"],
)
def test_storage_recomputation_and_precision_are_no_work(changes):
    small = dict(layers=3, width=24, heads=2, mlp_width=40)
    assert forward_of_masked_lm(bert.Config(**small, **changes), 20) == closed_form(bert.Config(**small), 20)


def test_products_inside_programs():
    a, b = jnp.ones((3, 4)), jnp.ones((4, 5))
    one = 2 * 3 * 4 * 5
    assert flops.forward(lambda a, b: jnp.tanh(a @ b) + 1, a, b) == one
    assert flops.forward(lambda a, b: jax.lax.scan(lambda c, _: (c + a @ b, None), jnp.zeros((3, 5)), None, length=7)[0], a, b) == 7 * one
    assert flops.forward(lambda a, b: jax.jit(jax.checkpoint(lambda a, b: a @ b))(a, b), a, b) == one
    assert flops.forward(lambda a, b: jax.lax.cond(a[0, 0] > 0, lambda: a @ b @ b.T @ b, lambda: a @ b), a, b) == 3 * one
    assert flops.forward(jax.vmap(lambda a, b: a @ b), jnp.ones((6, 3, 4)), jnp.ones((6, 4, 5))) == 6 * one


def test_a_gradient_costs_three_forward_passes():
    a, b = jnp.ones((3, 4)), jnp.ones((4, 5))
    gradient = jax.grad(lambda a, b: jnp.square(a @ b).sum(), argnums=(0, 1))
    assert flops.forward(gradient, a, b) == flops.TRAINING * flops.forward(lambda a, b: a @ b, a, b)


def test_cudnns_attention(monkeypatch):
    """As much as in plain XLA: the scores and their product with the values."""
    from jax._src.cudnn import fused_attention_stablehlo

    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    rows = jax.ShapeDtypeStruct((2, 512, 12, 64), jnp.bfloat16)
    with jax.numpy_dtype_promotion("standard"):
        found = [
            flops.forward(lambda q, k, v, how=how: jax.nn.dot_product_attention(q, k, v, implementation=how), rows, rows, rows)
            for how in ("xla", "cudnn")
        ]
    assert found[0] == found[1] == 4 * 2 * 12 * 512 * 512 * 64
