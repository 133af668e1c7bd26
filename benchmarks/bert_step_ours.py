"""Our side of bert_step.py: the compiled step of the training loop, over random ids."""

import numpy as np
import ours
import worker

from rootstock.data.arrays import Arrays
from rootstock.data.streams import Ordered
from rootstock.engine import optimizers, train
from rootstock.models import bert
from rootstock.pretrain.objectives.mlm import MaskedLM


def make_run(layers, width, heads, mlp_width, vocab_size, length, batch, dtype, dropout, **more) -> train.Run:
    """A masked-LM run without padding; `more` of bert.Config."""

    class Vocabulary:
        size, mask_id, special_ids = vocab_size, 4, (0, 1, 2, 3, 4)

    ids = np.random.default_rng(0).integers(5, vocab_size, (batch, length)).astype(np.int32)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), ids.shape)
    data = {"input_ids": ids, "segment_ids": np.ones_like(ids), "token_type_ids": np.zeros_like(ids), "positions": positions}
    config = bert.Config(
        vocab_size=vocab_size,
        width=width,
        layers=layers,
        heads=heads,
        mlp_width=mlp_width,
        dropout=dropout,
        attention_dropout=dropout,
        dtype=dtype,
        **more,
    )
    return train.Run(
        model_dir="nowhere",  # nothing is written: the loop does not run
        model=lambda key: bert.PreTraining(config, key),
        objective=MaskedLM(Vocabulary()),
        data=Ordered(Arrays(data)),
        update=optimizers.adamw(1e-4),
        train_steps=1,
        batch_size=batch,
        clip_norm=1.0,
    )


def make(**shape) -> worker.Step:
    return ours.stepping(make_run(**shape))


def flops(**shape) -> float:
    """Of a step."""
    return train.Running(make_run(**shape)).flops(shape["batch"])


if __name__ == "__main__":
    worker.serve({"flops": flops, "matrix_rate": ours.matrix_rate, "device": ours.device}, make)
