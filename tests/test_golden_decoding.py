"""The stored case of generation is what golden/decoding/make.py makes with the torch and transformers installed here."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

STORED = Path(__file__).parent / "golden" / "decoding"


@pytest.mark.slow
def test_made_anew(tmp_path):
    """Weights bit for bit, the same tokens, scores to 1e-5."""
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed, and the stored case cannot be made anew without it")
    # Its own process: torch's threads and warnings stay out of this one.
    run = subprocess.run([sys.executable, STORED / "make.py", "--out", tmp_path], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "config.json").read_text() == (STORED / "config.json").read_text()
    stored, new = (load_file(folder / "model.safetensors") for folder in (STORED, tmp_path))
    assert stored.keys() == new.keys()
    for name in stored:
        np.testing.assert_array_equal(new[name], stored[name], err_msg=name)
    with np.load(STORED / "cases.npz") as stored, np.load(tmp_path / "cases.npz") as new:
        assert sorted(stored.files) == sorted(new.files)
        for name in stored.files:
            if name.endswith("scores"):
                np.testing.assert_allclose(new[name], stored[name], rtol=1e-5, err_msg=name)
            else:
                np.testing.assert_array_equal(new[name], stored[name], err_msg=name)
