"""GLUE for encoders (Wang et al. 2018, arXiv 1804.07461). Metrics are the official ones; the casts stand in data/suites/glue.py.

`glue_rte` is GLUE's copy of RTE, with another split of the same pairs than SuperGLUE's. MNLI has two validation and two test splits, one of
the genres of training (`mnli`), one of others (`mnli_mismatched`); its head answers both, and AX.
"""

from rootstock.data.suites import glue as rows
from rootstock.finetune import heads, metrics
from rootstock.finetune.tasks import Task

_MATCHED = {"validation": "validation_matched", "test": "test_matched"}
_MISMATCHED = {"validation": "validation_mismatched", "test": "test_mismatched"}
_TWO = (metrics.f1, metrics.accuracy)

cola = Task("cola", rows.cola, heads.Classification, rows.LABELS["cola"], (metrics.matthews,))
sst2 = Task("sst2", rows.sst2, heads.Classification, rows.LABELS["sst2"])
mrpc = Task("mrpc", rows.mrpc, heads.Classification, rows.LABELS["mrpc"], _TWO)
stsb = Task("stsb", rows.stsb, heads.Regression, (), (metrics.pearson, metrics.spearman), scale=(0.0, 5.0))
qqp = Task("qqp", rows.qqp, heads.Classification, rows.LABELS["qqp"], _TWO)
mnli = Task("mnli", rows.mnli, heads.Classification, rows.LABELS["mnli"], splits=_MATCHED)
mnli_mismatched = Task("mnli_mismatched", rows.mnli, heads.Classification, rows.LABELS["mnli"], answered_by="mnli", splits=_MISMATCHED)
qnli = Task("qnli", rows.qnli, heads.Classification, rows.LABELS["qnli"])
glue_rte = Task("glue_rte", rows.rte, heads.Classification, rows.LABELS["rte"])
wnli = Task("wnli", rows.wnli, heads.Classification, rows.LABELS["wnli"])
ax = Task("ax", rows.ax, heads.Classification, rows.LABELS["ax"], (metrics.matthews,), "mnli", {"validation": "test"})

TASKS = (cola, sst2, mrpc, stsb, qqp, mnli, mnli_mismatched, qnli, glue_rte, wnli, ax)
