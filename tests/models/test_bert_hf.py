"""Parity with transformers, from the outputs that torch gave (tests/golden/hf/README.md)."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from rootstock.engine.checkpoints import restack
from rootstock.models import bert, bert_hf, hf
from rootstock.models.layers import parameters
from rootstock.models.layers.stack import address, save_nothing
from rootstock.models.layers.tap import tapped

STORED = Path(__file__).parents[1] / "golden" / "hf"
# Float32 noise of torch against its own float64 is 2e-6 here; ours is the same size. The wrong gelu is off by 7e-4 or more.
CLOSE = dict(rtol=0, atol=1e-5)


@pytest.fixture(scope="module", params=["bert_pretraining", "bert_gelu_new"])
def stored(request):
    """Our model with their weights, and their cases."""
    folder = STORED / request.param
    config = hf.config(bert_hf.FAMILY, json.loads((folder / "config.json").read_text()))
    build = lambda key: bert.PreTraining(config, key)
    model = parameters.abstract(build)
    shapes = {name: spec.shape for name, spec in parameters.specs(model).items()}
    params = restack(hf.Table(bert_hf.FAMILY, "BertForPreTraining", config).convert(load_file(folder / "model.safetensors")), shapes)
    with np.load(folder / "cases.npz") as cases:
        return nnx.split(model)[0], {name: jnp.asarray(value) for name, value in params.items()}, dict(cases)


@pytest.mark.parametrize("case", ["case0", "case1", "case2"])
def test_outputs(stored, case):
    graphdef, params, cases = stored
    real = cases[f"{case}/attention_mask"] == 1

    @jax.jit
    def outputs(params):
        model = parameters.merge(graphdef, params)
        with tapped(want={"embeddings", "layers/hidden"}) as taps:
            out = model(
                jnp.asarray(cases[f"{case}/input_ids"]),
                token_type_ids=jnp.asarray(cases[f"{case}/token_type_ids"]),
                segment_ids=jnp.asarray(cases[f"{case}/attention_mask"]),
            )
        hidden = jnp.stack([*taps["embeddings"], *taps["layers/hidden"]])
        return out, model.encoder.pool(out.last_hidden_state), model.next_sentence_logits(out.last_hidden_state), hidden

    out, pooled, next_sentence, hidden = outputs(params)
    np.testing.assert_allclose(out.last_hidden_state[real], cases[f"{case}/last_hidden_state"][real], **CLOSE)
    np.testing.assert_allclose(out.logits[real], cases[f"{case}/logits"][real], **CLOSE)
    np.testing.assert_allclose(pooled, cases[f"{case}/pooler_output"], **CLOSE)
    np.testing.assert_allclose(next_sentence, cases[f"{case}/seq_relationship_logits"], **CLOSE)
    if case == "case0":
        np.testing.assert_allclose(hidden[:, real], cases["case0/hidden_states"][:, real], **CLOSE)


def test_other_spellings_of_names():
    names = ["encoder.layer.11.output.LayerNorm.gamma", "pooler.dense.weight", "bert.embeddings.LayerNorm.beta", "embeddings.position_ids"]
    assert hf.spelt(bert_hf.FAMILY, names) == {
        names[0]: "bert.encoder.layer.11.output.LayerNorm.weight",
        names[1]: "bert.pooler.dense.weight",
        names[2]: "bert.embeddings.LayerNorm.bias",
    }
    with pytest.raises(hf.Mismatch, match=r"bert\.pooler\.dense\.weight stands twice"):
        hf.spelt(bert_hf.FAMILY, ["pooler.dense.weight", "bert.pooler.dense.weight"])


def test_canonical_names_and_transposes():
    canonical = lambda name, form="BertForPreTraining": hf.Table(bert_hf.FAMILY, form, bert.Config()).canonical(name)
    assert canonical("bert.encoder.layer.11.output.LayerNorm.weight") == ("encoder/layers/11/mlp_norm/scale", False)
    assert canonical("bert.pooler.dense.weight") == ("encoder/pooler/kernel", True)
    assert canonical("classifier.weight", "BertForMultipleChoice") == ("head/output/kernel", True)
    with pytest.raises(hf.Mismatch, match=r"classifier\.weight is no tensor of BertForPreTraining"):
        canonical("classifier.weight")
    with pytest.raises(hf.Mismatch, match=r"layer\.01"):
        canonical("bert.encoder.layer.01.output.LayerNorm.weight")


def test_the_table_has_every_parameter_once():
    """Of every class of ours: a parameter without a row, or with two, would be lost on the way."""
    config = bert.Config(vocab_size=7, width=4, layers=2, heads=2, mlp_width=6, max_length=5)
    for form, build in {"BertForPreTraining": bert.PreTraining, "BertForMaskedLM": bert.MaskedLM, "BertModel": bert.Encoder}.items():
        model = parameters.abstract(lambda key, build=build: build(config, key))
        names = {("" if form != "BertModel" else "encoder/") + name for stored in parameters.specs(model) for name, _ in address(stored)}
        table = hf.Table(bert_hf.FAMILY, form, config)
        back = table.convert_back(dict.fromkeys(names, np.zeros((1, 1))))
        spelt = hf.spelt(bert_hf.FAMILY, back)
        assert table.convert({spelt[name]: value for name, value in back.items()}).keys() == names
        assert len(back) == len(names) and (form != "BertModel" or not any(name.startswith("bert.") for name in back))


def test_tied_copies():
    first = {"bert.embeddings.word_embeddings.weight": np.ones((3, 2))}
    original = lambda **changed: hf.original(bert_hf.FAMILY, bert.Config(), first | changed)
    copy = "cls.predictions.decoder.weight"
    assert original(**{copy: np.ones((3, 2))}).keys() == {"bert.embeddings.word_embeddings.weight"}
    for other in (np.ones((2, 3)), np.full((3, 2), 2.0)):
        with pytest.raises(hf.Mismatch, match=r"decoder\.weight differs from bert\.embeddings"):
            original(**{copy: other})
    assert (hf.original(bert_hf.FAMILY, bert.Config(), {"cls.predictions.decoder.bias": np.ones(3)})["cls.predictions.bias"] == 1).all()


def test_what_no_config_json_can_say():
    with pytest.raises(hf.Mismatch, match=r"Config\.attention is Other; transformers' bert knows only Attention"):
        hf.config_back(bert_hf.FAMILY, bert.Config(attention=type("Other", (), {})))
    with pytest.raises(hf.Mismatch, match=r"Config\.activation is tanh; transformers' bert knows gelu, gelu_tanh, relu"):
        hf.config_back(bert_hf.FAMILY, bert.Config(activation=np.tanh))
    assert hf.config_back(bert_hf.FAMILY, bert.Config(dtype="bfloat16", scan=False, remat=save_nothing))["hidden_act"] == "gelu"
