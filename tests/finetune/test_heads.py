"""Heads: shapes, what counts, closed-form losses; and their scores over rows that do not fill the last batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rootstock.data.streams import Ordered
from rootstock.engine import mesh
from rootstock.engine.evaluate import Evaluation
from rootstock.engine.partitioning import Partitioner
from rootstock.engine.sockets import Context
from rootstock.engine.state import Blueprint
from rootstock.finetune import finetuned, heads, metrics, scores, tasks
from rootstock.finetune.objective import Multitask
from rootstock.models import bert

L, ROWS = 12, 6
CONFIG = bert.Config(vocab_size=40, width=16, layers=2, heads=2, mlp_width=32, max_length=L)
HEADS = {
    "pairs": heads.Head(heads.Classification, 3),
    "number": heads.Head(heads.Regression, 1),
    "choice": heads.Head(heads.MultipleChoice, 2),
    "spans": heads.Head(heads.SpanClassification, 2),
    "tags": heads.Head(heads.TokenClassification, 5),
    "answer": heads.Head(heads.SpanExtraction, 2),
}


def rows(seed=0, n=ROWS, choices=None):
    rng = np.random.default_rng(seed)
    shape = (n, L) if choices is None else (n, choices, L)
    real = np.arange(L) < rng.integers(6, L, shape[:-1])[..., None]
    ids = (rng.integers(5, 40, shape) * real).astype(np.int32)
    positions = np.broadcast_to(np.arange(L, dtype=np.int32), shape)
    return {"input_ids": ids, "segment_ids": real.astype(np.int32), "token_type_ids": np.zeros(shape, np.int32), "positions": positions}


def batches():
    """One batch a task; the last row of each has no label, the one before it weight 0."""
    labels = {
        "pairs": np.array([0, 1, 2, 0, 1, -1], np.int32),
        "number": np.array([0.5, -1.0, 2.0, 0.0, 1.0, np.nan], np.float32),
        "choice": np.array([0, 1, 1, 0, 1, -1], np.int32),
        "spans": np.array([0, 1, 1, 0, 1, -1], np.int32),
        "tags": np.where(rows()["segment_ids"] > 0, np.arange(L) % 5, -1).astype(np.int32),
        "answer": np.array([[1, 2], [0, 3], [2, 2], [1, 4], [0, 0], [-1, -1]], np.int32),
    }
    weight = np.array([1, 1, 1, 1, 0, 1], np.float32)
    made = {task: rows(choices=3 if task == "choice" else None) | {"label": label, "weight": weight} for task, label in labels.items()}
    made["spans"]["spans"] = np.tile(np.array([[1, 3], [4, 5]], np.int32), (ROWS, 1, 1))
    return jax.tree.map(jnp.asarray, made)


def build(key):
    return finetuned.Finetuned(finetuned.Config(finetuned.Encoder(bert.Encoder, CONFIG), HEADS), key)


@pytest.fixture(scope="module")
def model():
    blueprint = Blueprint.draw(build, Partitioner(mesh.make(mesh.Shape(), jax.devices()[:1])))
    return blueprint.merge(blueprint.init_params(jax.random.key(0)))


@pytest.fixture(scope="module")
def logits(model):
    return nnx.jit(lambda model, made: {task: model.heads[task](model.encoder, batch) for task, batch in made.items()})(model, batches())


def test_shapes(logits):
    shapes = {task: x.shape for task, x in logits.items()}
    assert shapes == {"pairs": (6, 3), "number": (6, 1), "choice": (6, 3), "spans": (6, 2), "tags": (6, L, 5), "answer": (6, L, 2)}
    assert {x.dtype for x in logits.values()} == {jnp.dtype("float32")}


@pytest.mark.parametrize("task", ["pairs", "number", "choice", "spans", "answer"])
def test_rows_without_label_or_weight_count_nothing(task):
    assert HEADS[task].kind.weights(batches()[task]).tolist() == [1, 1, 1, 1, 0, 0]


def test_tokens_without_label_count_nothing():
    batch = batches()["tags"]
    weights = HEADS["tags"].kind.weights(batch)
    assert weights.shape == (6, L) and float(weights[4].sum()) == 0.0
    assert weights[0].tolist() == (np.asarray(batch["label"][0]) >= 0).astype(float).tolist()


def test_losses_in_closed_form():
    batch = batches()
    np.testing.assert_allclose(heads.Classification.losses(jnp.zeros((6, 3)), batch["pairs"]), np.log(3), rtol=1e-6)
    np.testing.assert_allclose(heads.Regression.losses(jnp.ones((6, 1)), batch["number"])[:5], [0.25, 4, 1, 1, 0], atol=1e-6)
    sure = jnp.zeros((6, L, 2)).at[:, 1, 0].set(50.0)  # certain of the start 1, of no end
    expected = [(0 + np.log(L)) / 2, (50 + np.log(L)) / 2, (50 + np.log(L)) / 2, (0 + np.log(L)) / 2]
    np.testing.assert_allclose(heads.SpanExtraction.losses(sure, batch["answer"])[:4], expected, rtol=1e-5)


def test_choices_are_scored_one_by_one(model, logits):
    batch = batches()["choice"]
    for choice in range(3):
        alone = {name: x[:, choice : choice + 1] if x.ndim == 3 else x for name, x in batch.items()}
        np.testing.assert_allclose(model.heads["choice"](model.encoder, alone)[:, 0], logits["choice"][:, choice], atol=1e-5)


def test_spans_are_means_of_their_tokens(model, logits):
    batch = batches()["spans"]
    hidden = heads.encode(model.encoder, batch, None)
    read = jnp.concatenate([model.encoder.pool(hidden), hidden[:, 1:3].mean(1), hidden[:, 4]], -1)
    np.testing.assert_allclose(model.heads["spans"].output(read), logits["spans"], atol=1e-5)


def test_answers_are_never_in_padding(logits):
    padded = np.asarray(batches()["answer"]["segment_ids"]) == 0
    assert (np.asarray(logits["answer"])[padded] < -1e8).all()


def test_answers_without_a_mask(model):
    """No mask: no padding."""
    batch = {"input_ids": batches()["answer"]["input_ids"]}
    whole = model.heads["answer"](model.encoder, batch | {"segment_ids": jnp.ones_like(batch["input_ids"])})
    np.testing.assert_allclose(model.heads["answer"](model.encoder, batch), whole, atol=1e-6)


def test_a_term_a_task(model, logits):
    objective, batch = Multitask(HEADS), batches()
    weights = objective.weights(batch)
    loss = jax.jit(lambda batch: objective(model, batch, Context(step=jnp.zeros((), jnp.int32), key=jax.random.key(0))))(batch)
    assert loss.terms.keys() == HEADS.keys()
    for task, term in loss.terms.items():
        assert float(term.weight) == float(weights[task])
        one = heads.build(HEADS[task], 16, jax.random.key(0)).losses(logits[task], batch[task]) * HEADS[task].kind.weights(batch[task])
        np.testing.assert_allclose(term.total, one.sum(), rtol=1e-5)
    assert loss.metrics["accuracy/pairs"].weight == 4.0


def test_dropout_needs_a_key(model):
    batch = batches()["pairs"]
    first, second = (model.heads["pairs"](model.encoder, batch, jax.random.key(i)) for i in (1, 2))
    assert not np.allclose(first, second)


def test_several_heads_want_a_name(model):
    with pytest.raises(Exception, match=r"this model has heads for .*pairs.*: say which"):
        model(jnp.ones((1, 4), jnp.int32))


METRICS = {"number": (metrics.pearson,), "answer": (metrics.span_exact_match,)}


ONE, EIGHT, SPREAD = mesh.Shape(), mesh.Shape(data=8), mesh.Shape(data=2, fsdp=2, tensor=2)


@pytest.mark.parametrize("task, shape", [("pairs", ONE), ("pairs", EIGHT), *((task, SPREAD) for task in HEADS)], ids=str)
def test_every_row_is_gathered_once_and_in_order(handmade, model, logits, task, shape):
    """Eleven rows that fill no batch of eight, over several meshes: what numpy reads off the same logits, and metrics of it."""
    repeated = np.array([3, 0, 2, 1, 0, 5, 2, 2, 4, 0, 1])
    arrays = {name: np.asarray(x)[repeated] for name, x in batches()[task].items() if name != "weight"}
    labels = () if task == "number" else tuple("abcde"[: 3 if task == "choice" else HEADS[task].outputs])
    described = tasks.Task(task, lambda *_: handmade(arrays), HEADS[task].kind, labels, METRICS.get(task, (metrics.accuracy,)))
    split = described.read("", "", L, "validation")
    blueprint = Blueprint.draw(build, Partitioner(mesh.make(shape, jax.devices()[: shape.data * shape.fsdp * shape.tensor])))
    params = blueprint.init_params(jax.random.key(0))
    found = Evaluation(blueprint, scores.Gathered(described, split), Ordered(split), 8)(params)
    given = np.asarray(logits[task])[repeated]
    if task == "number":
        np.testing.assert_allclose(found.answers, given[:, 0], atol=1e-5)
    else:
        np.testing.assert_array_equal(found.answers, given.argmax(1 if task == "answer" else -1))
    if task in ("pairs", "choice", "spans"):
        np.testing.assert_allclose(found.probabilities, jax.nn.softmax(given), atol=1e-5)
    assert np.array_equal(found.golds, arrays["label"], equal_nan=task == "number")
    assert found.idx.tolist() == list(range(11)) and split.counts == {"documents": 11}
    if shape == EIGHT:
        assert Evaluation(blueprint, scores.Scores(described, split), Ordered(split), 8)(params) == described.score(found)
