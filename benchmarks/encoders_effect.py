"""What an objective is worth: twins of one size, pretrained with equal steps over equal tokens, fine-tuned alike.

    python benchmarks/encoders_effect.py --out=runs/effect --glue=DIR [--steps=2000] [--seeds=0,1,2] [--arms=mlm,mlm15,rtd,wwm]

mlm, rtd, wwm: masked LM of single tokens, replaced-token detection with the same encoder as the discriminator, masked LM of whole words:
the demo's recipes with the masking rates that they have (40%, for rtd 15% as published), and the optimizer of demo_bert_long.gin, with
which so few steps teach more than frequencies. mlm15 is mlm with rtd's 15%. The rtd arm has its generator on top of the same steps;
seconds are told beside. Each seed is one pretraining, fine-tuned three times a task, of which the median counts; runs that are there are
not repeated. `--glue` has a folder a task, as gluebenchmark.com hands them out; `--limit` takes only so many training rows. More text:
--data and --vocabulary. Prints every command, and a Markdown table at the end: the mean over seeds of each median.
"""

import argparse
import json
import pathlib
import statistics

import effects

MUON = {"train.Run.update": "@optimizers.muon()", "optimizers.muon.learning_rate": "@schedules.linear()", "schedules.linear.peak": 1.5e-3}
FAST = {"scan": False, "dtype": "bfloat16"}  # few layers, on a CPU: half as fast again
ARMS = {
    "mlm": ("demo_bert.gin", "bert", {}),
    "mlm15": ("demo_bert.gin", "bert", {"mlm.MaskedLM.rate": 0.15}),
    "rtd": ("demo_electra.gin", "electra", {}),
    "wwm": ("demo_wwm.gin", "bert", {}),
}


def commands(flags: argparse.Namespace, arm: str, seed: str) -> list[list[str]]:
    """Pretraining and fine-tuning of one arm and seed."""
    recipe, family, own = ARMS[arm]
    bindings = MUON | own | {f"{family}.Config.{name}": value for name, value in FAST.items()}
    encoder, tasks = f"{flags.out}/{arm}{seed}", tuple(flags.tasks.split(","))
    text = {"DATA_DIR": flags.data, "CACHE_DIR": f"{flags.out}/cache", "VOCABULARY": flags.vocabulary} if flags.data else {}
    pretraining = {"MODEL_DIR": encoder, **text, "TRAIN_STEPS": flags.steps, "SEED": int(seed)}
    tuning = {"MODEL_DIR": f"{encoder}_glue", "ENCODER": encoder, "DATA_DIR": flags.glue, "TASKS": tasks, "LENGTH": 64, "EPOCHS": 3,
              "BATCH_SIZE": 32, "LEARNING_RATE": 2e-4}  # fmt: skip
    if flags.limit:
        tuning["LIMITS"] = dict.fromkeys(tasks, flags.limit)
    # RTD's encoder has no pooler: all begin with a random one.
    bound = {"finetuned.encoder_of.pooler": True, "train.Run.skip": "^heads/|^encoder/pooler/"}
    return [
        ["-m", "rootstock.pretrain", *effects.flags([f"pretrain/{recipe}"], pretraining, bindings)],
        ["-m", "rootstock.finetune.superglue", *effects.flags(["finetune/superglue_protocol.gin"], tuning, bound)],
    ]


def scores(folder: str, tasks: list[str]) -> dict[str, float]:
    """The first metric of each task, as the protocol found it."""
    found = json.loads(pathlib.Path(folder, "results.json").read_text())["tasks"]
    return {task: next(iter(found[task].values()))["median"] for task in tasks}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--glue", required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--arms", default=",".join(ARMS))
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
            effects.run(pretrain)
            effects.run(finetune)
            encoder = f"{flags.out}/{arm}{seed}"
            found = scores(f"{encoder}_glue", tasks)
            told = [effects.last(encoder, *what) for what in (("goodput", "train"), ("train", "loss"), ("validation", "loss"))]
            rows.append([*told, *(found[task] for task in tasks)])
        cells = [f"{statistics.mean(column):.3f}" for column in zip(*rows, strict=True)]
        lines.append(f"| {arm} | {flags.seeds} | {' | '.join(cells)} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
