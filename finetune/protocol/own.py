"""A user's own task, described in a recipe: see gin_configs/finetune/mytask.gin."""

import functools
from collections.abc import Sequence

from rootstock.data.table_task import TableTask
from rootstock.finetune import heads, metrics, tasks


def define(name: str, texts: Sequence[str], label: str = "label", labels: Sequence[str] = ()) -> str:
    """Makes a task known under `name`, and returns that, to stand in TASKS: `TASKS = (@own.define(),)`.

    DATA_DIR holds its train.tsv (or .jsonl) and so on, with the columns `texts` (one or two) and `label`: one of `labels`, scored by
    accuracy and macro-F1, or a number where no labels are given, scored by Pearson's and Spearman's correlation.
    """
    kind = heads.Classification if labels else heads.Regression
    scored = (metrics.accuracy, metrics.macro_f1) if labels else (metrics.pearson, metrics.spearman)
    rows = functools.partial(_rows, name, tuple(texts), label, tuple(labels))
    tasks.add(tasks.Task(name, rows, kind, tuple(labels), scored))
    return name


def _rows(name: str, texts: tuple[str, ...], label: str, labels: tuple[str, ...], data_dir: str, vocabulary: str, length: int) -> TableTask:
    return TableTask(name, data_dir, vocabulary, length, texts, label, labels)
