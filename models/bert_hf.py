"""Hugging Face's names for BERT beside ours, and what the families that are built like it share with them."""

from collections.abc import Iterator

from rootstock.models import bert
from rootstock.models.hf import Family, Form
from rootstock.models.hf_rows import Tensor, linear, norm
from rootstock.models.layers import activations

FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "mlp_width",
    "max_position_embeddings": "max_length",
    "type_vocab_size": "token_types",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "layer_norm_eps": "norm_eps",
    "initializer_range": "init_std",
}
# Configurations of 2018 lack some of these.
DEFAULTS = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "layer_norm_eps": 1e-12, "initializer_range": 0.02}
FIXED = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False, "tie_word_embeddings": True}
FUNCTIONS = {
    "gelu": activations.gelu,
    "gelu_new": activations.gelu_tanh,
    "gelu_pytorch_tanh": activations.gelu_tanh,
    "relu": activations.relu,
}
BUFFERS = r"(^|\.)embeddings\.(position_ids|token_type_ids)$"  # of older versions


def embeddings(prefix: str) -> Iterator[Tensor]:
    for theirs, ours in (("word", "token"), ("position", "position"), ("token_type", "token_type")):
        yield Tensor(f"{prefix}.embeddings.{theirs}_embeddings.weight", f"encoder/embeddings/{ours}/table")
    yield from norm(f"{prefix}.embeddings.LayerNorm", "encoder/embeddings/norm")


def layers(prefix: str) -> Iterator[Tensor]:
    theirs, ours = f"{prefix}.encoder.layer.{{i}}", "encoder/layers/{i}"
    for name in ("query", "key", "value"):
        yield from linear(f"{theirs}.attention.self.{name}", f"{ours}/attention/{name}")
    yield from linear(f"{theirs}.attention.output.dense", f"{ours}/attention/output")
    yield from norm(f"{theirs}.attention.output.LayerNorm", f"{ours}/attention_norm")
    yield from linear(f"{theirs}.intermediate.dense", f"{ours}/mlp/input")
    yield from linear(f"{theirs}.output.dense", f"{ours}/mlp/output")
    yield from norm(f"{theirs}.output.LayerNorm", f"{ours}/mlp_norm")


_MLM = (
    *linear("cls.predictions.transform.dense", "mlm/transform"),
    *norm("cls.predictions.transform.LayerNorm", "mlm/norm"),
    Tensor("cls.predictions.bias", "mlm/bias"),
)
_CLASSIFIER = linear("classifier", "head/output")
_POOLER = linear("bert.pooler.dense", "encoder/pooler")

FAMILY = Family(
    model_type="bert",
    config=bert.Config,
    encoder=bert.Encoder,
    prefix="bert.",
    fields=FIELDS,
    choices={"hidden_act": {name: {"activation": function} for name, function in FUNCTIONS.items()}},
    defaults=DEFAULTS,
    fixed=FIXED,
    tensors=(*embeddings("bert"), *layers("bert")),
    pooler=_POOLER,
    forms={
        "BertModel": Form(),
        "BertForMaskedLM": Form(_MLM, bert.MaskedLM),
        "BertForPreTraining": Form((*_MLM, *linear("cls.seq_relationship", "nsp")), bert.PreTraining, _POOLER),
        "BertForSequenceClassification": Form(_CLASSIFIER, pooler=_POOLER),
        "BertForTokenClassification": Form(_CLASSIFIER),
        "BertForQuestionAnswering": Form(linear("qa_outputs", "head/output")),
        "BertForMultipleChoice": Form(_CLASSIFIER, pooler=_POOLER),
    },
    aliases=((r"\.gamma$", ".weight"), (r"\.beta$", ".bias")),  # files that came from TensorFlow
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ignored=BUFFERS,
)
