"""What an objective is worth: twins of one size, pretrained with equal steps over equal tokens, fine-tuned alike.

    python benchmarks/encoders_effect.py --out=runs/effect --glue=DIR [--steps=600] [--seeds=0,1,2] [--arms=mlm,rtd,wwm]

mlm, rtd, wwm: masked LM of single tokens, replaced-token detection with the same encoder as the discriminator, masked LM of whole words
(the demo's recipes). The rtd arm has its generator on top of the same steps; seconds are told beside. Each seed is one pretraining and
one fine-tuning a task; runs that are there are not repeated. `--glue` has a folder a task, as gluebenchmark.com hands them out; `--limit`
takes only so many training rows. More text: --data and --vocabulary. Prints every command, and a Markdown table at the end.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

ARMS = {"mlm": "demo_bert.gin", "rtd": "demo_electra.gin", "wwm": "demo_wwm.gin"}


def commands(flags: argparse.Namespace, arm: str, seed: str) -> list[list[str]]:
    """Pretraining and fine-tuning of one arm and seed."""
    encoder = f"{flags.out}/{arm}{seed}"
    text = {"DATA_DIR": flags.data, "CACHE_DIR": f"{flags.out}/cache", "VOCABULARY": flags.vocabulary} if flags.data else {}
    macros = {"MODEL_DIR": encoder, **text}
    pretrain = [
        "-m",
        "rootstock.pretrain",
        f"--gin_file=gin_configs/pretrain/{ARMS[arm]}",
        *(f"--gin.{k}='{v}'" for k, v in macros.items()),
    ]
    macros = {"MODEL_DIR": f"{encoder}_glue", "ENCODER": encoder, "DATA_DIR": flags.glue}
    finetune = ["-m", "rootstock.finetune.superglue", "--gin_file=gin_configs/finetune/superglue_protocol.gin"]
    finetune += [f"--gin.{k}='{v}'" for k, v in macros.items()]
    tasks = tuple(flags.tasks.split(","))
    finetune += [f"--gin.TASKS={tasks!r}", "--gin.LENGTH=64", "--gin.EPOCHS=3", "--gin.BATCH_SIZE=32", "--gin.LEARNING_RATE=2e-4"]
    finetune += [f"--gin_bindings=protocol.Protocol.seeds = ({seed},)"]
    # RTD's encoder has no pooler: both begin with a random one.
    finetune += ["--gin_bindings=finetuned.encoder_of.pooler = True", "--gin_bindings=train.Run.skip = '^heads/|^encoder/pooler/'"]
    if flags.limit:
        finetune.append(f"--gin.LIMITS={dict.fromkeys(tasks, flags.limit)!r}")
    return [[*pretrain, f"--gin.TRAIN_STEPS={flags.steps}", f"--gin.SEED={seed}"], finetune]


def run(command: list[str]) -> float:
    """Seconds; ends everything where a command fails."""
    print("$ python " + " ".join(f'"{part}"' if "'" in part or " " in part else part for part in command), flush=True)
    begin = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True)
    return time.perf_counter() - begin


def last(folder: str, split: str, name: str, task: str | None = None) -> float:
    """The last value of a metric in a MODEL_DIR."""
    lines = map(json.loads, pathlib.Path(folder, "metrics.jsonl").read_text().splitlines())
    found = [line["value"] for line in lines if line["split"] == split and line["name"] == name and task in (None, line.get("task"))]
    return found[-1] if found else float("nan")


def scores(folder: str, tasks: list[str]) -> dict[str, float]:
    """The first metric of each task, as the protocol found it."""
    found = json.loads(pathlib.Path(folder, "results.json").read_text())["tasks"]
    return {task: next(iter(found[task].values()))["median"] for task in tasks}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--glue", required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--arms", default="mlm,rtd,wwm")
    parser.add_argument("--tasks", default="sst2,cola,glue_rte")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--data")
    parser.add_argument("--vocabulary")
    flags = parser.parse_args(arguments)
    tasks = flags.tasks.split(",")
    lines = [f"| arm | seeds | pretraining, s | training loss | validation loss | {' | '.join(tasks)} |", "|" + "---|" * (5 + len(tasks))]
    for arm in flags.arms.split(","):
        rows = []
        for seed in flags.seeds.split(","):
            pretrain, finetune = commands(flags, arm, seed)
            seconds = run(pretrain)
            run(finetune)
            encoder = f"{flags.out}/{arm}{seed}"
            found = scores(f"{encoder}_glue", tasks)
            rows.append([seconds, last(encoder, "train", "loss"), last(encoder, "validation", "loss"), *(found[task] for task in tasks)])
        cells = [f"{statistics.mean(column):.3f}" for column in zip(*rows, strict=True)]
        lines.append(f"| {arm} | {flags.seeds} | {' | '.join(cells)} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
