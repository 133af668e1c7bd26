"""Canonical parameter names, shapes and logical axes are a promise: checkpoints, converters and decay masks rely on them.

    ROOTSTOCK_REGENERATE=1 pytest tests/models/test_names.py

writes the golden lists anew.
"""

import os
from pathlib import Path

import pytest

from rootstock.models import albert, bert, deberta, deberta_pair, decoder, electra, modernbert, roberta, t5
from rootstock.models.layers import parameters, stack
from rootstock.models.layers.mlp import GatedMLP
from rootstock.models.layers.moe.mixture import Mixture

GOLDEN = Path(__file__).parents[1] / "golden" / "names"
MODELS = {
    "bert_base": lambda key: bert.PreTraining(bert.Config(), key),
    "t5_small": lambda key: t5.T5(t5.Config(), key),
    "umt5_small": lambda key: t5.T5(t5.Config(layers=8, heads=6, mlp_width=1024, mlp=GatedMLP, tied=False, per_layer_bias=True), key),
    "roberta": lambda key: roberta.MaskedLM(roberta.Config(layers=2), key),
    "albert": lambda key: albert.MaskedLM(albert.Config(layers=2), key),
    "electra_pair": lambda key: electra.Pair(electra.PairConfig(electra.Config(layers=2), 0.5), key),
    "deberta_v1": lambda key: deberta.MaskedLM(deberta.v1(layers=2), key),
    "deberta_v2": lambda key: deberta.EnhancedMaskedLM(deberta.Config(layers=2, conv_kernel=3, max_length=512), key),
    "deberta_v3_pair": lambda key: deberta_pair.Pair(deberta_pair.PairConfig(deberta.Config(layers=2, max_length=512)), key),
    "modernbert": lambda key: modernbert.MaskedLM(modernbert.Config(layers=4), key),
    "decoder": lambda key: decoder.Decoder(decoder.Config(layers=2), key),
    "bert_mixture": lambda key: bert.Encoder(bert.Config(layers=2, mlp=Mixture()), key),
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
