"""SuperGLUE for encoders (Wang et al. 2019, arXiv 1905.00537). Metrics are the official ones; the casts stand in data/superglue.py."""

from rootstock.data import superglue as rows
from rootstock.finetune import heads, metrics
from rootstock.finetune.tasks import Task

boolq = Task("boolq", rows.boolq, heads.Classification, rows.LABELS["boolq"])
cb = Task("cb", rows.cb, heads.Classification, rows.LABELS["cb"], (metrics.accuracy, metrics.macro_f1))
copa = Task("copa", rows.copa, heads.MultipleChoice, rows.LABELS["copa"])
multirc = Task("multirc", rows.multirc, heads.Classification, rows.LABELS["multirc"], (metrics.f1, metrics.accuracy))
rte = Task("rte", rows.rte, heads.Classification, rows.LABELS["rte"])
wic = Task("wic", rows.wic, heads.SpanClassification, rows.LABELS["wic"])
wsc = Task("wsc", rows.wsc, heads.SpanClassification, rows.LABELS["wsc"])
