"""The best model of a task on rows without labels."""

import ast
import pathlib

from rootstock.engine import launch
from rootstock.engine.progress import say
from rootstock.finetune import evaluate, recipe
from rootstock.finetune.protocol import Protocol, Unit, dev
from rootstock.finetune.tasks import find


def splits(protocol: Protocol, unit: Unit, best: pathlib.Path) -> list[pathlib.Path]:
    """MODEL_DIR/predictions/TASK.SPLIT.jsonl for each split of `protocol.predict` that a task of the unit has; what stands there already,
    of the same model, stays.
    """
    macros = launch.macros()
    data_dir, length = (ast.literal_eval(macros[name]) for name in ("DATA_DIR", "LENGTH"))
    target_length = ast.literal_eval(macros.get("TARGET_LENGTH", "None"))
    made = (best / dev.FOUND).stat().st_mtime
    written = []
    for name in unit.evaluated:
        task = find(name)
        there = task.rows(data_dir, recipe.vocabulary_of(str(best)), length).splits
        for split in protocol.predict:
            if task.splits.get(split, split) not in there:
                continue
            path = pathlib.Path(protocol.model_dir, dev.PREDICTIONS, f"{name}.{task.splits.get(split, split)}.jsonl")
            if path.is_file() and path.stat().st_mtime > made:
                continue
            outcome = evaluate.predict(str(best), [name], data_dir, length, split=split, target_length=target_length)
            written.append(dev.write_predictions(pathlib.Path(protocol.model_dir), name, outcome.results[name]))
            say(f"wrote {path}")
    return written
