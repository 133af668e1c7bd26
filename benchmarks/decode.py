"""Generating beside transformers on torch: greedy decoding and beam search with four beams, tokens a second.

    python benchmarks/decode.py [--peer_python=PYTHON] [--rounds=5]

On two cores, in float32: the model of t5_step.py, eight inputs of 256 tokens, 64 tokens generated for each, so that both sides do all the
steps (random weights end nowhere; the peer has no end token to stop at). Both read the inputs anew each time and keep a cache. The
sides are processes that take turns; medians over the rounds. PYTHON is an interpreter with torch and transformers, by default the
present one; without them only our side is measured. Prints a Markdown table. The package need not be installed.
"""

import argparse
import os
import statistics
import sys

from t5_step import SMALL, TINY
from worker import Worker

BEAMS = {"greedy": 1, "beam 4": 4}


def variants(shape: dict) -> dict[str, tuple[str, dict]]:
    """By the name in the table: whose it is, and what its worker is asked for."""
    return {f"{side}, {name}": (side, dict(**shape, beams=beams)) for name, beams in BEAMS.items() for side in ("ours", "peer")}


def measure(workers: dict[str, Worker], asked: dict[str, tuple[str, dict]], rounds: int) -> dict[str, float]:
    """Medians of seconds. The first round, which builds everything, is thrown away."""
    seconds = {name: [] for name, (side, _) in asked.items() if side in workers}
    for _ in range(rounds + 1):
        for name, found in seconds.items():
            side, variant = asked[name]
            found.append(workers[side].ask(variant=variant, steps=1)["seconds"])
    return {name: statistics.median(found[1:]) for name, found in seconds.items()}


def table(shape: dict, measured: dict[str, float]) -> str:
    """Markdown. Ratios are to our way of the same name."""
    tokens = shape["batch"] * shape["target_length"]
    lines = [f"\nbatch {shape['batch']}, {shape['length']} tokens read, {shape['target_length']} generated, float32\n"]
    lines += ["| way | seconds | tokens/s | times ours |", "|---|---|---|---|"]
    for name, seconds in measured.items():
        ours = measured[f"ours, {name.split(', ')[1]}"]
        lines.append(f"| {name} | {seconds:.3f} | {tokens / seconds:,.0f} | {seconds / ours:.2f} |")
    return "\n".join(lines)


def start(flags: argparse.Namespace) -> dict[str, Worker]:
    """Our worker, and the peer's where its packages are."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: flags.cores])
    on = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    workers = {"ours": Worker(sys.executable, "decode_ours.py", on)}
    print(workers["ours"].ask(question="device")["answer"])
    try:
        peer = Worker(flags.peer_python, "decode_peer.py", on)
        print(peer.ask(question="device")["answer"], flush=True)
        workers["peer"] = peer
    except (RuntimeError, OSError) as error:
        print(f"no peer: {flags.peer_python} could not run it ({error}); it needs torch and transformers")
    return workers


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer_python", default=sys.executable)
    parser.add_argument("--tiny", action="store_true", help="a toy model: shows that everything runs, not how fast")
    flags = parser.parse_args(arguments)
    shape, workers = TINY if flags.tiny else SMALL, start(flags)
    print(table(shape, measure(workers, variants(shape), flags.rounds)), flush=True)
    for worker in workers.values():
        worker.close()


if __name__ == "__main__":
    main()
