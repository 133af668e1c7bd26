"""That both sides of finetune_peer.py train alike: the losses of real fine-tuning step by step, without dropout, from one head.

    python benchmarks/finetune_check.py --data=DIR --out=DIR --peer_python=PYTHON [--tasks=rte,stsb,copa,wic] [--steps=30]

A head of each kind on the encoder of finetune_peer.py; warm-up, decay, clipping and lengths as there. The peer takes our batches in our
order and our first head. Prints a Markdown table: the largest difference of a loss, and of a gradient's norm as a share of it. Both are
those of rounding as long as nothing differs. OUT is a folder of its own or that of finetune_peer.py.
"""

import argparse
import pathlib
import sys

import finetune_peer
import numpy as np
import ours

from rootstock.engine import feed, launch

STEPS = 30
NO_DROPOUT = ("finetuned.encoder_of.dropout", "finetuned.encoder_of.attention_dropout", "recipe.task_heads.dropout")


def our_steps(bench: finetune_peer.Bench, task: str, steps: int, rows: pathlib.Path) -> np.ndarray:
    """Loss and gradient's norm of every step, [steps, 2]; writes the rows in their order, and the head that they began with."""
    more = [f"TRAIN_STEPS = {steps}", "SEED = 0", f"EVALUATED = ({task!r},)", *(f"{name} = 0.0" for name in NO_DROPOUT)]
    launch.bind([finetune_peer.RECIPE], [*bench.bindings(task, bench.out / "check"), *more])
    run = launch.fetch()
    running = ours.started(run)
    step = running.compile(run.batch_size)
    (head,) = {name.rpartition("/")[0] for name in running.state.params if name.startswith("heads/")}
    begun = {name: np.array(running.state.params[f"{head}/{name}"]) for name in ("kernel", "bias")}
    seen, told = [], []
    for number in range(steps):
        batch = feed.place(run.data, number * run.batch_size, run.batch_size, running.partitioner)
        seen.append({name: np.asarray(value) for name, value in batch.get(task, batch).items()})
        running.state, measured = step(running.state, batch)
        told.append([float(measured[name].total / measured[name].weight) for name in ("loss", "grad_norm")])
    together = {f"train/{name}": np.concatenate([batch[name] for batch in seen]) for name in seen[0]}
    np.savez(rows, **together, **begun)
    return np.array(told)


def compare(bench: finetune_peer.Bench, task: str, steps: int) -> tuple[float, float]:
    """The largest difference of a loss, and of a gradient's norm as a share of it."""
    folder = bench.out / "check"
    folder.mkdir(exist_ok=True)
    rows, answer = folder / f"{task}.npz", folder / f"{task}.steps.npz"
    mine = our_steps(bench, task, steps, rows)
    bench.call_peer(bench.asked(task, steps, rows, answer) | {"steps_of": True})
    with np.load(answer) as found:
        theirs = found["steps"]
    return float(np.abs(mine - theirs)[:, 0].max()), float(np.abs(mine / theirs - 1)[:, 1].max())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--peer_python", default=sys.executable)
    parser.add_argument("--tasks", type=lambda text: text.split(","), default=["rte", "stsb", "copa", "wic"])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.set_defaults(epochs=1.0, batch_size=16, learning_rate=5e-5)
    flags = parser.parse_args(arguments)
    bench = finetune_peer.Bench(flags)
    bench.convert()
    print("| task | steps | loss, largest difference | gradient's norm, largest difference |\n|---|---|---|---|")
    for task in flags.tasks:
        loss, norm = compare(bench, task, flags.steps)
        print(f"| {task} | {flags.steps} | {loss:.1e} | {norm:.1e} |", flush=True)


if __name__ == "__main__":
    main()
