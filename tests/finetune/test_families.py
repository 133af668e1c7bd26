"""Every head on every family of encoders: what it reads, and one loss whatever the mesh and however the layers are stored."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.engine import mesh
from rootstock.engine.partitioning import Partitioner
from rootstock.engine.sockets import Context
from rootstock.engine.state import Blueprint
from rootstock.finetune import finetuned, heads
from rootstock.finetune.answerers import Asked, ByHeads, Opened
from rootstock.finetune.objective import Multitask
from rootstock.finetune.tasks import find
from rootstock.models import albert, bert, deberta, electra, modernbert, roberta
from rootstock.models.layers import stack
from rootstock.models.layers.axes import constrained_by

ROWS, LENGTH, CHOICES = 8, 12, 2
SMALL = dict(vocab_size=40, width=16, layers=2, heads=2, mlp_width=16, dropout=0.0, attention_dropout=0.0, init_std=0.3, pooler=True)
FAMILIES = {
    "bert": (bert.Encoder, bert.Config(**SMALL, max_length=LENGTH)),
    "roberta": (roberta.Encoder, roberta.Config(**SMALL, max_length=LENGTH + 2)),
    "albert": (albert.Encoder, albert.Config(**SMALL, max_length=LENGTH, embedding_width=8, groups=2)),
    "electra": (electra.Encoder, electra.Config(**SMALL, max_length=LENGTH, embedding_width=8)),
    "deberta v1": (deberta.Encoder, deberta.v1(**SMALL, max_distance=4)),
    "deberta": (deberta.Encoder, deberta.Config(**SMALL, buckets=4, max_distance=LENGTH, conv_kernel=3)),
    "modernbert": (modernbert.Encoder, modernbert.Config(**SMALL, max_length=LENGTH, window=2, pooling=modernbert.mean_of_tokens)),
}
HEADS = {
    "pairs": heads.Head(heads.Classification, 3),
    "number": heads.Head(heads.Regression, 1),
    "choice": heads.Head(heads.MultipleChoice, CHOICES),
    "spans": heads.Head(heads.SpanClassification, 2),
    "tags": heads.Head(heads.TokenClassification, 4),
    "answer": heads.Head(heads.SpanExtraction, 2),
}
MESHES = {"one": mesh.Shape(), "data2_fsdp2_tensor2": mesh.Shape(data=2, fsdp=2, tensor=2), "fsdp8": mesh.Shape(data=1, fsdp=8)}


def batches():
    """One batch a task; rows of 5 to 12 tokens."""
    chance = np.random.default_rng(0)

    def rows(*shape):
        real = np.arange(LENGTH) < chance.integers(5, LENGTH + 1, shape)[..., None]
        ids = chance.integers(5, 40, real.shape) * real
        return {"input_ids": ids.astype(np.int32), "segment_ids": real.astype(np.int32)}

    labels = {
        "pairs": chance.integers(0, 3, ROWS).astype(np.int32),
        "number": chance.normal(size=ROWS).astype(np.float32),
        "choice": chance.integers(0, CHOICES, ROWS).astype(np.int32),
        "spans": chance.integers(0, 2, ROWS).astype(np.int32),
        "tags": chance.integers(-1, 4, (ROWS, LENGTH)).astype(np.int32),
        "answer": chance.integers(0, 5, (ROWS, 2)).astype(np.int32),
    }
    weight = np.array([1, 1, 0, 1, 1, 1, 1, 1], np.float32)
    made = {task: rows(*((ROWS, CHOICES) if task == "choice" else (ROWS,))) | {"label": x, "weight": weight} for task, x in labels.items()}
    made["spans"]["spans"] = np.tile(np.array([[1, 3], [4, 5]], np.int32), (ROWS, 1, 1))
    return made


def blueprint(name, where="one", scan=True):
    kind, config = FAMILIES[name]
    config = dataclasses.replace(config, scan=scan)
    shape = MESHES[where]
    partitioner = Partitioner(mesh.make(shape, jax.devices()[: 1 if where == "one" else 8]))
    return Blueprint.draw(lambda key: finetuned.Finetuned(finetuned.Config(finetuned.Encoder(kind, config), HEADS), key), partitioner)


@pytest.mark.parametrize("name, most, expected", [("bert", 512, 512), ("bert", 40, 40), ("roberta", 42, 40), ("modernbert", 8192, 512)])
def test_rows_of_an_evaluation_fit_the_model(name, most, expected):
    """Where no length is asked for: 512 tokens, or as many as there are positions."""
    kind, config = FAMILIES[name]
    whole = finetuned.Config(finetuned.Encoder(kind, dataclasses.replace(config, max_length=most)), HEADS)
    drawn = Blueprint.draw(lambda key: finetuned.Finetuned(whole, key), Partitioner(mesh.make(mesh.Shape(), jax.devices()[:1])))
    length = ByHeads(Opened("x", drawn, {}), Asked("", "")).length
    assert length == expected
    hidden = jax.eval_shape(
        lambda params, ids: drawn.merge(params).encoder(ids),
        {name: jax.ShapeDtypeStruct(spec.shape, spec.dtype) for name, spec in drawn.specs.items()},
        jnp.zeros((1, length), jnp.int32),
    )
    assert jax.tree.leaves(hidden)[0].shape[1] == length


@pytest.mark.parametrize(
    "task, head, order",
    [
        ("mnli", heads.Head(heads.Classification, 3, labels=("CONTRADICTION", "NEUTRAL", "ENTAILMENT")), (2, 1, 0)),
        ("mnli", heads.Head(heads.Classification, 3), None),
        ("mnli", heads.Head(heads.Classification, 3, labels=("a", "b", "c")), "its head tells apart a, b, c, the task entailment"),
        ("mnli", heads.Head(heads.Classification, 2), "its head is a Classification of 2, the task wants a Classification of 3"),
        ("copa", heads.Head(heads.MultipleChoice, 1), None),  # as convert_hf has it
        ("stsb", heads.Head(heads.Regression, 1, labels=("score",)), None),
        ("rte", heads.Head(heads.Classification, 2, labels=("not-entailment", "entailment")), (1, 0)),
        ("rte", heads.Head(heads.Classification, 2, labels=("Entailment", "entailment")), "give equal classes equal names"),
    ],
)
def test_heads_of_other_programs(task, head, order):
    """Which of a converted head's outputs stands for each class, or why it does not answer the task."""
    kind, config = FAMILIES["bert"]
    whole = finetuned.Config(finetuned.Encoder(kind, config), {task: head})
    drawn = Blueprint.draw(lambda key: finetuned.Finetuned(whole, key), Partitioner(mesh.make(mesh.Shape(), jax.devices()[:1])))
    by = ByHeads(Opened("x", drawn, {}), Asked("", ""))
    if isinstance(order, str):
        assert order in by.missing([find(task)])[task]
    else:
        assert by.missing([find(task)]) == {} and by._order(find(task)) == order


