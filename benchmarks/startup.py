"""How long until a run does something useful, and what the loop costs on top of the bare step.

    python benchmarks/startup.py [--layers=4,24] [--rounds=5]

Prints: the time to import the core in a fresh process; the time from nothing to the end of the first step for each depth, in turns
(scanned layers, so it should hardly grow; two rows a batch, so that the step itself takes no time); the loop's seconds a step beside
those of the compiled step alone, alternating in one process. Medians. Synthetic batches, no TensorFlow.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time

CORE = "import rootstock, rootstock.engine.train, rootstock.engine.launch, rootstock.models.bert, rootstock.pretrain.objectives.mlm"


def fresh(code: str) -> float:
    """Seconds of a new Python process that runs `code`, less those of one that runs nothing."""

    def run(text):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", text], check=True)
        return time.perf_counter() - begin

    return run(code) - run("pass")


def make_run(folder: str, layers: int, steps: int, width: int = 256, length: int = 128, batch: int = 16):
    """A masked-LM run over random ids."""
    import numpy as np

    from rootstock.data.arrays import Arrays
    from rootstock.data.streams import Shuffled
    from rootstock.engine import optimizers, train
    from rootstock.models import bert
    from rootstock.pretrain.objectives.mlm import MaskedLM

    class Vocabulary:
        size, mask_id, special_ids = 4000, 4, (0, 1, 2, 3, 4)

    shape = (512, length)
    ids = np.random.default_rng(0).integers(5, Vocabulary.size, shape).astype(np.int32)
    ones, zeros = np.ones(shape, np.int32), np.zeros(shape, np.int32)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), shape)
    data = Shuffled(Arrays({"input_ids": ids, "segment_ids": ones, "token_type_ids": zeros, "positions": positions}), seed=0)
    config = bert.Config(
        vocab_size=Vocabulary.size,
        width=width,
        layers=layers,
        heads=4,
        mlp_width=4 * width,
        max_length=length,
        dropout=0.0,
        attention_dropout=0.0,
    )
    return train.Run(
        model_dir=folder,
        model=lambda key: bert.PreTraining(config, key),
        objective=MaskedLM(Vocabulary()),
        data=data,
        update=optimizers.adamw(1e-3),
        train_steps=steps,
        batch_size=batch,
        save_every=10**9,
    )


def first_step(layers: int) -> float:
    """Seconds in a fresh process from its start to the end of the first step."""
    code = f"""
import sys, tempfile, jax
sys.path.insert(0, {__file__.rpartition("/")[0]!r})
import startup
from rootstock.engine import feed, train
running = train.Running(startup.make_run(tempfile.mkdtemp(), {layers}, 1, batch=2))
running.state = running.initial_state()
step = running.compile(2)
jax.block_until_ready(step(running.state, feed.place(running.run.data, 0, 2, running.partitioner)))
"""
    return fresh(code)


def loop_overhead(rounds: int, steps: int = 40) -> tuple[float, float]:
    """Median seconds a step of the loop (metrics, progress, data, hooks) and of the compiled step alone."""
    import jax

    from rootstock.engine import feed, metrics, train

    loop, bare = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            running = train.train(make_run(folder, 4, steps))
            loop += [line["value"] for line in metrics.read(folder) if line["name"] == "step_seconds"][1:]
        step = running.compile(16)
        batches = [feed.place(running.run.data, 16 * i, 16, running.partitioner) for i in range(10)]
        state = running.state
        for _ in range(steps // 10):
            begin = time.perf_counter()
            for batch in batches:
                state, measured = step(state, batch)
            jax.block_until_ready((state, measured))
            bare.append((time.perf_counter() - begin) / 10)
    return statistics.median(loop), statistics.median(bare)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default="4,24")
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    results = {"core import, s": statistics.median(fresh(CORE) for _ in range(flags.rounds))}
    depths = [int(layers) for layers in flags.layers.split(",")]
    taken = [[first_step(layers) for layers in depths] for _ in range(flags.rounds)]
    medians = [statistics.median(of_depth) for of_depth in zip(*taken, strict=True)]
    results |= {f"first step of {layers} layers, s": median for layers, median in zip(depths, medians, strict=True)}
    results["growth"] = medians[-1] / medians[0]
    loop, bare = loop_overhead(flags.rounds)
    results |= {"loop, s a step": loop, "bare step, s": bare, "overhead": loop / bare - 1}
    print(json.dumps({name: round(value, 4) for name, value in results.items()}, indent=2))


if __name__ == "__main__":
    main()
