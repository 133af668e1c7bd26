"""The training step of an encoder-decoder beside that of transformers on torch and, where a checkout is given, of T5X.

    python benchmarks/t5_step.py [--peer_python=PYTHON] [--t5x=CHECKOUTS] [--t5x_python=PYTHON] [--rounds=7]

On two cores, in float32: 6 + 6 layers x 512, gated MLP 1024, vocabulary 32,128, untied (70.7M parameters), batch 8 x (256 + 64), dropout 0
and 0.1, with Adafactor and with AdamW (T5X: its own Adafactor). The peer is T5ForConditionalGeneration as shipped, with torch's fused AdamW
and its Adafactor. The sides are processes that take turns, a step each; medians over the rounds. PYTHON is an interpreter with the
peer's packages, by default the present one; CHECKOUTS are folders for its PYTHONPATH (T5X, airio, jestimator), with colons between
them. A side that cannot run is left out, with a word. Prints a Markdown table. Synthetic batches; the package need not be installed.
"""

import argparse
import os
import statistics
import sys

from worker import Worker

SMALL = dict(layers=6, width=512, heads=8, head_dim=64, mlp_width=1024, vocab_size=32128, length=256, target_length=64, batch=8)
TINY = dict(layers=2, width=32, heads=2, head_dim=16, mlp_width=64, vocab_size=300, length=16, target_length=8, batch=4)
OPTIMIZERS = ("adafactor", "adamw")


def variants(shape: dict, dropout: float) -> dict[str, tuple[str, dict]]:
    """By the name in the table: whose it is, and what its worker is asked for."""
    found = {f"{side}, {how}": (side, dict(**shape, dropout=dropout, optimizer=how)) for how in OPTIMIZERS for side in ("ours", "peer")}
    return found | {"T5X, adafactor": ("t5x", dict(**shape, dropout=dropout))}


def measure(workers: dict[str, Worker], asked: dict[str, tuple[str, dict]], rounds: int) -> dict[str, dict[str, float]]:
    """Medians of seconds and of CPU seconds a step, and the last loss. The first round, which builds everything, is thrown away."""
    answers = {name: [] for name, (side, _) in asked.items() if side in workers}
    for _ in range(rounds + 1):
        for name, found in answers.items():
            side, variant = asked[name]
            found.append(workers[side].ask(variant=variant, steps=1))
    median = lambda found, what: statistics.median(answer[what] for answer in found[1:])
    return {name: {what: median(found, what) for what in ("seconds", "cpu", "loss")} for name, found in answers.items()}


def table(shape: dict, dropout: float, measured: dict, flops: float, rate: float) -> str:
    """Markdown. Ratios are to our step with the same optimizer; only our operations are counted: only we have a share of the rate."""
    tokens = shape["batch"] * (shape["length"] + shape["target_length"])
    lines = [f"\nbatch {shape['batch']} x ({shape['length']} + {shape['target_length']}), float32, dropout {dropout:g}\n"]
    lines += ["| step | seconds | CPU seconds | tokens/s | times ours | of the matrix rate | loss |", "|---|---|---|---|---|---|---|"]
    for name, values in measured.items():
        seconds, ours = values["seconds"], measured[f"ours, {name.split(', ')[1]}"]["seconds"]
        share = f"{flops / seconds / rate:.0%}" if name.startswith("ours") else ""
        cells = [name, f"{seconds:.3f}", f"{values['cpu']:.3f}", f"{tokens / seconds:,.0f}", f"{seconds / ours:.2f}", share]
        lines.append(f"| {' | '.join(cells)} | {values['loss']:.2f} |")
    return "\n".join(lines)


def start(flags: argparse.Namespace) -> dict[str, Worker]:
    """Our worker, and those of the peers whose packages are there."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: flags.cores])
    on = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    sides = {"ours": (sys.executable, "t5_step_ours.py", on), "peer": (flags.peer_python, "t5_step_peer.py", on)}
    if flags.t5x:
        sides["t5x"] = (flags.t5x_python, "t5_step_t5x.py", on | {"PYTHONPATH": flags.t5x})
    workers = {}
    for side, how in sides.items():
        try:
            worker = Worker(*how)
            print(f"{side}: {worker.ask(question='device')['answer']}", flush=True)
            workers[side] = worker
        except (RuntimeError, OSError) as error:
            if side == "ours":
                raise
            print(f"no {side}: {how[0]} could not run it ({error})", flush=True)
    return workers


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dropouts", default="0,0.1")
    parser.add_argument("--peer_python", default=sys.executable)
    parser.add_argument("--t5x", metavar="CHECKOUTS")
    parser.add_argument("--t5x_python", default=sys.executable)
    parser.add_argument("--tiny", action="store_true", help="a toy model: shows that everything runs, not how fast")
    flags = parser.parse_args(arguments)
    shape, workers = TINY if flags.tiny else SMALL, start(flags)
    rate = workers["ours"].ask(question="matrix_rate", size=256 if flags.tiny else 1536)["answer"]
    print(f"float32 matrix rate {rate / 1e9:,.0f} GFLOP/s", flush=True)
    for dropout in map(float, flags.dropouts.split(",")):
        asked = variants(shape, dropout)
        flops = workers["ours"].ask(question="flops", **asked["ours, adafactor"][1])["answer"]
        print(table(shape, dropout, measure(workers, asked, flags.rounds), flops, rate), flush=True)
    for worker in workers.values():
        worker.close()


if __name__ == "__main__":
    main()
