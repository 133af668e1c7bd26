"""Parity of T5 with transformers, from the outputs that torch gave (tests/golden/hf/README.md), and what its tables say."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from rootstock.engine.checkpoints import restack
from rootstock.models import hf, t5, t5_hf
from rootstock.models.layers import activations, parameters
from rootstock.models.layers.mlp import MLP, GatedMLP
from rootstock.models.layers.stack import address, save_nothing

STORED = Path(__file__).parents[1] / "golden" / "hf"
FAMILIES = {"t5_tied": t5_hf.FAMILY, "t5_gated": t5_hf.FAMILY, "mt5": t5_hf.MT5, "umt5": t5_hf.UMT5}
# Float32 noise of torch against its own float64 is below 1e-5 here, and logits are of size 5; ours is the same size.
CLOSE = dict(rtol=0, atol=2e-5)


@dataclasses.dataclass
class Stored:
    config: t5.Config
    graphdef: nnx.GraphDef
    params: dict
    cases: dict

    def case(self, number):
        """Their inputs as ours, and their outputs; padding of the targets is where no label is asked."""
        found = {name.split("/", 1)[1]: value for name, value in self.cases.items() if name.startswith(f"case{number}/")}
        targets = np.maximum(found["labels"], 0)
        decoder_ids = t5.shift_right(jnp.asarray(targets), self.config.start_id)
        return jnp.asarray(found["input_ids"]), decoder_ids, jnp.asarray(found["attention_mask"]), found

    def model(self, params=None):
        return parameters.merge(self.graphdef, self.params if params is None else params)

    def logits(self, *inputs, **segments):
        return jax.jit(lambda params: self.model(params)(*inputs, **segments).logits)(self.params)


@pytest.fixture(scope="module", params=FAMILIES)
def stored(request):
    return opened(request.param)


def opened(name, **changes):
    folder, family = STORED / name, FAMILIES[name]
    config = dataclasses.replace(hf.config(family, json.loads((folder / "config.json").read_text())), **changes)
    model = parameters.abstract(lambda key: t5.T5(config, key))
    shapes = {name: spec.shape for name, spec in parameters.specs(model).items()}
    tensors = load_file(folder / "model.safetensors")
    params = restack(hf.Table(family, next(iter(family.forms)), config).convert(tensors), shapes)
    with np.load(folder / "cases.npz") as cases:
        return Stored(config, nnx.split(model)[0], {key: jnp.asarray(value) for key, value in params.items()}, dict(cases))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_outputs(stored, number):
    ids, decoder_ids, mask, found = stored.case(number)

    @jax.jit
    def outputs(params):
        model = stored.model(params)
        return model(ids, decoder_ids, segment_ids=mask), model.encode(ids, segment_ids=mask)

    out, memory = outputs(stored.params)
    real = found["labels"] >= 0
    np.testing.assert_allclose(out.logits[real], found["logits"][real], **CLOSE)
    np.testing.assert_allclose(out.last_hidden_state[real], found["last_hidden_state"][real], **CLOSE)
    np.testing.assert_allclose(memory[mask == 1], found["encoder_last_hidden_state"][mask == 1], **CLOSE)


def test_unrolled_and_recomputed(stored, request):
    """The same numbers, whichever way the layers are stored."""
    other = opened(request.node.callspec.params["stored"], scan=False, remat=save_nothing)
    ids, decoder_ids, mask, found = other.case(1)
    real = found["labels"] >= 0
    np.testing.assert_allclose(other.logits(ids, decoder_ids, segment_ids=mask)[real], found["logits"][real], **CLOSE)


def test_packed_rows(stored):
    """All three pairs of a case in one row, apart by segment: torch's logits of each alone."""
    _, _, mask, found = stored.case(1)
    targets = found["labels"] >= 0
    row = lambda values, where: np.concatenate([value[keep] for value, keep in zip(values, where, strict=True)])[None]
    segments = lambda where: jnp.asarray(np.repeat([1, 2, 3], where.sum(1))[None])
    ids, labels = row(found["input_ids"], mask == 1), row(found["labels"], targets)
    decoder_ids = t5.shift_right(jnp.asarray(labels), stored.config.start_id, segments(targets))
    logits = stored.logits(jnp.asarray(ids), decoder_ids, segment_ids=segments(mask == 1), decoder_segment_ids=segments(targets))
    np.testing.assert_allclose(logits[0], found["logits"][targets], **CLOSE)


def test_mixed_lengths_as_one_at_a_time(stored):
    _, decoder_ids, mask, found = stored.case(1)
    for row, length in enumerate(np.asarray(mask.sum(1))):
        real = found["labels"][row] >= 0
        alone = stored.logits(jnp.asarray(found["input_ids"][row : row + 1, :length]), decoder_ids[row : row + 1, : real.sum()])
        np.testing.assert_allclose(alone[0], found["logits"][row, real], **CLOSE)


