"""Hugging Face's names for ALBERT beside ours."""

from collections.abc import Iterator

from rootstock.models import albert, bert_hf
from rootstock.models.hf import Family, Form
from rootstock.models.hf_rows import Tensor, linear, norm

_MLM = (
    *linear("predictions.dense", "mlm/transform"),
    *norm("predictions.LayerNorm", "mlm/norm"),
    Tensor("predictions.bias", "mlm/bias"),
)
_CLASSIFIER = linear("classifier", "head/output")
_POOLER = linear("albert.pooler", "encoder/pooler")


def _group() -> Iterator[Tensor]:
    theirs, ours = "albert.encoder.albert_layer_groups.{i}.albert_layers.0", "encoder/layers/{i}"
    for name in ("query", "key", "value"):
        yield from linear(f"{theirs}.attention.{name}", f"{ours}/attention/{name}")
    yield from linear(f"{theirs}.attention.dense", f"{ours}/attention/output")
    yield from norm(f"{theirs}.attention.LayerNorm", f"{ours}/attention_norm")
    yield from linear(f"{theirs}.ffn", f"{ours}/mlp/input")
    yield from linear(f"{theirs}.ffn_output", f"{ours}/mlp/output")
    yield from norm(f"{theirs}.full_layer_layer_norm", f"{ours}/mlp_norm")


FAMILY = Family(
    model_type="albert",
    config=albert.Config,
    encoder=albert.Encoder,
    prefix="albert.",
    fields=bert_hf.FIELDS | {"embedding_size": "embedding_width", "num_hidden_groups": "groups"},
    choices={"hidden_act": {name: {"activation": function} for name, function in bert_hf.FUNCTIONS.items()}},
    defaults=bert_hf.DEFAULTS
    | {
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout_prob": 0.1,
        "num_hidden_groups": 1,
        "hidden_act": "gelu_new",
    },
    fixed=bert_hf.FIXED | {"inner_group_num": 1},
    ids={"pad_token_id": ("pad", 0), "bos_token_id": ("cls", 2), "eos_token_id": ("sep", 3)},
    dropout=("classifier_dropout_prob", "hidden_dropout_prob"),
    tensors=(*bert_hf.embeddings("albert"), *linear("albert.encoder.embedding_hidden_mapping_in", "encoder/project"), *_group()),
    pooler=_POOLER,
    layers={"encoder/": lambda config: config.groups},
    counted="groups of layers",
    forms={
        "AlbertModel": Form(),
        "AlbertForMaskedLM": Form(_MLM, albert.MaskedLM),
        "AlbertForPreTraining": Form((*_MLM, *linear("sop_classifier.classifier", "nsp")), albert.PreTraining, _POOLER),
        "AlbertForSequenceClassification": Form(_CLASSIFIER, pooler=_POOLER),
        "AlbertForTokenClassification": Form(_CLASSIFIER),
        "AlbertForQuestionAnswering": Form(linear("qa_outputs", "head/output")),
        "AlbertForMultipleChoice": Form(_CLASSIFIER, pooler=_POOLER),
    },
    tied={"predictions.decoder.weight": "albert.embeddings.word_embeddings.weight", "predictions.decoder.bias": "predictions.bias"},
    ignored=bert_hf.BUFFERS,
)
