"""Hugging Face's names for RoBERTa beside ours.

Positions begin behind the id of padding there, so `pad_token_id` is ours as `position_offset`. The classification head's dense layer is
our pooler, which is the same function; a pooler of their own stands in multiple choice alone.
"""

from typing import Any

from rootstock.models import bert_hf, roberta
from rootstock.models.hf import Family, Form, Mismatch
from rootstock.models.hf_rows import Tensor, linear, norm
from rootstock.models.layers import activations

_MLM = (
    *linear("lm_head.dense", "mlm/transform"),
    *norm("lm_head.layer_norm", "mlm/norm"),
    Tensor("lm_head.bias", "mlm/bias"),
)
_CLASSIFIER = linear("classifier", "head/output")
_POOLER = linear("roberta.pooler.dense", "encoder/pooler")


def _read(fields: dict[str, Any]) -> dict[str, Any]:
    pad = fields.get("pad_token_id", 1)
    if type(pad) is not int or pad < 0:
        raise Mismatch(f"pad_token_id is {pad!r}; positions begin behind it, so it must be a whole number of at least 0")
    return fields | {"position_offset": pad + 1}


def _write(fields: dict[str, Any]) -> dict[str, Any]:
    offset = fields.pop("position_offset")
    if offset < 1:
        raise Mismatch("Config.position_offset is 0; transformers' roberta counts positions from behind the id of padding")
    return fields | {"pad_token_id": offset - 1}


FAMILY = Family(
    model_type="roberta",
    config=roberta.Config,
    encoder=roberta.Encoder,
    prefix="roberta.",
    fields=bert_hf.FIELDS | {"position_offset": "position_offset"},
    choices={"hidden_act": {"gelu": {"activation": activations.gelu}}},  # whatever stands there, the masked-LM head has gelu
    defaults=bert_hf.DEFAULTS,
    fixed=bert_hf.FIXED,
    ids={"pad_token_id": ("pad", 1), "bos_token_id": ("cls", 0), "eos_token_id": ("sep", 2)},
    read=_read,
    write=_write,
    tensors=(*bert_hf.embeddings("roberta"), *bert_hf.layers("roberta")),
    pooler=_POOLER,
    forms={
        "RobertaModel": Form(),
        "RobertaForMaskedLM": Form(_MLM, roberta.MaskedLM),
        "RobertaForSequenceClassification": Form(
            linear("classifier.out_proj", "head/output"),
            pooler=linear("classifier.dense", "encoder/pooler"),
            unused=r"^roberta\.pooler\.",  # files of older versions
        ),
        "RobertaForTokenClassification": Form(_CLASSIFIER),
        "RobertaForQuestionAnswering": Form(linear("qa_outputs", "head/output")),
        "RobertaForMultipleChoice": Form(_CLASSIFIER, pooler=_POOLER),
    },
    tied={"lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight", "lm_head.decoder.bias": "lm_head.bias"},
    ignored=bert_hf.BUFFERS,
)
