"""A toy corpus and a toy BERT, trained on any mesh; and a linear model whose steps are known in closed form."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rootstock.engine import feed, mesh, optimizers, schedules, state, step
from rootstock.engine.partitioning import Partitioner
from rootstock.engine.sockets import Loss, Term
from rootstock.models import bert
from rootstock.models.layers import parameters, stack
from rootstock.pretrain.objectives.mlm import MaskedLM

LENGTH, VOCABULARY = 16, types.SimpleNamespace(size=50, mask_id=4, special_ids=(0, 1, 2, 3, 4))
CONFIG = bert.Config(vocab_size=50, width=16, layers=4, heads=4, mlp_width=32, max_length=LENGTH, dropout=0.0, attention_dropout=0.0)
MESHES = {
    "one": mesh.Shape(data=1),
    "data8": mesh.Shape(data=8),
    "data2_fsdp2_tensor2": mesh.Shape(data=2, fsdp=2, tensor=2),
    "fsdp8": mesh.Shape(data=1, fsdp=8),
}


class Sentences:
    """Random rows of 5 to 16 tokens, small ids the most frequent; every seventh is padding throughout.

    So micro-batches and devices hold unequal numbers of masked tokens.
    """

    vocabulary = vocabulary_checksum = None

    def spec(self, size):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), self.batch(0, 1))

    def batch(self, start, size, shard=0, shards=1):
        part = size // shards
        rows = [self.row(index) for index in range(start + shard * part, start + (shard + 1) * part)]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def row(self, index):
        draws = np.random.default_rng(index)
        present = (np.arange(LENGTH) < draws.integers(5, LENGTH + 1)) & (index % 7 != 0)
        integers = dict(
            input_ids=(5 + 45 * draws.random(LENGTH) ** 3).astype(int) * present,
            segment_ids=present,
            positions=np.arange(LENGTH) * present,
            token_type_ids=present & (np.arange(LENGTH) > 8),
            is_random_next=index % 2,
        )
        return {name: np.asarray(x, np.int32) for name, x in integers.items()} | {"weight": np.float32(index % 7 != 0)}


@pytest.fixture(scope="session")
def partitioners():
    return {name: Partitioner(mesh.make(shape, jax.devices()[: 1 if name == "one" else 8])) for name, shape in MESHES.items()}


class Toy:
    """`train` runs a few steps of masked LM on a mesh; parameters begin with the same values everywhere."""

    config, data, vocabulary = CONFIG, Sentences(), VOCABULARY

    def __init__(self, partitioners):
        self.partitioners = partitioners
        blueprint = self.blueprint("one")
        self.values = stack.unstack(jax.device_get(blueprint.init_params(jax.random.key(0))))

    def blueprint(self, where, **changes):
        return state.Blueprint.draw(lambda key: bert.PreTraining(dataclasses.replace(CONFIG, **changes), key), self.partitioners[where])

    def params(self, blueprint):
        """The initial values, stacked and laid out as the blueprint says."""
        params = {}
        for name in blueprint.specs:
            parts = [self.values[canonical] for canonical, _ in stack.address(name)]
            params[name] = jax.device_put(np.stack(parts) if stack.stacked(name) else parts[0], blueprint.shardings[name])
        return params

    def state(self, where, update):
        blueprint = self.blueprint(where)
        return blueprint, state.init(blueprint, self.params(blueprint), [(update.tx, blueprint.trainable)], ())

    def train(self, where, micro_batches=1, nsp_scale=0.0, steps=20, size=32):
        """The loss and each term of every step, and the last state."""
        update = optimizers.adamw(schedules.linear(1e-2, 20, 2))
        blueprint, now = self.state(where, update)
        phase = step.Phase(MaskedLM(VOCABULARY, nsp_scale=nsp_scale), update.tx, blueprint.trainable)
        run = step.make(blueprint, [phase], step.Methods(clip_norm=1.0), micro_batches)
        run = step.compile_step(run, blueprint, now, feed.abstract(self.data, size, blueprint.partitioner), jax.random.key(1))
        curve = []
        for batch in feed.batches(self.data, schedules.BatchRamp([(0, size)]), 0, steps, blueprint.partitioner):
            now, metrics = run(now, batch)
            curve.append({name: float(term.total / term.weight) for name, term in metrics.items()})
        return {name: np.array([row[name] for row in curve]) for name in curve[0]}, now


@pytest.fixture(scope="session")
def toy(partitioners):
    return Toy(partitioners)


PLAIN = step.Methods()


class Linear(nnx.Module):
    """w . x"""

    def __init__(self, key):
        self.w = parameters.parameter(jnp.asarray([1.0, -2.0]), (None,))
        self.b = parameters.parameter(jnp.asarray([0.5]), (None,))

    def __call__(self, x):
        return x @ self.w[...] + self.b[...]


class Squares:
    """Half the weighted squares of what is left of y, a term; what is carried counts the rows seen."""

    scales = types.MappingProxyType({"squares": lambda step: 1.0})

    def prepare(self, batch, ctx):
        return batch

    def weights(self, batch):
        return {"squares": batch["weight"].sum()}

    def __call__(self, model, batch, ctx):
        rows = 0.5 * jnp.square(model(batch["x"]) - batch["y"]) * batch["weight"]
        draws = [jax.random.uniform(key) for key in (ctx.key, ctx.dropout) if key is not None]
        metrics = {f"draw{number}": Term(draw, jnp.ones(())) for number, draw in enumerate(draws)}
        carried = ctx.carried if isinstance(ctx.carried, tuple) else {"rows": ctx.carried["rows"] * 10.0 + batch["weight"].sum()}
        return Loss({"squares": Term(rows.sum(), batch["weight"].sum())}, metrics, carried, rows)


@dataclasses.dataclass
class LinearRun:
    """A few steps of the linear model on one device over the batch `x, y, weight`."""

    blueprint: state.Blueprint
    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    squares = Squares

    @property
    def batch(self):
        return {"x": jnp.asarray(self.x), "y": jnp.asarray(self.y), "weight": jnp.asarray(self.weight)}

    def gradient(self, w, b, rows=slice(None)):
        """Of the weighted mean over all rows, the sum being over `rows`."""
        left = (self.x @ w + b - self.y) * self.weight
        return (left[rows] @ self.x[rows]) / self.weight.sum(), left[rows].sum(keepdims=True) / self.weight.sum()

    def run(self, phases, methods=PLAIN, micro_batches=1, steps=1, carried=()):
        """The state and the metrics of every step."""
        blueprint = self.blueprint
        now = state.init(blueprint, blueprint.init_params(jax.random.key(0)), [(phase.tx, phase.names) for phase in phases], carried)
        run = step.compile_step(step.make(blueprint, phases, methods, micro_batches), blueprint, now, self.batch, jax.random.key(1))
        metrics = []
        for _ in range(steps):
            now, measured = run(now, self.batch)
            metrics.append({name: float(term.total / term.weight) for name, term in measured.items()})
        return now, metrics


@pytest.fixture(scope="session")
def linear(partitioners):
    draws = np.random.default_rng(0)
    x, y = draws.standard_normal((8, 2)).astype(np.float32), draws.standard_normal(8).astype(np.float32)
    return LinearRun(state.Blueprint.draw(Linear, partitioners["one"]), x, y, np.array([1, 1, 0, 1, 0, 0, 1, 1], np.float32))
