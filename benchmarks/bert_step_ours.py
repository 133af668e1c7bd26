"""Our side of bert_step.py: the compiled step of the training loop, over random ids."""

import importlib.util
import pathlib
import sys

import worker

if importlib.util.find_spec("rootstock") is None:  # nothing is installed: the checkout itself is the package
    root = pathlib.Path(__file__).resolve().parent.parent
    spec = importlib.util.spec_from_file_location("rootstock", root / "__init__.py", submodule_search_locations=[str(root)])
    sys.modules["rootstock"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["rootstock"])

import jax
import numpy as np

from rootstock.data.arrays import Arrays
from rootstock.data.streams import Ordered
from rootstock.engine import feed, optimizers, telemetry, train
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


def make(batch: int, **shape) -> worker.Step:
    running = train.Running(make_run(batch=batch, **shape))
    running.state = running.initial_state()
    step = running.compile(batch)
    data = feed.place(running.run.data, 0, batch, running.partitioner)

    def steps(count: int) -> float:
        for _ in range(count):
            running.state, measured = step(running.state, data)
        jax.block_until_ready(running.state)
        return float(measured["loss"].total)

    return steps


def flops(batch: int, **shape) -> float:
    """Of a step."""
    return train.Running(make_run(batch=batch, **shape)).flops(batch)


def matrix_rate(size: int, dtype: str) -> float:
    return telemetry.matrix_rate(jax.devices()[0], size, dtype)


def device() -> str:
    return f"jax {jax.__version__} on {jax.default_backend()}, {jax.devices()[0].device_kind}"


if __name__ == "__main__":
    worker.serve({"flops": flops, "matrix_rate": matrix_rate, "device": device}, make)
