"""SuperGLUE for encoders (Wang et al. 2019, arXiv 1905.00537). Metrics are the official ones; the casts stand in data/suites/superglue.py.

ReCoRD is judged as in the paper's BERT baseline: a two-class head says of each entity, filled into the query, whether it answers it, and
the most probable entity is the answer. AX-b and AX-g have no training rows: RTE's head answers them.
"""

from collections.abc import Iterable

import numpy as np

from rootstock.data.suites import superglue as rows
from rootstock.finetune import heads, metrics
from rootstock.finetune.predictions import Predictions, texts
from rootstock.finetune.tasks import Example, Task

_ONLY_TEST = {"validation": "test"}  # a diagnostic set is one split, labelled, that TFDS calls test


def best_entities(entities: Predictions, queries: Iterable[Example]) -> Predictions:
    """From a row for each entity, by passage, query and number, to a row for each query: the text of the most probable entity."""
    chances = {tuple(idx): share for idx, share in zip(entities.idx.tolist(), entities.probabilities[:, 1].tolist(), strict=True)}
    found = []
    for query in queries:
        place, candidates = (query["idx"]["passage"], query["idx"]["query"]), query["entities"]
        best = max(range(len(candidates)), key=lambda number: chances[*place, number], default=None)
        found.append((place, tuple(query["answers"]), "" if best is None else candidates[best]))
    idx, golds, answers = zip(*found, strict=True)
    return Predictions(np.array(idx, np.int32), texts(golds), texts(answers))


boolq = Task("boolq", rows.boolq, heads.Classification, rows.LABELS["boolq"])
cb = Task("cb", rows.cb, heads.Classification, rows.LABELS["cb"], (metrics.accuracy, metrics.macro_f1))
copa = Task("copa", rows.copa, heads.MultipleChoice, rows.LABELS["copa"])
multirc = Task("multirc", rows.multirc, heads.Classification, rows.LABELS["multirc"], (metrics.f1a, metrics.question_exact_match))
record = Task(
    "record", rows.record, heads.Classification, rows.LABELS["record"], (metrics.text_f1, metrics.text_exact_match), regroup=best_entities
)
rte = Task("rte", rows.rte, heads.Classification, rows.LABELS["rte"])
wic = Task("wic", rows.wic, heads.SpanClassification, rows.LABELS["wic"])
wsc = Task("wsc", rows.wsc, heads.SpanClassification, rows.LABELS["wsc"])
axb = Task("axb", rows.axb, heads.Classification, rows.LABELS["axb"], (metrics.matthews,), "rte", _ONLY_TEST)
axg = Task("axg", rows.axg, heads.Classification, rows.LABELS["axg"], (metrics.accuracy, metrics.gender_parity), "rte", _ONLY_TEST)

TASKS = (boolq, cb, copa, multirc, record, rte, wic, wsc, axb, axg)
