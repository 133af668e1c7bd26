"""Models to generate with: the stored T5 of Hugging Face, a decoder, and a Markov chain whose likelihoods are known."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, struct
from safetensors.numpy import load_file

from rootstock.models import decoder, hf, t5, t5_hf
from rootstock.models.layers import parameters, stack
from rootstock.models.layers.cache import Cache

STORED = Path(__file__).parents[2] / "golden" / "decoding"
DECODER = decoder.Config(vocab_size=23, width=16, layers=2, heads=2, kv_heads=1, mlp_width=24, init_std=0.6)


@pytest.fixture(scope="session")
def cases():
    """50 inputs and what transformers generates from them; see golden/decoding/make.py."""
    with np.load(STORED / "cases.npz") as found:
        return dict(found)


@pytest.fixture(scope="session")
def t5_model():
    config = dataclasses.replace(hf.config(t5_hf.FAMILY, json.loads((STORED / "config.json").read_text())), scan=True)
    values = hf.Table(t5_hf.FAMILY, "T5ForConditionalGeneration", config).convert(load_file(STORED / "model.safetensors"))
    model = parameters.abstract(lambda key: t5.T5(config, key))
    params = {}
    for name in parameters.specs(model):
        parts = [jnp.asarray(values[part]) for part, _ in stack.address(name)]
        params[name] = jnp.stack(parts) if stack.stacked(name) else parts[0]
    return parameters.merge(nnx.split(model)[0], params)


@pytest.fixture(scope="session")
def decoder_model():
    graphdef = nnx.split(parameters.abstract(lambda key: decoder.Decoder(DECODER, key)))[0]
    build = jax.jit(lambda key: parameters.split(decoder.Decoder(DECODER, key))[1])
    return parameters.merge(graphdef, build(jax.random.key(5)))


@struct.dataclass
class Place:
    past: Cache
    first_ids: jax.Array

    def spread(self, times):
        return self.replace(past=self.past.spread(times), first_ids=jnp.repeat(self.first_ids, times, axis=0))


class Chain:
    """p(next | last) by a table of logits, from the last token of each of the inputs. `steps` holds one entry for every step run."""

    continues_inputs = True

    def __init__(self, table):
        self.table, self.steps = jnp.asarray(table, jnp.float32), []

    def start(self, input_ids, segment_ids, length):
        return Place(Cache.zeros(1, len(input_ids), length, 1, 1, "float32"), input_ids[:, -1:])

    def step(self, input_ids, index, state):
        jax.debug.callback(lambda: self.steps.append(1))
        return self.table[input_ids], state


@pytest.fixture
def chain():
    return Chain


@pytest.fixture(scope="session")
def run():
    """What a search gives on ids [B, L] and their mask, with row keys of a seed. Compiled once for each model and search."""

    @functools.cache
    def compiled(model, search, length, end):
        if isinstance(model, Chain):
            return jax.jit(lambda ids, mask, keys: search(model, ids, mask, keys, length=length, end_id=end, pad_id=0))
        graphdef, params = parameters.split(model)

        def call(params, *inputs):
            return search(parameters.merge(graphdef, params), *inputs, length=length, end_id=end, pad_id=0)

        return functools.partial(jax.jit(call), params)

    def run(model, search, ids, mask=None, *, length, end=1, seed=0, first=0):
        ids = jnp.asarray(ids, jnp.int32)
        mask = jnp.ones_like(ids) if mask is None else jnp.asarray(mask, jnp.int32)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), first + jnp.arange(len(ids)))
        return jax.tree.map(np.asarray, compiled(model, search, length, end)(ids, mask, keys))

    return run
