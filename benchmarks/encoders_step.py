"""Every encoder family's training step and inference beside transformers on torch, on two cores, in float32 and bfloat16.

    python benchmarks/encoders_step.py [--peer_python=PYTHON] [--rounds=5] [--only=deberta_v3,albert] [--what=train,infer]

A step is forward, backward, clipping and AdamW: of masked LM, or for ELECTRA of replaced-token detection (the peer: generator, sampling
and discriminator of transformers in one step). Inference is the forward pass to the encoder's last hidden state. The peer is as shipped,
bfloat16 by autocast, every position through the vocabulary projection. 4 layers x 512, batch 16 x 128; DeBERTa also at 512 tokens, batch 4.
The sides are processes that take turns, a step each; medians over the rounds; memory is the peak resident size of a process that measures
nothing else. PYTHON is an interpreter with torch and transformers, by default the present one; without them only our side is measured.
Prints a Markdown table. Random ids without padding; the package need not be installed.
"""

import sys

import sides

FAMILIES = ("bert", "roberta", "electra", "albert", "deberta_v1", "deberta_v3", "modernbert")
SMALL = dict(layers=4, width=512, heads=8, mlp_width=2048, vocab_size=30522)
TINY = dict(layers=4, width=64, heads=4, mlp_width=128, vocab_size=300)
SHAPES, LONG = [(128, 16)], [(512, 4)]  # (length, batch)
GOALS = {("deberta_v1", 512): 2.5, ("deberta_v3", 512): 2.5}  # times the float32 peer; 2 elsewhere


def variants(only: tuple[str, ...], whats: tuple[str, ...], dtypes: tuple[str, ...], tiny: bool) -> list[dict]:
    """What is measured, one line of the table each."""
    found = []
    for family in only:
        shapes = [(16, 4)] if tiny else SHAPES + (LONG if family.startswith("deberta") else [])
        for length, batch in shapes:
            for what in whats:
                for dtype in dtypes:
                    shape = TINY if tiny else SMALL
                    found.append(dict(family=family, what=what, dtype=dtype, length=length, batch=batch, **shape))
    return found


def memory(how: tuple[str, str, dict[str, str]], variant: dict) -> float:
    """Peak resident size in GB of a process of its own that takes two steps."""
    worker = sides.Worker(*how)
    try:
        worker.ask(variant=variant, steps=1)
        return worker.ask(question="memory")["answer"] / 1e9
    finally:
        worker.close()


def of_those_that_can(workers: dict[str, sides.Worker], variant: dict, rounds: int) -> dict:
    """What `sides.measure` says; of our side alone where the peer fails (DeBERTa's mask under autocast to bfloat16)."""
    try:
        return sides.measure(workers, {side: (side, variant) for side in workers}, rounds)
    except RuntimeError as error:
        print(f"{variant['family']}, {variant['what']}, {variant['dtype']}: {str(error).splitlines()[-1]}", file=sys.stderr)
        return sides.measure({"ours": workers["ours"]}, {"ours": ("ours", variant)}, rounds)


def row(variant: dict, measured: dict, sizes: dict[str, float]) -> str:
    """A line of the table."""
    seconds = {side: values["seconds"] for side, values in measured.items()}
    goal = GOALS.get((variant["family"], variant["length"]), 2.0) if variant["dtype"] == "float32" else None
    times = f"{seconds['peer'] / seconds['ours']:.2f}" if "peer" in seconds else ""
    cells = [variant["family"], variant["what"], variant["dtype"], f"{variant['batch']} x {variant['length']}"]
    cells += [f"{seconds['ours']:.4f}", f"{seconds['peer']:.4f}" if "peer" in seconds else "", times, "" if goal is None else f"{goal:g}"]
    cells += [f"{sizes[side]:.2f}" if side in sizes else "" for side in ("ours", "peer")]
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> None:
    parser = sides.parser(__doc__, rounds=5)
    parser.add_argument("--only", default=",".join(FAMILIES))
    parser.add_argument("--what", default="train,infer")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--no_memory", action="store_true", help="leave the processes out that measure memory")
    flags = parser.parse_args(arguments)
    on = sides.on_cpu(flags.cores)
    found = {"ours": (sys.executable, "encoders_step_ours.py", on), "peer": (flags.peer_python, "encoders_step_peer.py", on)}
    workers = sides.start(found)
    print(
        "\n| family | what | dtype | batch | ours, s | peer, s | times | goal | ours, GB | peer, GB |"
        "\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for variant in variants(*(tuple(named.split(",")) for named in (flags.only, flags.what, flags.dtypes)), flags.tiny):
        measured = of_those_that_can(workers, variant, flags.rounds)
        sizes = {} if flags.no_memory else {side: memory(found[side], variant) for side in measured}
        print(row(variant, measured, sizes), flush=True)
        for worker in workers.values():
            worker.ask(question="forget")
    for worker in workers.values():
        worker.close()


if __name__ == "__main__":
    main()
