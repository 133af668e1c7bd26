"""What a checkpoint says of itself, and its hash."""

import re

import jax
import numpy as np

from rootstock.tools import inspect


def test_inspect(trained, finetuned, tmp_path, capsys):
    assert inspect.main([f"--checkpoint={trained}"]) == 0
    shown = capsys.readouterr().out
    info = (trained / "model-info.txt").read_text()
    total = re.search(r"([\d,]+) parameters", info)[1]
    assert shown.startswith(f"{trained}: step 24, {total} parameters, rootstock.models.bert.PreTraining\n")
    assert '"layers": 2' in shown
    names = {line.split()[0] for line in info.splitlines()[1:-2]}
    assert names and all(re.search(rf"^{re.escape(name)} ", shown, re.MULTILINE) for name in names)
    assert inspect.main([f"--checkpoint={trained}", "--hash", "--step=20"]) == 0
    assert re.fullmatch(r"[0-9a-f]{64}\n", capsys.readouterr().out)
    assert inspect.main([f"--checkpoint={trained}", "--step=3"]) == 2
    assert "has no checkpoint of step 3; it has [20, 24]" in capsys.readouterr().err
    for flags in ([], ["--hash"]):
        assert inspect.main([f"--checkpoint={tmp_path}", *flags]) == 2
        said = capsys.readouterr()
        assert said.out == "" and re.match("error: .* (is not a MODEL_DIR: it holds no config.json|holds no checkpoint)", said.err)


def test_parameter_hash():
    """By canonical name and value: not by layout, order or stacking; any bit, name, shape or type changes it."""
    values = {f"layers/{i}/kernel": np.arange(6, dtype=np.float32).reshape(2, 3) * i for i in range(4)} | {"bias": np.ones(8, np.float32)}
    hashed = inspect.parameter_hash(values)
    assert inspect.parameter_hash(dict(reversed(values.items()))) == hashed
    stacked = {"layers/0:4:1/kernel": np.stack([values[f"layers/{i}/kernel"] for i in range(4)]), "bias": values["bias"]}
    assert inspect.parameter_hash(stacked) == hashed
    halves = {
        "layers/0:4:2/kernel": stacked["layers/0:4:1/kernel"][::2],
        "layers/1:4:2/kernel": stacked["layers/0:4:1/kernel"][1::2],
        "bias": values["bias"],
    }
    assert inspect.parameter_hash(halves) == hashed
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    put = lambda x: jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    assert inspect.parameter_hash(values | {"bias": put(values["bias"])}) == hashed
    changed = values["bias"].copy()
    changed[3] = np.nextafter(np.float32(1), np.float32(2))
    others = [
        values | {"bias": changed},
        values | {"bias": values["bias"].reshape(2, 4)},
        values | {"bias": values["bias"].view(np.int32)},
        {"bias_": values["bias"]} | {name: value for name, value in values.items() if name != "bias"},
        {name: value for name, value in values.items() if name != "bias"},
    ]
    assert len({hashed, *map(inspect.parameter_hash, others)}) == 6
