"""transformers opens what we write: no tensor missing, unexpected or of another shape, and torch gives our outputs. Needs torch."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rootstock
from rootstock.data import vocabularies
from rootstock.tools import convert_hf

STORED = Path(__file__).parents[1] / "golden" / "hf"
MODELS = sorted(path.parent.name for path in STORED.glob("*/cases.npz") if not path.parent.name.startswith(("t5_", "mt5", "umt5")))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("torch", "transformers"))), reason="torch and transformers are not installed"
    ),
]

# Run in its own process: torch's threads and warnings stay out of this one.
OPEN = """
import json, sys
import numpy as np, torch, transformers

folder, inputs, output = sys.argv[1:]
name = json.load(open(f"{folder}/config.json"))["architectures"][0]
model, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
given = {key: torch.from_numpy(value).long() for key, value in np.load(inputs).items()}
with torch.no_grad():
    out = model.eval()(**given, output_hidden_states=True)
logits = torch.stack([out.start_logits, out.end_logits], -1) if "start_logits" in out else out.get("logits", out.get("prediction_logits"))
arrays = {"last_hidden_state": out.hidden_states[-1].numpy()} | ({} if logits is None else {"logits": logits.numpy()})
np.savez(output, **arrays)
print(json.dumps({key: sorted(map(str, value)) for key, value in info.items()}))
"""


def opened(folder, tmp_path, inputs):
    """What transformers says of its loading, and torch's outputs."""
    np.savez(tmp_path / "given.npz", **inputs)
    command = [sys.executable, "-c", OPEN, folder, tmp_path / "given.npz", tmp_path / "found.npz"]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    with np.load(tmp_path / "found.npz") as found:
        return json.loads(run.stdout.splitlines()[-1]), dict(found)


def same_outputs(found, out, mask):
    real = mask == 1
    flat = real.reshape(-1, real.shape[-1])
    np.testing.assert_allclose(out.last_hidden_state[flat], found["last_hidden_state"][flat], rtol=0, atol=1e-5)
    if "logits" in found:
        tokens = found["logits"].shape[:2] == real.shape and found["logits"].ndim == 3
        where = real if tokens else ...
        np.testing.assert_allclose(out.logits[where], found["logits"][where], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_transformers_opens_it(name, tmp_path):
    model_dir, folder = tmp_path / "ours", tmp_path / "hf"
    assert convert_hf.main([f"--from_hf={STORED / name}", f"--to={model_dir}"]) == 0
    assert convert_hf.main([f"--from={model_dir}", f"--to_hf={folder}"]) == 0
    with np.load(STORED / name / "cases.npz") as cases:
        names = ("input_ids", "attention_mask", "token_type_ids")
        inputs = {key: cases[f"case1/{key}"] for key in names if f"case1/{key}" in cases}
    info, found = opened(folder, tmp_path, inputs)
    assert set(info) >= {"missing_keys", "unexpected_keys", "mismatched_keys"} and not any(info.values()), info
    same_outputs(found, rootstock.load(model_dir)(*inputs.values()), inputs["attention_mask"])


def test_transformers_opens_our_own_run(trained, finetuned, tmp_path):
    """Of our pretraining and of a head of our fine-tuning; its tokenizer too."""
    texts = ["The cat sat on the mat.", "June, CÄT: 7 [MASK] x"]
    for source, flags, folder in ((trained, [], "pretrained"), (finetuned, ["--task=boolq"], "finetuned")):
        assert convert_hf.main([f"--from={source}", f"--to_hf={tmp_path / folder}", *flags]) == 0
        ours = rootstock.load(source)
        ids, mask = ours.encode(texts)
        info, found = opened(tmp_path / folder, tmp_path, {"input_ids": ids, "attention_mask": mask})
        assert not any(info.values()), info
        same_outputs(found, ours(ids, mask, task="boolq" if flags else None), mask)
        code = (
            "import json, sys, transformers\n"
            "print(json.dumps(transformers.AutoTokenizer.from_pretrained(sys.argv[1])(json.loads(sys.argv[2]), padding=True)['input_ids']))"
        )
        run = subprocess.run([sys.executable, "-c", code, tmp_path / folder, json.dumps(texts)], capture_output=True, text=True)
        assert json.loads(run.stdout.splitlines()[-1]) == ids.tolist(), run.stderr
        assert vocabularies.load(tmp_path / folder).encode_batch(texts) == ours.tokenizer.encode_batch(texts)
