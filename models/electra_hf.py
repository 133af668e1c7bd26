"""Hugging Face's names for ELECTRA beside ours.

The dense layer of their classification head, and of the summary before multiple choice, is our pooler with GELU.
"""

from typing import Any

from rootstock.models import bert_hf, electra
from rootstock.models.hf import Family, Form, Mismatch
from rootstock.models.hf_rows import Tensor, linear, norm
from rootstock.models.layers import activations


def _narrow(config: electra.Config) -> bool:
    return config.embedding_width is not None


def _read(fields: dict[str, Any]) -> dict[str, Any]:
    """Embeddings as wide as the encoder have no projection."""
    return fields | ({"embedding_size": None} if fields["embedding_size"] == fields.get("hidden_size") else {})


def _write(fields: dict[str, Any]) -> dict[str, Any]:
    if fields["embedding_size"] == fields["hidden_size"]:
        raise Mismatch("Config.embedding_width is the width itself, with a projection; transformers' electra has none there")
    return fields | {"embedding_size": fields["embedding_size"] or fields["hidden_size"]}


_CLASSIFIER = linear("classifier", "head/output")

FAMILY = Family(
    model_type="electra",
    config=electra.Config,
    encoder=electra.Encoder,
    prefix="electra.",
    fields=bert_hf.FIELDS | {"embedding_size": "embedding_width"},
    choices={"hidden_act": {"gelu": {"activation": activations.gelu}}},  # whatever stands there, the generator's head has gelu
    defaults=bert_hf.DEFAULTS | {"embedding_size": 128},
    fixed=bert_hf.FIXED | {"summary_type": "first", "summary_use_proj": True, "summary_activation": "gelu"},
    read=_read,
    write=_write,
    tensors=(
        *bert_hf.embeddings("electra"),
        *linear("electra.embeddings_project", "encoder/project", _narrow),
        *bert_hf.layers("electra"),
    ),
    forms={
        "ElectraModel": Form(),
        "ElectraForPreTraining": Form(
            (
                *linear("discriminator_predictions.dense", "detection/transform"),
                *linear("discriminator_predictions.dense_prediction", "detection/output"),
            ),
            electra.Discriminator,
        ),
        "ElectraForMaskedLM": Form(
            (
                *linear("generator_predictions.dense", "mlm/transform"),
                *norm("generator_predictions.LayerNorm", "mlm/norm"),
                Tensor("generator_lm_head.bias", "mlm/bias"),
            ),
            electra.Generator,
        ),
        "ElectraForSequenceClassification": Form(
            linear("classifier.out_proj", "head/output"), pooler=linear("classifier.dense", "encoder/pooler")
        ),
        "ElectraForTokenClassification": Form(_CLASSIFIER),
        "ElectraForQuestionAnswering": Form(linear("qa_outputs", "head/output")),
        "ElectraForMultipleChoice": Form(_CLASSIFIER, pooler=linear("sequence_summary.summary", "encoder/pooler")),
    },
    tied={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
    ignored=bert_hf.BUFFERS,
)
