"""The training step of an encoder-decoder beside that of transformers on torch and, where a checkout is given, of T5X.

    python benchmarks/t5_step.py [--peer_python=PYTHON] [--t5x=CHECKOUTS] [--t5x_python=PYTHON] [--rounds=7]

On two cores, in float32: 6 + 6 layers x 512, gated MLP 1024, vocabulary 32,128, untied (70.7M parameters), batch 8 x (256 + 64), dropout 0
and 0.1, with Adafactor and with AdamW (T5X: its own Adafactor). The peer is T5ForConditionalGeneration as shipped, with torch's fused AdamW
and its Adafactor. The sides are processes that take turns, a step each; medians over the rounds. PYTHON is an interpreter with the
peer's packages, by default the present one; CHECKOUTS are folders for its PYTHONPATH (T5X, airio, jestimator), with colons between
them. A side that cannot run is left out, with a word. Prints a Markdown table. Synthetic batches; the package need not be installed.
"""

import argparse
import sys

import sides

SMALL = dict(layers=6, width=512, heads=8, head_dim=64, mlp_width=1024, vocab_size=32128, length=256, target_length=64, batch=8)
TINY = dict(layers=2, width=32, heads=2, head_dim=16, mlp_width=64, vocab_size=300, length=16, target_length=8, batch=4)
OPTIMIZERS = ("adafactor", "adamw")


def variants(shape: dict, dropout: float) -> dict[str, tuple[str, dict]]:
    """By the name in the table: whose it is, and what its worker is asked for."""
    found = {f"{side}, {how}": (side, dict(**shape, dropout=dropout, optimizer=how)) for how in OPTIMIZERS for side in ("ours", "peer")}
    return found | {"T5X, adafactor": ("t5x", dict(**shape, dropout=dropout))}


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


def start(flags: argparse.Namespace) -> dict[str, sides.Worker]:
    """Our worker, and those of the peers whose packages are there."""
    on = sides.on_cpu(flags.cores)
    found = {"ours": (sys.executable, "t5_step_ours.py", on), "peer": (flags.peer_python, "t5_step_peer.py", on)}
    if flags.t5x:
        found["t5x"] = (flags.t5x_python, "t5_step_t5x.py", on | {"PYTHONPATH": flags.t5x})
    return sides.start(found)


def main(arguments: list[str] | None = None) -> None:
    parser = sides.parser(__doc__, rounds=7)
    parser.add_argument("--dropouts", default="0,0.1")
    parser.add_argument("--t5x", metavar="CHECKOUTS")
    parser.add_argument("--t5x_python", default=sys.executable)
    flags = parser.parse_args(arguments)
    shape, workers = TINY if flags.tiny else SMALL, start(flags)
    rate = workers["ours"].ask(question="matrix_rate", size=256 if flags.tiny else 1536)["answer"]
    print(f"float32 matrix rate {rate / 1e9:,.0f} GFLOP/s", flush=True)
    for dropout in map(float, flags.dropouts.split(",")):
        asked = variants(shape, dropout)
        flops = workers["ours"].ask(question="flops", **asked["ours, adafactor"][1])["answer"]
        print(table(shape, dropout, sides.measure(workers, asked, flags.rounds), flops, rate), flush=True)
    for worker in workers.values():
        worker.close()


if __name__ == "__main__":
    main()
