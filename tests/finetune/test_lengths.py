"""A step at the length of its rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.engine.sockets import Context
from rootstock.finetune import finetuned, heads
from rootstock.finetune.objective import Multitask
from rootstock.finetune.protocol import lengths
from rootstock.models import bert
from rootstock.models.layers import parameters

CONFIG = bert.Config(
    vocab_size=40, width=8, layers=2, heads=2, mlp_width=8, max_length=12, dropout=0.0, attention_dropout=0.0, init_std=0.3
)
HEADS = {"copa": heads.Head(heads.MultipleChoice, 2, 0.0), "ner": heads.Head(heads.TokenClassification, 3, 0.0)}


def batch_of(longest):
    """Rows of up to that many tokens of 12: choices [2, 2, 12] with a label, and tokens [2, 12] with a label each."""
    chance = np.random.default_rng(longest)

    def rows(*shape):
        real = np.arange(12) < chance.integers(1, longest + 1, (*shape, 1))
        real[..., : longest if shape == (2, 2) else 1] = True
        ids = np.where(real, chance.integers(5, 40, (*shape, 12)), 0)
        return {"input_ids": jnp.asarray(ids, jnp.int32), "segment_ids": jnp.asarray(real, jnp.int32)}, real

    choices, _ = rows(2, 2)
    tagged, real = rows(2)
    weight = {"weight": jnp.ones(2)}
    labels = jnp.asarray(np.where(real, chance.integers(0, 3, (2, 12)), -1), jnp.int32)
    return {"copa": choices | weight | {"label": jnp.asarray([0, 1], jnp.int32)}, "ner": tagged | weight | {"label": labels}}


@pytest.fixture(scope="module")
def gradients():
    """The gradient of every parameter at full length and shortened, and the length that was taken."""
    objective = Multitask(HEADS)
    config = finetuned.Config(finetuned.Encoder(bert.Encoder, CONFIG), HEADS)
    graphdef, params = parameters.split(jax.jit(lambda key: finetuned.Finetuned(config, key))(jax.random.key(0)))
    ctx = Context(step=jnp.zeros((), jnp.int32), key=jax.random.key(0))
    taken = []

    def grad_fn(params, batch, ctx):
        jax.debug.callback(lambda length: taken.append(int(length)), jnp.int32(batch["copa"]["input_ids"].shape[-1]))

        def loss(params):
            found = objective(parameters.merge(graphdef, params), batch, ctx)
            return sum(term.total / term.weight for term in found.terms.values()), found

        (_, found), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return found, grads

    whole = jax.jit(lambda params, batch: grad_fn(params, batch, ctx))
    short = jax.jit(lambda params, batch: lengths.shortened(grad_fn, (4, 8))(params, batch, ctx))

    def both(batch):
        taken.clear()
        found = whole(params, batch), short(params, batch)
        jax.effects_barrier()
        return *found, taken[-1]

    return both


@pytest.mark.parametrize(("longest", "length"), [(3, 4), (4, 4), (5, 8), (8, 8), (9, 12), (12, 12)])
@pytest.mark.slow
def test_same_gradients(gradients, longest, length):
    """Of float32 sums in another order; the shortest length that holds every row is taken."""
    (loss, grads), (short_loss, short_grads), taken = gradients(batch_of(longest))
    assert taken == length
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), (loss.terms, grads), (short_loss.terms, short_grads))


def test_no_length_below_that_of_the_rows():
    """Nothing to choose from: the function is called as it is."""
    batch = batch_of(3)
    assert lengths.at_its_length(lambda same: same is batch, batch, (12, 64))


def test_what_is_cut():
    short = lengths.cut(batch_of(3), 4)
    shapes = jax.tree.map(lambda x: x.shape, short)
    assert shapes["copa"]["input_ids"] == (2, 2, 4) and shapes["copa"]["label"] == (2,)
    assert shapes["ner"]["segment_ids"] == (2, 4) == shapes["ner"]["label"] and shapes["ner"]["weight"] == (2,)
    assert int(lengths.longest(batch_of(7))) == 7
    text = {name: jnp.ones((2, 12)) for name in ("input_ids", "segment_ids", "target_ids")}
    assert {name: x.shape[-1] for name, x in lengths.cut(text, 4).items()} == {"input_ids": 4, "segment_ids": 4, "target_ids": 12}


def test_as_many_rows_as_tokens():
    """Labels of rows are not those of tokens, however many there are."""
    found = lengths.cut({"input_ids": jnp.ones((12, 12)), "label": jnp.ones(12)}, 4)
    assert found["input_ids"].shape == (12, 4) and found["label"].shape == (12,)
