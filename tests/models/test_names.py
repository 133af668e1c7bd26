"""Canonical parameter names, shapes and logical axes are a promise: checkpoints, converters and decay masks rely on them.

    ROOTSTOCK_REGENERATE=1 pytest tests/models/test_names.py

writes the golden lists anew.
"""

import os
from pathlib import Path

import pytest

from rootstock.models import bert, t5
from rootstock.models.layers import parameters, stack
from rootstock.models.layers.mlp import GatedMLP

GOLDEN = Path(__file__).parents[1] / "golden" / "names"
MODELS = {
    "bert_base": lambda key: bert.PreTraining(bert.Config(), key),
    "t5_small": lambda key: t5.T5(t5.Config(), key),
    "umt5_small": lambda key: t5.T5(t5.Config(layers=8, heads=6, mlp_width=1024, mlp=GatedMLP, tied=False, per_layer_bias=True), key),
}


def listing(build):
    """One line a parameter: canonical name, shape, logical axes."""
    lines = []
    for name, spec in parameters.specs(parameters.abstract(build)).items():
        for canonical, index in stack.address(name):
            inner = slice(0 if index is None else 1, None)
            axes = ", ".join(axis or "-" for axis in spec.axes[inner])
            lines.append(f"{canonical} {list(spec.shape[inner])} ({axes})\n")
    return "".join(sorted(lines, key=by_number))


def by_number(line):
    return [part.zfill(3) if part.isdigit() else part for part in line.split(" ")[0].split("/")]


@pytest.mark.parametrize("model", MODELS)
def test_names(model):
    path = GOLDEN / f"{model}.txt"
    now = listing(MODELS[model])
    if os.environ.get("ROOTSTOCK_REGENERATE"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(now)
    assert now.splitlines() == path.read_text().splitlines()
