"""SuperGLUE and GLUE: from official files or TFDS directories to examples, and from examples to rows in two casts.

`superglue` and `glue` make rows for encoders, `text_to_text` T5's inputs and targets.
"""

from typing import Any


def seqio_register(data_dir: str, vocabulary: str, length: int, target_length: int | None = None) -> list[str]:
    """Puts every set that `data_dir` holds into seqio's registry; the names, for mixtures.

    Rows for encoders stand under the set's own name (`boolq`, `glue_rte`); with a `target_length`, T5's cast stands under `boolq_text`
    and so on. All of T5's cast have the same features and mix with one another.
    """
    from rootstock.data import seqio_bridge
    from rootstock.data.errors import DataError
    from rootstock.data.suites import glue, superglue, text_to_text

    seqio = seqio_bridge.require_seqio("registering tasks")
    if target_length is None:
        tasks = [make(data_dir, vocabulary, length) for suite in (superglue, glue) for make in suite.TASKS.values()]
    else:
        tasks = [text_to_text.task(name, data_dir, vocabulary, length, target_length) for name in text_to_text.SETS]
    found: list[Any] = [task for task in tasks if task.set.splits(data_dir)]
    if not found:
        raise DataError(f"'{data_dir}' holds no set of SuperGLUE or GLUE: neither official files nor a TFDS data_dir.")
    for task in found:
        seqio.TaskRegistry.add_provider(task.name, task.seqio())
    return [task.name for task in found]