@functools.cache
def values(name):
    """Parameters by canonical name, the same for all."""
    return stack.unstack(jax.device_get(blueprint(name).init_params(jax.random.key(0))))


def params(name, blueprint):
    found = {}
    for stored in blueprint.specs:
        parts = [values(name)[canonical] for canonical, _ in stack.address(stored)]
        found[stored] = jax.device_put(np.stack(parts) if stack.stacked(stored) else parts[0], blueprint.shardings[stored])
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_every_head_reads_its_rows(name, monkeypatch):
    """Logits of different rows differ, and what stands at padding changes none. The encoder runs once for all heads."""
    plan = blueprint(name)
    model = plan.merge(params(name, plan))
    made = jax.tree.map(jnp.asarray, batches())
    rows = {key: made["choice"][key].reshape(-1, LENGTH) for key in ("input_ids", "segment_ids")}
    real = rows["segment_ids"] > 0
    encode = jax.jit(lambda params, ids: plan.merge(params).encoder(ids, segment_ids=rows["segment_ids"]))
    hidden = [encode(params(name, plan), jnp.where(real, rows["input_ids"], filler)) for filler in (0, 7)]
    monkeypatch.setattr(heads, "encode", lambda encoder, batch, key: batch["hidden"].reshape(-1, *hidden[0].shape[1:]))
    for task, batch in made.items():
        shape = (ROWS, CHOICES) if task == "choice" else (ROWS * CHOICES,)
        given = {key: value.reshape(*shape, LENGTH) for key, value in rows.items()}
        if "spans" in batch:
            given["spans"] = jnp.concatenate([batch["spans"]] * CHOICES)
        monkeypatch.setattr(heads, "INPUTS", ("input_ids", "segment_ids", "hidden"))
        found, same = (model.heads[task](model.encoder, given | {"hidden": x.reshape(*shape, LENGTH, -1)}) for x in hidden)
        where = real if task in ("tags", "answer") else ...
        np.testing.assert_array_equal(found[where], same[where], err_msg=task)
        assert np.abs(found[0] - found[1]).max() > 1e-3, task


def run(name, tasks, where="one", scan=True):
    """The loss of each task, and the gradient of their sum by canonical name."""
    plan = blueprint(name, where, scan)
    made = jax.tree.map(lambda x: jax.device_put(x, plan.partitioner.batch), {task: batches()[task] for task in tasks})
    context = Context(step=jnp.zeros((), jnp.int32), key=jax.random.key(0))

    def total(params):
        terms = Multitask(HEADS)(plan.merge(params), made, context).terms
        losses = {task: term.total / term.weight for task, term in terms.items()}
        return sum(losses.values()), losses

    with constrained_by(plan.partitioner.constraint()):
        (_, losses), grads = jax.jit(jax.value_and_grad(total, has_aux=True))(params(name, plan))
    return {task: float(loss) for task, loss in losses.items()}, stack.unstack(jax.device_get(grads))


def everywhere(name, tasks, others):
    losses, grads = run(name, tasks)
    assert losses.keys() == set(tasks) and all(np.isfinite(list(losses.values())))
    for where, scan in others:
        found, other = run(name, tasks, where, scan)
        np.testing.assert_allclose([found[task] for task in losses], list(losses.values()), rtol=0, atol=1e-5, err_msg=where)
        assert other.keys() == grads.keys()
        for key, grad in grads.items():
            np.testing.assert_allclose(other[key], grad, rtol=0, atol=1e-5 * max(1.0, np.abs(grad).max()), err_msg=f"{where} {key}")


def test_one_loss_on_eight_devices():
    """Under the same rules as on one."""
    everywhere("roberta", ("pairs", "answer"), [("data2_fsdp2_tensor2", True)])


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_one_loss_everywhere(name):
    """And with layers unrolled; a family that shares its layers has no other way of storing them."""
    everywhere(name, tuple(HEADS), [("data2_fsdp2_tensor2", True), ("fsdp8", True)] + ([("one", False)] if name != "albert" else []))
