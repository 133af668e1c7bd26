"""Our side of t5_step.py: the compiled step of the training loop, over random ids without padding."""

import numpy as np
import ours
import worker

from rootstock.data.arrays import Arrays
from rootstock.data.streams import Ordered
from rootstock.engine import optimizers, train
from rootstock.models import t5
from rootstock.models.layers import activations
from rootstock.models.layers.mlp import GatedMLP
from rootstock.pretrain.objectives.seq2seq import Seq2Seq

UPDATES = {"adafactor": lambda: optimizers.adafactor(1e-3), "adamw": lambda: optimizers.adamw(1e-4)}


def config(layers, width, heads, head_dim, mlp_width, vocab_size, dropout=0.0) -> t5.Config:
    """T5 1.1. Few layers on a CPU: unrolled they are faster than in a scan, whose slices are copied."""
    sizes = dict(layers=layers, width=width, heads=heads, head_dim=head_dim, mlp_width=mlp_width, vocab_size=vocab_size)
    return t5.Config(**sizes, mlp=GatedMLP, activation=activations.gelu_tanh, tied=False, dropout=dropout, scan=False)


def make_run(length, target_length, batch, optimizer, **shape) -> train.Run:
    described, rng = config(**shape), np.random.default_rng(0)
    data = {}
    for prefix, size in (("", length), ("target_", target_length)):
        ids = rng.integers(5, described.vocab_size, (batch, size)).astype(np.int32)
        data |= {"input_ids" if not prefix else "target_ids": ids, f"{prefix}segment_ids": np.ones_like(ids)}
    return train.Run(
        model_dir="nowhere",  # nothing is written: the loop does not run
        model=lambda key: t5.T5(described, key),
        objective=Seq2Seq(),
        data=Ordered(Arrays(data)),
        update=UPDATES[optimizer](),
        train_steps=1,
        batch_size=batch,
    )


def make(**shape) -> worker.Step:
    return ours.stepping(make_run(**shape))


def flops(**shape) -> float:
    """Of a step."""
    return train.Running(make_run(**shape)).flops(shape["batch"])


if __name__ == "__main__":
    worker.serve({"flops": flops, "matrix_rate": ours.matrix_rate, "device": ours.device}, make)
