"""The whole fine-tuning protocol in one command: every task of a recipe, with several seeds, to one report.

    python -m rootstock.finetune.superglue --gin_file=finetune/superglue_protocol.gin --gin.MODEL_DIR="'runs/superglue'" \\
        --gin.ENCODER="'runs/bert'" --gin.DATA_DIR="'DIR'"

Runs follow one another in this process, on all of its devices; on several hosts start single runs with rootstock.finetune. Started
again it goes on where it stood; finished runs are not repeated, and more seeds or tasks may be added. --dry_run lists the runs. See
rootstock/finetune/protocol and docs/finetune.md.
"""

import collections
import contextlib
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rootstock.data.errors import DataError
from rootstock.engine import host_memory, launch
from rootstock.engine.errors import TRAINED, UserError
from rootstock.engine.progress import say

if TYPE_CHECKING:
    from rootstock.finetune.protocol import Protocol, runs

PROTOCOL = "rootstock.finetune.protocol.Protocol"


def main(argv: Sequence[str] | None = None) -> int:
    program = "rootstock.finetune.superglue"
    host_memory.keep()
    flags = launch.parse(program, __doc__, sys.argv[1:] if argv is None else argv, "list the runs, then stop")
    return launch.guarded(lambda: _run(flags))


def _run(flags) -> int:
    from rootstock.engine.model_dir import claimed
    from rootstock.finetune.protocol import runs

    folders = [folder for folder in flags.gin_search_paths.split(",") if folder]
    recipe = runs.Recipe(flags.gin_file, flags.gin_bindings, folders, flags.command)
    recipe.bind()
    if not runs.is_bound("protocol.Protocol.model_dir"):
        raise UserError(f"{', '.join(flags.gin_file)} describes no protocol: include gin_configs/finetune/superglue_protocol.gin")
    protocol = launch.fetch(PROTOCOL)
    _check_bindings(flags.gin_bindings)
    _check_data(protocol)
    texts = dict(zip(protocol.tasks, runs.task_texts(), strict=True))
    with contextlib.nullcontext() if flags.dry_run else claimed(protocol.model_dir):
        _keep_programs(protocol.model_dir)
        _follow(recipe, protocol, texts, flags.dry_run)
    return TRAINED


def _check_bindings(bindings: Sequence[str]) -> None:
    """What the protocol binds for each run would be lost."""
    own = {"TRAIN_STEPS": "it counts steps by EPOCHS", "SEED": "its seeds are protocol.Protocol.seeds", "EVALUATED": "its tasks are TASKS"}
    for name in (binding.partition("=")[0].strip() for binding in bindings):
        if name in own:
            raise UserError(f"{name} is bound anew for each run of the protocol: {own[name]}")


def _check_data(protocol: "Protocol") -> None:
    """Raises for all tasks that DATA_DIR lacks the rows of, before hours go into the others; what has been run needs none."""
    from rootstock.finetune.protocol import runs

    lacking = []
    for unit in protocol.units:
        first = next(protocol.plan(unit, {}))
        if not pathlib.Path(protocol.model_dir, "runs", first.place, runs.RESULT).is_file():
            lacking += [told for name in unit.evaluated if (told := _lacks(name, protocol.predict))]
    if lacking:
        raise UserError(" ".join(lacking))


def _lacks(name: str, predicted: Sequence[str]) -> str:
    """What rows of a task are missing or cannot be read; "" if none are."""
    from rootstock.finetune.tasks import find

    task, data_dir = find(name), launch.macro("DATA_DIR")
    needed = ("validation",) if task.answered_by else ("train", "validation")
    try:
        rows = task.rows(data_dir, "", launch.macro("LENGTH"))
        there = rows.splits
        for split in {task.splits.get(split, split) for split in (*needed, *predicted)} & set(there):
            collections.deque(rows.examples(split) if hasattr(rows, "examples") else (), maxlen=0)
    except DataError as error:
        return str(error)
    lacking = [split for split in needed if task.splits.get(split, split) not in there]
    return f"{name} has no split {' and no '.join(map(repr, lacking))} in '{data_dir}'; it has {', '.join(there)}." if lacking else ""


def _keep_programs(model_dir: str) -> None:
    """Seeds of a task are one program: what one run compiled, the next ones read."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(model_dir, "compiled")))
    compilation_cache.reset_cache()  # the folder is that of the process's first use, until then


def _follow(recipe: "runs.Recipe", protocol: "Protocol", texts: Mapping[str, str], dry_run: bool) -> None:
    """Every run of every unit, the report written anew after each."""
    from rootstock.finetune.protocol import overlap, predict, report, runs

    pretrained = next((launch.macro(name) for name in ("ENCODER", "PRETRAINED") if name in launch.macros()), None)
    warnings = overlap.warnings(pretrained, protocol.tasks, protocol.overlaps) if pretrained else []
    for warning in warnings:
        say(f"warning: {warning}")
    done: list[runs.Trained] = []
    number, count = 0, protocol.count()
    for unit in protocol.units:
        of_unit: list[runs.Trained] = []
        headlines: dict[pathlib.Path, float] = {}
        for planned in protocol.plan(unit, headlines):
            number += 1
            say(f"[{number}/{count}] {planned.place}")
            if dry_run:
                continue
            one = runs.run(recipe, protocol, planned, texts)
            headlines[planned.place] = one.headline
            of_unit.append(one)
            best = runs.settle(protocol.model_dir, of_unit)
            report.write(protocol, [*done, *of_unit], warnings, recipe.command)
        if protocol.predict and not dry_run:
            runs.bind(recipe, protocol, runs.kept(best, of_unit), texts)
            predict.splits(protocol, unit, best)
        done += of_unit
    if not dry_run:
        print(report.table(protocol, done))
        say(f"done: {pathlib.Path(protocol.model_dir)}/report.html")


if __name__ == "__main__":
    sys.exit(main())
