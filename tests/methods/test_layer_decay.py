"""Rates by depth, as ELECTRA's released code has them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.engine import optimizers
from rootstock.methods.layer_decay import depth, factors_of, layer_decay
from rootstock.models import albert, deberta, electra
from rootstock.models.layers import parameters, stack


def canonical(params, factors):
    """Factor by canonical name."""
    return {
        name: float(np.ravel(factors[stored])[0 if index is None else index]) for stored in params for name, index in stack.address(stored)
    }


@pytest.mark.parametrize("scan", [True, False])
def test_released_table_of_electra_small(scan):
    """{"/embeddings/": 0, "/embeddings_project/": 0, "encoder/layer_i/": i + 1, "task_specific/": 14}, rate 0.8^(14 - depth)."""
    specs = parameters.specs(parameters.abstract(lambda key: electra.Discriminator(electra.Config(scan=scan), key)))
    shapes = {name: jax.ShapeDtypeStruct(spec.shape, spec.dtype) for name, spec in specs.items()}
    found = canonical(shapes, factors_of(shapes, 0.8))
    expected = {"encoder/embeddings/": 0, "encoder/project/": 0, "detection/": 14} | {f"encoder/layers/{i}/": i + 1 for i in range(12)}
    for name, factor in found.items():
        [at] = [deep for start, deep in expected.items() if name.startswith(start)]
        assert factor == pytest.approx(0.8 ** (14 - at), rel=1e-6), name
    assert found["encoder/layers/11/mlp/input/kernel"] == pytest.approx(0.64)


def test_names_beside_the_layers():
    assert depth("encoder/pooler/kernel", 12) == depth("heads/cola/output/bias", 12) == depth("encoder/norm/scale", 12) == 14
    assert (
        depth("encoder/relative/table", 12) == depth("encoder/relative_norm/scale", 12) == depth("encoder/embeddings/norm/scale", 12) == 0
    )
    for family, config in ((albert.Encoder, albert.Config()), (deberta.Encoder, deberta.Config())):
        specs = parameters.specs(parameters.abstract(lambda key, f=family, c=config: f(c, key)))
        shapes = {name: jax.ShapeDtypeStruct(spec.shape, spec.dtype) for name, spec in specs.items()}
        layers = 1 if family is albert.Encoder else 12
        assert min(canonical(shapes, factors_of(shapes, 0.5)).values()) == 0.5 ** (layers + 2)


@pytest.mark.parametrize("make", [optimizers.adamw, optimizers.bert_adam, optimizers.lamb])
def test_every_step_is_scaled(make):
    """Beside the plain update: a stacked kernel layer by layer, weight decay included; decay 1 changes nothing."""
    params = {
        "encoder/embeddings/token/table": jnp.ones((3, 2)),
        "encoder/layers/0:2:1/mlp/input/kernel": jnp.ones((2, 2, 2)),
        "heads/a/output/bias": jnp.ones(2),
    }
    grads = {name: jnp.arange(x.size, dtype=jnp.float32).reshape(x.shape) + 1 for name, x in params.items()}

    def stepped(update):
        with jax.numpy_dtype_promotion("standard"):
            return update.tx.update(grads, update.tx.init(params), params)[0]

    plain, half, whole = stepped(make(0.1)), stepped(layer_decay(make(0.1), 0.5)), stepped(layer_decay(make(0.1), 1.0))
    factors = dict(zip(params, (0.5**4, np.array([0.5**3, 0.5**2]).reshape(2, 1, 1), 1.0), strict=True))
    for name in params:
        np.testing.assert_allclose(half[name], factors[name] * np.asarray(plain[name]), rtol=1e-6)
        np.testing.assert_array_equal(whole[name], plain[name])
