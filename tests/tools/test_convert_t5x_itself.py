"""tools/convert_t5x.py on checkpoints that T5X itself wrote, in both of its layouts, of models that it trained for two steps.

Runs where a T5X checkout and what it asks for (airio, jestimator, clu, fiddle, cached-property) are on PYTHONPATH.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

pytest.importorskip("t5x", reason="no T5X checkout is on PYTHONPATH")
import seqio
from t5x import adafactor, models, partitioning, train_state, trainer
from t5x import checkpoints as theirs
from t5x.examples.t5 import network

from rootstock.engine import checkpoints, load, optimizers, state
from rootstock.models import hf
from rootstock.models.layers.stack import unstack
from rootstock.tools import convert_t5x, t5x_names

VOCABULARY, LENGTH, TARGETS, BATCH = 200, 9, 6, 8
FORMS = {"1.0": dict(mlp_activations=("relu",), logits_via_embedding=True), "1.1": dict(mlp_activations=("gelu", "linear"))}


def batch():
    rng = np.random.default_rng(0)
    inputs, targets = (rng.integers(3, VOCABULARY, (BATCH, size)).astype(np.int32) for size in (LENGTH, TARGETS))
    inputs[:2, -4:], targets[1:3, -2:] = 0, 0  # padding
    before = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
    return {"encoder_input_tokens": inputs, "decoder_target_tokens": targets, "decoder_input_tokens": before,
            "decoder_loss_weights": (targets > 0).astype(np.int32)}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def promotion():
    """T5X relies on what our package refuses."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module", params=FORMS)
def trained(request, promotion):
    """T5X's model, its state after two steps, and the gradients of the third."""
    sizes = dict(emb_dim=128, num_heads=2, head_dim=64, mlp_dim=160, num_encoder_layers=3, num_decoder_layers=2)
    config = network.T5Config(VOCABULARY, jnp.float32, dropout_rate=0.0, **sizes, **FORMS[request.param])
    vocabulary = seqio.PassThroughVocabulary(VOCABULARY)
    update = adafactor.Adafactor(decay_rate=0.8, step_offset=0, logical_factor_rules=adafactor.standard_logical_factor_rules())
    model = models.EncoderDecoderModel(network.Transformer(config), vocabulary, vocabulary, update)
    data = batch()
    variables = jax.jit(functools.partial(model.get_initial_variables, input_shapes={name: value.shape for name, value in data.items()}))(
        jax.random.PRNGKey(0)
    )
    found = train_state.FlaxOptimTrainState.create(update, variables)
    step = jax.jit(functools.partial(trainer.train_with_lr, model=model, num_microbatches=None, learning_rate=0.01))
    for _ in range(2):
        found, _ = step(found, data, dropout_rng=jax.random.PRNGKey(1))
    return model, found, jax.jit(jax.grad(lambda params: model.loss_fn(params, data, None)[0]))(found.params)


@pytest.fixture(scope="module", params=["legacy", "orbax"])
def converted(request, trained, tmp_path_factory):
    """Our folder of what T5X saved."""
    _, found, _ = trained
    place = tmp_path_factory.mktemp("t5x")
    (place / "run").mkdir()
    partitioner = partitioning.PjitPartitioner(num_partitions=1)
    if request.param == "legacy":
        theirs.Checkpointer(found, partitioner, str(place / "run")).save(found)
    else:
        manager = theirs.OrbaxCheckpointManagerInterface(str(place / "run"), found, partitioner)
        manager.save(found)
        manager.close()
    assert convert_t5x.main([f"--from={place / 'run'}", f"--to={place / 'ours'}", "--slots"]) == 0
    return place / "ours"


def test_logits(trained, converted):
    model, found, _ = trained
    blueprint, params = load.load(converted)
    data = batch()
    wanted, ours = jax.jit(lambda theirs: model._compute_logits(theirs, data))(found.params), blueprint.merge(params)
    call = jax.jit(lambda ids, before, mask: ours(ids, before, segment_ids=mask).logits)
    logits = call(data["encoder_input_tokens"], data["decoder_input_tokens"], np.int32(data["encoder_input_tokens"] > 0))
    real = data["decoder_target_tokens"] > 0
    np.testing.assert_allclose(logits[real], wanted[real], rtol=0, atol=1e-4)


def test_its_next_update(trained, converted):
    """What T5X's Adafactor makes of the next gradients, ours makes with the moments that were converted."""
    _, found, grads = trained
    moved = found.apply_gradient(grads, learning_rate=1.0).params
    flat = lambda tree: {"target/" + "/".join(part.key for part in path): np.asarray(x) for path, x in jax.tree.leaves_with_path(tree)}
    blueprint, params = load.load(converted)
    table = hf.Table(t5x_names.FAMILY, "T5X's T5", blueprint.model.config)
    optimizer = optimizers.adafactor(optax.constant_schedule(1.0)).tx
    saved = checkpoints.Checkpoints(converted)
    restored, _ = saved.restore(state.abstract(blueprint, [(optimizer, blueprint.trainable)], ()))
    saved.close()
    assert int(restored.step) == 2
    given = checkpoints.restack(table.convert(flat(grads)), {name: value.shape for name, value in params.items()})
    updates, _ = jax.jit(optimizer.update)(given, restored.opt_state[0], restored.params)
    wanted = table.convert(flat(jax.tree.map(jnp.subtract, moved, found.params)))
    for name, value in unstack(updates).items():
        np.testing.assert_allclose(value, unstack(wanted)[name], rtol=1e-4, atol=1e-5, err_msg=name)
