"""Scores a fine-tuned checkpoint on the validation rows of its tasks, under the mesh and rules of training.

    python -m rootstock.finetune.evaluate --checkpoint=MODEL_DIR --tasks=boolq,copa
    python -m rootstock.finetune.evaluate --checkpoint=MODEL_DIR --tasks=superglue --data_dir=DIR --submission=superglue.zip

An encoder answers by its heads, an encoder-decoder in words: by what it generates, or with --rank by the likeliest of a task's answers.
--tasks=superglue and --tasks=glue stand for the whole suite: what the checkpoint has no head for, or the folder no files of, is listed as
missing. Prints a table with the majority baseline and, for a suite, its averages and published peers. Writes MODEL_DIR/evaluation.json
and evaluation.html, anew at every call, and predictions/TASK.SPLIT.jsonl. --submission also predicts the test rows and writes the files
that the leaderboard takes.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from rootstock.data.errors import DataError
from rootstock.data.tasks import Task as Rows
from rootstock.engine import checkpoints, mesh
from rootstock.engine.errors import UserError
from rootstock.engine.launch import guarded
from rootstock.engine.model_dir import write_atomically
from rootstock.finetune import evaluation_report, leaderboard, submission
from rootstock.finetune.outcome import Outcome, Result
from rootstock.finetune.tasks import find, names

SUITES = tuple(leaderboard.SUITES)


def predict(
    directory: str,
    tasks: Sequence[str],
    data_dir: str,
    length: int | None = None,
    batch_size: int = 64,
    shape: mesh.Shape | None = None,
    split: str = "validation",
    step: int | None = None,
    target_length: int | None = None,
    rank: bool = False,
) -> Outcome:
    """What the checkpoint in `directory` (of a step, the newest by default) says of a split of each task. `tasks` are names of tasks, where
    one that it does not answer or that has no files is a mistake, and of suites, where such tasks are missing. `shape` is a mesh shape;
    None is one device. `target_length` and `rank` are for encoder-decoders: see `answerers`.
    """
    from rootstock.engine.load import load
    from rootstock.finetune import recipe
    from rootstock.finetune.answerers import Asked, Opened, answerer

    named = {find(name).name for name in tasks if name not in SUITES}
    found = {task.name: task for name in tasks for task in map(find, names(name) if name in SUITES else (name,))}
    vocabulary = recipe.vocabulary_of(directory)
    step = checkpoints.newest(directory) if step is None else step
    opened = Opened(directory, *load(directory, shape, step))
    by = answerer(opened, Asked(data_dir, vocabulary, length, target_length, batch_size, rank))
    missing = by.missing(found.values())
    if refused := missing if len(missing) == len(found) else {name: why for name, why in missing.items() if name in named}:
        raise by.refusal(refused)
    results = {}
    for name, task in found.items():
        if name in missing:
            continue
        if name not in named and (absent := _absent(by.rows(task), task.splits.get(split, split), data_dir)):
            missing[name] = absent
            continue
        rows = by.read(task, split)
        results[name] = Result(task, rows, by.answer(task, rows))
    if not results:
        raise UserError(f"nothing of {', '.join(tasks)} can be predicted: {_because(missing)}")
    return Outcome(results, {name: missing[name] for name in found if name in missing}, split, step)


def evaluate(directory: str, tasks: Sequence[str], data_dir: str, **how: Any) -> Outcome:
    """`predict` for scoring: a split without any label is refused, or missing from a suite."""
    outcome = predict(directory, tasks, data_dir, **how)
    blind = [name for name, result in outcome.results.items() if not result.predictions.scored]
    why = {name: f"the split '{outcome.results[name].split.split}' has no labels" for name in blind}
    named = [find(name).name for name in tasks if name not in SUITES]
    if refused := blind if len(blind) == len(outcome.results) else [name for name in blind if name in named]:
        raise UserError(
            f"{refused[0]} cannot be scored: {why[refused[0]]} in {data_dir}. To write predictions on test rows for a leaderboard use "
            "--submission=FILE.zip"
        )
    seen = {name: result for name, result in outcome.results.items() if name not in blind}
    return dataclasses.replace(outcome, results=seen, missing=outcome.missing | why)


def scores(directory: str, tasks: Sequence[str], data_dir: str, **how: Any) -> dict[str, dict[str, float]]:
    """{task: {metric: value}} of a checkpoint; `how` as `predict` has it."""
    return evaluate(directory, tasks, data_dir, **how).scores


def _absent(rows: Rows, wanted: str, data_dir: str) -> str:
    """Why a split cannot be read, where its files are not there."""
    try:
        return "" if wanted in rows.splits else f"no split '{wanted}' in {data_dir}"
    except DataError as error:
        return str(error)


def _because(missing: dict[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in missing.items())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rootstock.finetune.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, metavar="MODEL_DIR", help="of a fine-tuned model")
    parser.add_argument("--tasks", required=True, help="superglue, glue, or names with commas between them: boolq,cb,... or dotted paths")
    parser.add_argument(
        "--data_dir",
        default="data/demo/superglue",
        help="folder with the official folders, or a TFDS data_dir (default: the tasks that come with the package)",
    )
    parser.add_argument("--split", default="validation", help="the rows to score (default: validation)")
    parser.add_argument("--step", type=int, help="of the checkpoint to score (default: the newest)")
    parser.add_argument("--submission", metavar="FILE.zip", help="predict the test rows too, and write the leaderboard's files")
    parser.add_argument(
        "--length", type=int, help="tokens a row, as in fine-tuning (default: 512, or the model's positions if they are fewer)"
    )
    parser.add_argument("--target_length", type=int, help="tokens that an encoder-decoder generates at most (default: 64)")
    parser.add_argument(
        "--rank", action="store_true", help="of an encoder-decoder, the likeliest of a task's answers: nothing is generated"
    )
    parser.add_argument(
        "--batch_size", type=int, default=64, help="rows that are looked at at once; scores do not depend on it (default: 64)"
    )
    parser.add_argument(
        "--mesh", default="", metavar="AXIS=N,...", help="devices along each mesh axis, e.g. data=4,tensor=2 (default: one device)"
    )
    flags = parser.parse_args(argv)
    return guarded(lambda: _run(flags))


def _run(flags: argparse.Namespace) -> None:
    tasks = [name for name in flags.tasks.split(",") if name]
    if not tasks:
        raise UserError(f"--tasks={flags.tasks} names no task; write for example --tasks=boolq,copa")
    if flags.batch_size < 1:
        raise UserError(f"--batch_size={flags.batch_size} must be at least 1")
    for name in ("length", "target_length"):
        if (value := getattr(flags, name)) is not None and value < 2:
            raise UserError(f"--{name}={value} must be at least 2")
    if flags.submission:
        submission.check([name for named in tasks for name in (names(named) if named in SUITES else (named,))])
    how = {"length": flags.length, "batch_size": flags.batch_size, "shape": mesh.parse(flags.mesh)}
    how |= {"target_length": flags.target_length, "rank": flags.rank, "step": flags.step}
    outcome = evaluate(flags.checkpoint, tasks, flags.data_dir, split=flags.split, **how)
    _write(pathlib.Path(flags.checkpoint), outcome)
    print(evaluation_report.table(outcome))
    if flags.submission:
        test = predict(flags.checkpoint, tasks, flags.data_dir, split="test", **how)
        _write_predictions(pathlib.Path(flags.checkpoint), test)
        for remark in evaluation_report.in_words(test):
            print(f"warning: of the test rows {remark}")
        left = submission.write(flags.submission, {name: result.predictions for name, result in test.results.items()})
        rows = sum(len(result.predictions) for result in test.results.values())
        print(f"\n{flags.submission}: {rows:,} predictions on the test rows of {', '.join(test.results)}")
        if partial := submission.partial(test.results):
            print(f"warning: these are not whole, and the leaderboard may refuse them: {'; '.join(partial)}")
        if left:
            print(f"The leaderboard also wants {', '.join(left)}. {_because(test.missing)}".rstrip())


def _write(directory: pathlib.Path, outcome: Outcome) -> None:
    _write_predictions(directory, outcome)
    try:
        write_atomically(directory / "evaluation.json", json.dumps(outcome.plain(), indent=2) + "\n")
        write_atomically(directory / "evaluation.html", evaluation_report.page(outcome, directory.name))
    except OSError as error:
        raise UserError(f"the scores cannot be written into {directory}: {error.strerror}") from error


def _write_predictions(directory: pathlib.Path, outcome: Outcome) -> None:
    try:
        for result in outcome.results.values():
            result.write_predictions(directory)
    except OSError as error:
        raise UserError(f"the predictions cannot be written into {directory}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
