"""Generating beside transformers on torch: greedy decoding and beam search with four beams, tokens a second.

    python benchmarks/decode.py [--peer_python=PYTHON] [--rounds=5]

On two cores, in float32: the model of t5_step.py, eight inputs of 256 tokens, 64 tokens generated for each, so that both sides do all the
steps (random weights end nowhere; the peer has no end token to stop at). Both read the inputs anew each time and keep a cache. The
sides are processes that take turns; medians over the rounds. PYTHON is an interpreter with torch and transformers, by default the
present one; without them only our side is measured. Prints a Markdown table. The package need not be installed.
"""

import sys

import sides
from t5_step import SMALL, TINY

BEAMS = {"greedy": 1, "beam 4": 4}


def variants(shape: dict) -> dict[str, tuple[str, dict]]:
    """By the name in the table: whose it is, and what its worker is asked for."""
    return {f"{side}, {name}": (side, dict(**shape, beams=beams)) for name, beams in BEAMS.items() for side in ("ours", "peer")}


def table(shape: dict, measured: dict[str, dict[str, float]]) -> str:
    """Markdown. Ratios are to our way of the same name."""
    tokens = shape["batch"] * shape["target_length"]
    lines = [f"\nbatch {shape['batch']}, {shape['length']} tokens read, {shape['target_length']} generated, float32\n"]
    lines += ["| way | seconds | tokens/s | times ours |", "|---|---|---|---|"]
    for name, values in measured.items():
        seconds, ours = values["seconds"], measured[f"ours, {name.split(', ')[1]}"]["seconds"]
        lines.append(f"| {name} | {seconds:.3f} | {tokens / seconds:,.0f} | {seconds / ours:.2f} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    flags = sides.parser(__doc__, rounds=5).parse_args(arguments)
    shape, on = TINY if flags.tiny else SMALL, sides.on_cpu(flags.cores)
    workers = sides.start({"ours": (sys.executable, "decode_ours.py", on), "peer": (flags.peer_python, "decode_peer.py", on)})
    print(table(shape, sides.measure(workers, variants(shape), flags.rounds)), flush=True)
    for worker in workers.values():
        worker.close()


if __name__ == "__main__":
    main()
