"""The best model of a task on rows without labels."""

import pathlib

from rootstock.engine import launch
from rootstock.engine.progress import say
from rootstock.finetune import evaluate, recipe
from rootstock.finetune.outcome import PREDICTIONS
from rootstock.finetune.protocol import Protocol, Unit, dev
from rootstock.finetune.tasks import find


def splits(protocol: Protocol, unit: Unit, best: pathlib.Path) -> list[pathlib.Path]:
    """MODEL_DIR/predictions/TASK.SPLIT.jsonl for each split of `protocol.predict` that a task of the unit has; what stands there already,
    of the same model and files, stays. The macros of that model's run are bound.
    """
    data_dir, length = launch.macro("DATA_DIR"), launch.macro("LENGTH")
    target_length = launch.macro("TARGET_LENGTH") if "TARGET_LENGTH" in launch.macros() else None
    written = []
    for name in unit.evaluated:
        task = find(name)
        rows = task.rows(data_dir, recipe.vocabulary_of(str(best)), length)
        newest = max(path.stat().st_mtime for path in (best / dev.FOUND, *rows.inputs()))
        for split in protocol.predict:
            if task.splits.get(split, split) not in rows.splits:
                continue
            path = pathlib.Path(protocol.model_dir, PREDICTIONS, f"{name}.{task.splits.get(split, split)}.jsonl")
            if path.is_file() and path.stat().st_mtime > newest:
                continue
            outcome = evaluate.predict(str(best), [name], data_dir, length, split=split, target_length=target_length)
            written.append(outcome.results[name].write_predictions(pathlib.Path(protocol.model_dir)))
            say(f"wrote {path}")
    return written
