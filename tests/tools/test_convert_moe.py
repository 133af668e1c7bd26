"""Whole Switch and Mixtral models of transformers, in and out again. golden/moe/make.py made the folders."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from rootstock.engine import load
from rootstock.tools import convert_moe

STORED = Path(__file__).parents[1] / "golden" / "moe"


@pytest.fixture(scope="module", params=["switch", "mixtral"])
def converted(request, tmp_path_factory):
    target = tmp_path_factory.mktemp("moe") / request.param
    assert convert_moe.main([f"--from_hf={STORED / request.param}", f"--to={target}"]) == 0
    return request.param, target


def test_logits(converted):
    name, target = converted
    blueprint, params = load.load(target)
    cases = np.load(STORED / name / "cases.npz")
    ids = [cases[key] for key in ("input_ids", "decoder_input_ids") if key in cases]
    logits = jax.jit(lambda params, ids: blueprint.merge(params)(*ids).logits)(params, ids)
    scale = np.abs(cases["logits"]).max()
    np.testing.assert_allclose(logits, cases["logits"], rtol=0, atol=1e-4 * scale)
    assert cases["logits"].std() > 0.03


def test_back_bit_for_bit(converted, tmp_path):
    name, target = converted
    assert convert_moe.main([f"--from={target}", f"--to_hf={tmp_path / 'back'}"]) == 0
    theirs, ours = (load_file(folder / "model.safetensors") for folder in (STORED / name, tmp_path / "back"))
    assert sorted(theirs) == sorted(ours)
    assert [key for key in theirs if theirs[key].tobytes() != ours[key].tobytes()] == []
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (STORED / name, tmp_path / "back"))
    known = set(before) & set(after) - {"dtype", "rope_parameters"}
    assert len(known) > 12 and {key: before[key] for key in known} == {key: after[key] for key in known}


@pytest.mark.parametrize(
    "change, says",
    [
        ({"model_type": "llama"}, "known here are"),
        ({"router_bias": True}, "router_bias is True"),
        ({"num_experts": 4}, r"the experts \[0, 1, 2\]"),
        ({"num_sparse_encoder_layers": 1}, "has experts; known are all"),
        ({"d_model": 0}, "d_model is 0"),
    ],
)
def test_what_is_refused(tmp_path, capsys, change, says):
    folder = tmp_path / "theirs"
    folder.mkdir()
    for file in ("config.json", "model.safetensors"):
        (folder / file).write_bytes((STORED / "switch" / file).read_bytes())
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    assert convert_moe.main([f"--from_hf={folder}", f"--to={tmp_path / 'ours'}"]) == 2
    said = capsys.readouterr().err
    assert says.replace("\\", "") in said and "Traceback" not in said
    assert not (tmp_path / "ours").exists()
