"""What upcycling is worth: a dense language model, trained on as it is, as a mixture of experts, and a mixture from random weights.

    python benchmarks/upcycling_effect.py --out=runs/upcycling [--data=DIR] [--steps=600] [--seeds=0,1]

dense: decoder_tiny.gin for --steps steps. Then half as many more: `more` dense; `upcycled` into moe_lm_tiny.gin (8 experts in every other
layer, top-2, weights normalised); `plain` the same without normalisation; `scratch` that mixture from random weights, these steps alone.
AdamW throughout, with one learning rate for all, that of an inverse square root, so that no arm ends its schedule before another.
--data is a folder of text in place of the novels of the demo. Runs that are there are not repeated. Prints every command, a Markdown table
at equal steps and at equal FLOPs (a sparse step costs more), and the jump at the surgery; all curves are in OUT/curves.html.
"""

import argparse
import pathlib
import re
import statistics
import subprocess
import sys

import effects

SCHEDULE = {
    "optimizers.adamw.learning_rate": "@schedules.inverse_sqrt()",
    "schedules.inverse_sqrt.scale": 0.0155,  # 2e-3 at its peak
    "schedules.inverse_sqrt.warmup": 60,
}
PLAIN = {"routers.TopK.normalise": False}
SPARSE = "pretrain/upcycle_decoder_tiny.gin"


class Effect:
    """The runs of one seed."""

    def __init__(self, options: argparse.Namespace, seed: int):
        self.options, self.seed = options, seed
        self.more = options.steps // 2
        self.bindings = SCHEDULE | {"hooks.Evaluate.every": max(self.more // 12, 1)}

    def folder(self, arm: str) -> str:
        return f"{self.options.out}/{arm}{self.seed}"

    def train(self, arm: str, recipe: str, steps: int, bindings: dict, **macros) -> list[str]:
        text = {"DATA_DIR": self.options.data, "CACHE_DIR": f"{self.options.out}/cache"} if self.options.data else {}
        macros = {"MODEL_DIR": self.folder(arm), **text, "TRAIN_STEPS": steps, "SEED": self.seed, **macros}
        return ["-m", "rootstock.pretrain", *effects.flags([recipe], macros, self.bindings | bindings)]

    def upcycle(self, arm: str, bindings: dict) -> list[list[str]]:
        start = self.folder(f"{arm}_start")
        ends = [f"--from={self.folder('dense')}", f"--to={start}"]
        surgery = ["-m", "rootstock.tools.upcycle", *ends, *effects.flags([SPARSE], {}, self.bindings | bindings)]
        train = self.train(arm, SPARSE, self.options.steps + self.more, bindings, UPCYCLED=start)
        return [train] if pathlib.Path(start).is_dir() else [surgery, train]

    def run(self) -> None:
        total, dense = self.options.steps + self.more, "pretrain/decoder_tiny.gin"
        effects.run(self.train("dense", dense, self.options.steps, {}))
        effects.run(self.train("more", dense, total, {"train.Run.continue_from": self.folder("dense")}))
        for command in (*self.upcycle("upcycled", {}), *self.upcycle("plain", PLAIN)):
            effects.run(command)
        effects.run(self.train("scratch", "pretrain/moe_lm_tiny.gin", self.more, {}))

    def flops(self, arm: str, recipe: str) -> float:
        """Of a step, as `--dry_run` says."""
        command = self.train(f"{arm}_dry", recipe, 1, {})
        said = subprocess.run([sys.executable, *command, "--dry_run"], check=True, capture_output=True, text=True)
        return float(re.search(r"([\d,.]+) GFLOP", said.stdout)[1].replace(",", ""))


def rows(options: argparse.Namespace, seeds: list[Effect]) -> list[str]:
    """The table: means over seeds of the validation loss."""
    costs = {"dense": seeds[0].flops("dense", "pretrain/decoder_tiny.gin"), "sparse": seeds[0].flops("sparse", "pretrain/moe_lm_tiny.gin")}
    more, steps = seeds[0].more, options.steps
    found = [
        f"A step: {costs['dense']:.1f} GFLOP dense, {costs['sparse']:.1f} sparse.",
        "",
        f"| arm | at its start | after {more} steps | at the FLOPs of {more} dense steps | of each seed, after {more} steps |",
        "|---|---|---|---|---|",
    ]
    for arm in ("more", "upcycled", "plain", "scratch"):
        curves = [effects.curve(one.folder(arm), "validation", "loss") for one in seeds]
        begin = 0 if arm == "scratch" else steps
        cost = costs["dense" if arm == "more" else "sparse"]
        least = [[curve[begin], curve[begin + more], between(curve, begin + more * costs["dense"] / cost)] for curve in curves]
        means = [f"{statistics.mean(column):.3f}" for column in zip(*least, strict=True)]
        found.append(f"| {arm} | {' | '.join(means)} | {', '.join(f'{values[1]:.3f}' for values in least)} |")
    return found


def between(curve: dict[int, float], step: float) -> float:
    """The curve at a step, straight between two evaluations."""
    before, after = max(at for at in curve if at <= step), min(at for at in curve if at >= step)
    share = 0.0 if after == before else (step - before) / (after - before)
    return (1 - share) * curve[before] + share * curve[after]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--data")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", default="0,1")
    options = parser.parse_args(arguments)
    seeds = [Effect(options, int(seed)) for seed in options.seeds.split(",")]
    for one in seeds:
        one.run()
    print("\n".join(rows(options, seeds)))
    folders = [one.folder(arm) for arm in ("dense", "more", "upcycled", "plain", "scratch") for one in seeds]
    effects.run(["-m", "rootstock.tools.compare", *folders, f"--out={options.out}/curves.html"])


if __name__ == "__main__":
    main()
