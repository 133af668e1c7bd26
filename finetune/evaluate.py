"""Scores a fine-tuned checkpoint on the validation rows of its tasks, under the mesh and rules of training.

    python -m rootstock.finetune.evaluate --checkpoint=MODEL_DIR --tasks=boolq,copa

Prints a table with the majority baseline and writes it to MODEL_DIR/evaluation.json.
"""

import argparse
import json
import pathlib
import sys

from rootstock.engine.errors import UserError
from rootstock.engine.launch import guarded


def evaluate(
    directory: str, tasks: list[str], data_dir: str, length: int | None = None, batch_size: int = 64, shape=None, split: str = "validation"
) -> dict[str, dict[str, dict[str, float]]]:
    """{task: {"scores": {metric: value}, "majority": {metric: value}, "rows": {"rows": n}}}. `shape` is a mesh shape; None is one
    device.
    """
    from rootstock.data.streams import Ordered
    from rootstock.engine.evaluate import Evaluation
    from rootstock.engine.load import load
    from rootstock.finetune import recipe
    from rootstock.finetune.finetuned import Config
    from rootstock.finetune.tasks import find

    found = {name: find(name) for name in tasks}
    vocabulary = recipe.vocabulary_of(directory)
    blueprint, params = load(directory, shape)
    config = blueprint.model.config
    heads = config.heads if isinstance(config, Config) else {}
    missing = [name for name in tasks if name not in heads]
    if missing:
        raise UserError(
            f"{directory} has no head for {', '.join(missing)}; it has heads for {', '.join(heads) or 'no task: fine-tune it first'}"
        )
    length = length or config.encoder.config.max_length
    results = {}
    for name, task in found.items():
        data = Ordered(task.read(data_dir, vocabulary, length, split))
        results[name] = {
            "scores": Evaluation(blueprint, task.probe(), data, batch_size)(params),
            "majority": recipe.majority({name: data}).get(name, {}),
            "rows": {"rows": len(data)},
        }
    return results


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """One line a task and metric, percentages where scores are shares."""
    lines = [f"{'task':10} {'rows':>6}  {'metric':12} {'score':>7} {'majority':>9}"]
    for name, result in results.items():
        for metric, score in result["scores"].items():
            majority = result["majority"].get(metric)
            told = f"{100 * majority:9.1f}" if majority is not None else " " * 9
            lines.append(f"{name:10} {result['rows']['rows']:6,}  {metric:12} {100 * score:7.1f} {told}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rootstock.finetune.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, metavar="MODEL_DIR", help="of a fine-tuned model")
    parser.add_argument("--tasks", required=True, help="names with commas between them: boolq,cb,copa,multirc,rte,wic,wsc or dotted paths")
    parser.add_argument(
        "--data_dir",
        default="data/demo/superglue",
        help="folder with the official SuperGLUE folders (default: the tasks that come with the package)",
    )
    parser.add_argument("--length", type=int, help="tokens a row (default: the model's positions)")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument(
        "--mesh", default="", metavar="AXIS=N,...", help="devices along each mesh axis, e.g. data=4,tensor=2 (default: one device)"
    )
    flags = parser.parse_args(argv)
    return guarded(lambda: _run(flags))


def _run(flags: argparse.Namespace) -> None:
    from rootstock.engine import mesh
    from rootstock.engine.model_dir import write_atomically

    try:
        sizes = {name: int(number) for name, _, number in (part.partition("=") for part in flags.mesh.split(",") if part)}
        shape = mesh.Shape(**sizes) if sizes else None
    except (TypeError, ValueError) as error:
        raise UserError(
            f"--mesh={flags.mesh} is not a mesh; write AXIS=N with commas between, with the axes {', '.join(mesh.AXES)}"
        ) from error
    tasks = [name for name in flags.tasks.split(",") if name]
    if not tasks:
        raise UserError(f"--tasks={flags.tasks} names no task; write for example --tasks=boolq,copa")
    if flags.batch_size < 1:
        raise UserError(f"--batch_size={flags.batch_size} must be at least 1")
    results = evaluate(flags.checkpoint, tasks, flags.data_dir, flags.length, flags.batch_size, shape)
    write_atomically(pathlib.Path(flags.checkpoint) / "evaluation.json", json.dumps(results, indent=2) + "\n")
    print(table(results))


if __name__ == "__main__":
    sys.exit(main())