@pytest.mark.parametrize("width", [1, 3])
def test_step_by_step(stored, width):
    """Decoding with the cache, `width` targets at a time, gives the logits of teacher forcing."""
    ids, decoder_ids, mask, found = stored.case(1)
    state, length = jax.jit(lambda params: stored.model(params).start(ids, mask, 15))(stored.params), decoder_ids.shape[1]
    step = jax.jit(lambda params, ids, index, state: stored.model(params).step(ids, index, state))
    logits = []
    padded = jnp.pad(decoder_ids, ((0, 0), (0, -length % width)))
    for index in range(0, length, width):
        found_now, state = step(stored.params, padded[:, index : index + width], jnp.asarray(index), state)
        logits.append(found_now)
    real = found["labels"] >= 0
    np.testing.assert_allclose(jnp.concatenate(logits, 1)[:, :length][real], found["logits"][real], **CLOSE)


def test_the_tables_have_every_parameter_once(stored, request):
    """A parameter without a row, or with two, would be lost on the way."""
    family = FAMILIES[request.node.callspec.params["stored"]]
    names = {canonical for name in stored.params for canonical, _ in address(name)}
    table = hf.Table(family, next(iter(family.forms)), stored.config)
    back = table.convert_back(dict.fromkeys(names, np.zeros((1, 1))))
    assert len(back) == len(names) and table.convert(back).keys() == names
    assert back.keys() == load_file(STORED / request.node.callspec.params["stored"] / "model.safetensors").keys()


# Configurations


SIZES = dict(vocab_size=32128, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8)


@pytest.mark.parametrize("family, said, ours", [
    (t5_hf.FAMILY, {}, t5.Config(decoder_layers=None)),  # t5-small says no more than the sizes
    (t5_hf.FAMILY, dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False, num_decoder_layers=4),
     t5.Config(decoder_layers=4, tied=False, mlp=GatedMLP, activation=activations.gelu_tanh)),
    (t5_hf.FAMILY, dict(tie_word_embeddings=True, scale_decoder_outputs=False), t5.Config(tied=False)),
    (t5_hf.MT5, dict(tie_word_embeddings=True, initializer_factor=2.0),
     t5.Config(tied=False, mlp=GatedMLP, activation=activations.gelu_tanh, init_scale=2.0)),
    (t5_hf.UMT5, dict(decoder_start_token_id=3, feed_forward_proj="silu"),
     t5.Config(per_layer_bias=True, start_id=3, activation=activations.silu)),
])  # fmt: skip
def test_configurations(family, said, ours):
    assert hf.config(family, SIZES | said) == ours
    back = hf.config_back(family, ours)
    assert hf.config(family, back) == ours and {name: back[name] for name in SIZES} == SIZES


@pytest.mark.parametrize("said, message", [
    (dict(feed_forward_proj="gated-tanh"), r"feed_forward_proj is 'gated-tanh'; known are relu, gated-gelu, gated-silu"),
    (dict(feed_forward_proj=["relu"]), r"feed_forward_proj is \['relu'\]"),
    (dict(tie_word_embeddings=1), "tie_word_embeddings is 1; known are True, False"),
    (dict(num_decoder_layers=0), "num_decoder_layers is 0; expected a whole number of at least 1"),
    (dict(num_layers=None), "num_layers is None; expected a whole number of at least 1"),
    (dict(decoder_start_token_id=-1), "decoder_start_token_id is -1; expected a whole number of at least 0"),
    (dict(initializer_factor=float("inf")), "initializer_factor is inf; expected a number of at least 0"),
    (dict(is_decoder=True), "is_decoder is True; of t5 only False is known here"),
])  # fmt: skip
def test_configurations_that_are_refused(said, message):
    with pytest.raises(hf.Mismatch, match=message):
        hf.config(t5_hf.FAMILY, SIZES | said)


def test_which_family_speaks_of_ours():
    assert hf.family_of(t5.Config(tied=False)) is t5_hf.FAMILY and hf.family_of(t5.Config(per_layer_bias=True)) is t5_hf.UMT5
    odd = t5.Config(activation=activations.gelu_tanh, mlp=type("Other", (MLP,), {}))
    message = r"Config\.activation is gelu_tanh and Config\.mlp is Other; transformers' t5 knows relu with MLP, gelu_tanh with GatedMLP"
    with pytest.raises(hf.Mismatch, match=message):
        hf.config_back(hf.family_of(odd), odd)


def test_an_output_of_its_own():
    table, other = np.ones((3, 2)), np.full((3, 2), 2.0)
    original = lambda tied, **found: hf.original(t5_hf.FAMILY, t5.Config(tied=tied), found)
    copies = {"shared.weight": table, "encoder.embed_tokens.weight": table, "lm_head.weight": table}
    assert original(True, **copies).keys() == {"shared.weight"}
    assert original(True, **{"decoder.embed_tokens.weight": table}).keys() == {"shared.weight"}
    with pytest.raises(hf.Mismatch, match=r"lm_head\.weight differs from shared\.weight"):
        original(True, **copies | {"lm_head.weight": other})
    assert (original(False, **copies | {"lm_head.weight": other})["lm_head.weight"] == 2).all()
    assert (original(False, **{"shared.weight": table})["lm_head.weight"] == 1).all()  # transformers 5 wrote the two as one
