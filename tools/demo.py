"""The whole way in one command: pretrain a small BERT, fine-tune it and a random one on SuperGLUE tasks, compare.

    python -m rootstock.tools.demo --out=runs/demo

Every stage is one of the ordinary commands and is printed before it runs; started again, the demo goes on where it stood. Any
--gin.NAME=value, such as --gin.TRAIN_STEPS=100, goes to all of them.
"""

import argparse
import pathlib
import subprocess
import sys
import time

from rootstock.engine.errors import TRAINED
from rootstock.engine.launch import command_line, guarded

PRETRAINED, RANDOM = "pretrained", "from random weights"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rootstock.tools.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="runs/demo", help="folder for the three runs and report.html (default: runs/demo)")
    parser.add_argument("--pretrain", default="pretrain/demo_bert.gin", metavar="RECIPE", help="e.g. pretrain/demo_bert_long.gin")
    parser.add_argument(
        "--finetune", default="finetune/demo_superglue.gin", metavar="RECIPE", help="of both fine-tunings (default: demo_superglue.gin)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all three runs (default: 0)")
    flags, bindings = parser.parse_known_args(argv)
    unknown = [argument for argument in bindings if not argument.startswith("--gin.")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)} (only --gin.NAME=value is passed on, to every stage)")
    return guarded(lambda: _run(flags, bindings))


def _run(flags: argparse.Namespace, bindings: list[str]) -> int:
    started = time.monotonic()
    out = pathlib.Path(flags.out)
    encoder, runs = out / "pretrain", {PRETRAINED: out / "finetuned", RANDOM: out / "random"}
    common = [f"--gin.SEED={flags.seed}", *bindings]
    stages = [["rootstock.pretrain", f"--gin_file={flags.pretrain}", f"--gin.MODEL_DIR='{encoder}'", *common]]
    for name, folder in runs.items():
        start = [] if name == PRETRAINED else ["--gin.INIT_FROM=None"]
        stages.append(
            [
                "rootstock.finetune",
                f"--gin_file={flags.finetune}",
                f"--gin.MODEL_DIR='{folder}'",
                f"--gin.ENCODER='{encoder}'",
                *start,
                *common,
            ]
        )
    for number, stage in enumerate(stages, 1):
        print(f"\n[{number}/{len(stages)}] {command_line(stage[0], stage[1:])}", flush=True)
        code = subprocess.run([sys.executable, "-m", *stage], check=False).returncode
        if code:
            return code
    print(f"\n{_results(encoder, runs, out / 'report.html')}\n{time.monotonic() - started:.0f} s in all; report: {out / 'report.html'}")
    return TRAINED


def _results(encoder: pathlib.Path, runs: dict[str, pathlib.Path], report_path: pathlib.Path) -> str:
    """Writes the report; the table as text."""
    from rootstock.engine import record, report

    report.compare_runs(runs, report_path, "Rootstock demo", [("Pretraining", report.excerpt(encoder))])
    records = {name: record.read(folder, name) for name, folder in runs.items()}
    lines = [
        f"pretraining: {report.headline(record.read(encoder))}",
        "",
        f"{'task':8} {'metric':10} {'majority':>9}" + "".join(f"{name:>21}" for name in runs),
    ]
    for task, metric in records[PRETRAINED].evaluated():
        found = records[PRETRAINED].baseline(task, metric)
        scores = [run.evaluated()[task, metric].last for run in records.values()]
        lines.append(f"{task:8} {metric:10} {100 * found[1]:9.1f}" + "".join(f"{100 * score:21.1f}" for score in scores))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
