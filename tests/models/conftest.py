"""A BERT small enough to compile in a second."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rootstock.models import bert
from rootstock.models.layers import parameters, stack

TINY = bert.Config(
    vocab_size=31, width=16, layers=3, heads=2, mlp_width=24, max_length=12, dropout=0.0, attention_dropout=0.0, init_std=0.2
)


@pytest.fixture(scope="session")
def tiny():
    """(changes to the configuration) -> PreTraining. Parameters have the same values in every variant, by canonical name."""
    values = stack.unstack(jax.jit(lambda key: parameters.split(bert.PreTraining(TINY, key))[1])(jax.random.key(3)))

    def make(**changes):
        model = parameters.abstract(lambda key: bert.PreTraining(dataclasses.replace(TINY, **changes), key))
        params = {}
        for name in parameters.specs(model):
            parts = stack.address(name)
            params[name] = jnp.stack([values[part] for part, _ in parts]) if stack.stacked(name) else values[name]
        return parameters.merge(nnx.split(model)[0], params)

    return make


@pytest.fixture(scope="session")
def logits(tiny):
    """(input_ids, segment_ids, positions) -> masked-LM logits of the tiny model, compiled."""
    graphdef, params = parameters.split(tiny())
    run = jax.jit(lambda params, ids, **inputs: parameters.merge(graphdef, params)(ids, **inputs).logits)
    return lambda ids, segments, positions=None: np.asarray(run(params, ids, segment_ids=segments, positions=positions))
