"""T5X's side of t5_step.py: its example network of T5 1.1 with its Adafactor, through its own training function, compiled."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import seqio
import worker
from t5x import adafactor, models, train_state, trainer
from t5x.examples.t5 import network


def make(layers, width, heads, head_dim, mlp_width, vocab_size, length, target_length, batch, dropout) -> worker.Step:
    config = network.T5Config(
        vocab_size=vocab_size,
        dtype=jnp.float32,
        emb_dim=width,
        num_heads=heads,
        num_encoder_layers=layers,
        num_decoder_layers=layers,
        head_dim=head_dim,
        mlp_dim=mlp_width,
        mlp_activations=("gelu", "linear"),
        dropout_rate=dropout,
    )
    vocabulary = seqio.PassThroughVocabulary(vocab_size)
    update = adafactor.Adafactor(decay_rate=0.8, step_offset=0, logical_factor_rules=adafactor.standard_logical_factor_rules())
    model = models.EncoderDecoderModel(network.Transformer(config), vocabulary, vocabulary, update, z_loss=1e-4)
    rng = np.random.default_rng(0)
    inputs, targets = (rng.integers(5, vocab_size, (batch, size)).astype(np.int32) for size in (length, target_length))
    before = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
    data = {"encoder_input_tokens": inputs, "decoder_target_tokens": targets, "decoder_input_tokens": before}
    data["decoder_loss_weights"] = np.ones_like(targets)
    variables = model.get_initial_variables(jax.random.PRNGKey(0), {name: value.shape for name, value in data.items()})
    made = train_state.FlaxOptimTrainState.create(update, variables)
    train = functools.partial(trainer.train_with_lr, model=model, num_microbatches=None, learning_rate=1e-3)
    step = jax.jit(lambda state, batch, key: train(state, batch, dropout_rng=key), donate_argnums=0)
    held = {"state": made, "key": jax.random.PRNGKey(1)}

    def steps(count: int) -> float:
        for _ in range(count):
            held["key"], key = jax.random.split(held["key"])
            held["state"], measured = step(held["state"], data, key)
        jax.block_until_ready(held["state"])
        return float(measured["loss_per_nonpadding_target_token"].compute_value().value)

    return steps


def device() -> str:
    return f"T5X with jax {jax.__version__} on {jax.default_backend()}, {jax.devices()[0].device_kind}"


if __name__ == "__main__":
    worker.serve({"device": device}, make)
