"""The training step beside that of transformers on torch: forward, backward, gradient clipping and AdamW of a masked-LM BERT.

    python benchmarks/bert_step.py [--peer_python=PYTHON] [--rounds=7]
    python benchmarks/bert_step.py --device=gpu

On two cores: 4 layers x 512, batch 32 x 128, float32 and bfloat16 (the peer's is autocast), dropout 0 and 0.1, the peer as shipped (every
position goes through the vocabulary projection) and with a gathered head (only the masked ones, as ours). On a GPU: BERT-base at length 128
and 512 in bfloat16, the peer under torch.compile. The sides are processes that take turns, a step (GPU: ten) each; medians over the
rounds. PYTHON is an interpreter with torch and transformers, by default the present one; without them only our side is measured.
Prints a Markdown table. Synthetic batches; the package need not be installed.
"""

import argparse
import sys

import sides

SMALL = dict(layers=4, width=512, heads=8, mlp_width=2048, vocab_size=30522)
BASE = dict(layers=12, width=768, heads=12, mlp_width=3072, vocab_size=30522)
TINY = dict(layers=2, width=64, heads=2, mlp_width=128, vocab_size=300)
HEADS = {False: "as shipped", True: "gathered head"}


def plan(device: str, tiny: bool) -> dict:
    """What is measured: shapes, and how often."""
    if device == "gpu":
        found = dict(model=BASE, batches={128: 256, 512: 64}, dtypes=["bfloat16"], rate_size=8192, steps=10)
    else:
        found = dict(model=SMALL, batches={128: 32}, dtypes=["float32", "bfloat16"], rate_size=1536, steps=1)
    return found | dict(model=TINY, batches={16: 4}, rate_size=256) if tiny else found


def variants(plan: dict, device: str, length: int, dropout: float) -> dict[str, tuple[str, dict]]:
    """By the name in the table: whose it is, and what its worker is asked for."""
    found = {}
    shape = dict(**plan["model"], length=length, batch=plan["batches"][length], dropout=dropout)
    for dtype in plan["dtypes"]:
        # Few layers on a CPU: unrolled they are a fifth faster than in a scan, whose slices of activations are copied.
        found[f"ours, {dtype}"] = "ours", dict(**shape, dtype=dtype, scan=device == "gpu")
        for gathered, how in HEADS.items():
            more = dict(dtype=dtype, gathered=gathered, compiled=device == "gpu")
            found[f"peer, {dtype}, {how}"] = "peer", dict(**shape, **more)
    return found


def table(plan: dict, length: int, dropout: float, measured: dict, flops: float, rates: dict[str, float]) -> str:
    """Markdown. Ratios are to our best step of the same dropout; only our operations are counted: only we have a share of the rate."""
    tokens = plan["batches"][length] * length
    ours = min(values["seconds"] for name, values in measured.items() if name.startswith("ours"))
    lines = [f"\nlength {length}, batch {plan['batches'][length]}, dropout {dropout:g}\n"]
    lines += ["| step | seconds | CPU seconds | tokens/s | times our best | of the matrix rate | loss |", "|---|---|---|---|---|---|---|"]
    for name, values in measured.items():
        seconds = values["seconds"]
        share = f"{flops / seconds / rates[name.split(', ')[1]]:.0%}" if name.startswith("ours") else ""
        cells = [name, f"{seconds:.4f}", f"{values['cpu']:.4f}", f"{tokens / seconds:,.0f}", f"{seconds / ours:.2f}", share]
        lines.append(f"| {' | '.join(cells)} | {values['loss']:.2f} |")
    return "\n".join(lines)


def headline(measured: dict) -> str:
    """Our float32 beside the peer's, and our best beside the peer's bfloat16, both as shipped."""
    best = min((name for name in measured if name.startswith("ours")), key=lambda name: measured[name]["seconds"])
    said = []
    for ours, dtype in (("ours, float32", "float32"), (best, "bfloat16")):
        peer = f"peer, {dtype}, as shipped"
        if ours in measured and peer in measured:
            said.append(f"{measured[peer]['seconds'] / measured[ours]['seconds']:.2f}x the {dtype} peer as shipped ({ours})")
    return "; ".join(said)


def start(flags: argparse.Namespace) -> dict[str, sides.Worker]:
    """Our worker, and the peer's where its packages are."""
    # On a GPU the peer needs room too.
    on = sides.on_cpu(flags.cores) if flags.device == "cpu" else {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    workers = sides.start({"ours": (sys.executable, "bert_step_ours.py", on), "peer": (flags.peer_python, "bert_step_peer.py", on)})
    if flags.device == "gpu" and "on gpu" not in (device := workers["ours"].ask(question="device")["answer"]) and not flags.tiny:
        sys.exit(f"--device=gpu, but there is no GPU: {device}")
    return workers


def main(arguments: list[str] | None = None) -> None:
    parser = sides.parser(__doc__, rounds=7)
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--dropouts", default="0,0.1")
    flags = parser.parse_args(arguments)
    todo, workers = plan(flags.device, flags.tiny), start(flags)
    ask = lambda **request: workers["ours"].ask(**request)["answer"]
    rates = {dtype: ask(question="matrix_rate", size=todo["rate_size"], dtype=dtype) for dtype in todo["dtypes"]}
    print(", ".join(f"{dtype} matrix rate {rate / 1e9:,.0f} GFLOP/s" for dtype, rate in rates.items()), flush=True)
    for length in todo["batches"]:
        for dropout in map(float, flags.dropouts.split(",")):
            asked = variants(todo, flags.device, length, dropout)
            measured = sides.measure(workers, asked, flags.rounds, todo["steps"])
            flops = ask(question="flops", **next(iter(asked.values()))[1])
            print(table(todo, length, dropout, measured, flops, rates), headline(measured), sep="\n\n", flush=True)
    for worker in workers.values():
        worker.close()


if __name__ == "__main__":
    main()
