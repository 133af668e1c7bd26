"""Hugging Face's names for BERT beside ours."""

from rootstock.models import bert
from rootstock.models.hf import Family, Form, Tensor, linear, norm
from rootstock.models.layers import activations

_MLM = (
    *linear("cls.predictions.transform.dense", "mlm/transform"),
    *norm("cls.predictions.transform.LayerNorm", "mlm/norm"),
    Tensor("cls.predictions.bias", "mlm/bias"),
)
_CLASSIFIER = linear("classifier", "head/output")

FAMILY = Family(
    model_type="bert",
    config=bert.Config,
    encoder=bert.Encoder,
    prefix="bert.",
    fields={
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
    },
    choices={
        "hidden_act": {
            "gelu": {"activation": activations.gelu},
            "gelu_new": {"activation": activations.gelu_tanh},
            "gelu_pytorch_tanh": {"activation": activations.gelu_tanh},
            "relu": {"activation": activations.relu},
        }
    },
    # Configurations of 2018 lack some of these.
    defaults={"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "layer_norm_eps": 1e-12, "initializer_range": 0.02},
    fixed={"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False, "tie_word_embeddings": True},
    tensors=(
        Tensor("bert.embeddings.word_embeddings.weight", "encoder/embeddings/token/table"),
        Tensor("bert.embeddings.position_embeddings.weight", "encoder/embeddings/position/table"),
        Tensor("bert.embeddings.token_type_embeddings.weight", "encoder/embeddings/token_type/table"),
        *norm("bert.embeddings.LayerNorm", "encoder/embeddings/norm"),
        *linear("bert.encoder.layer.{i}.attention.self.query", "encoder/layers/{i}/attention/query"),
        *linear("bert.encoder.layer.{i}.attention.self.key", "encoder/layers/{i}/attention/key"),
        *linear("bert.encoder.layer.{i}.attention.self.value", "encoder/layers/{i}/attention/value"),
        *linear("bert.encoder.layer.{i}.attention.output.dense", "encoder/layers/{i}/attention/output"),
        *norm("bert.encoder.layer.{i}.attention.output.LayerNorm", "encoder/layers/{i}/attention_norm"),
        *linear("bert.encoder.layer.{i}.intermediate.dense", "encoder/layers/{i}/mlp/input"),
        *linear("bert.encoder.layer.{i}.output.dense", "encoder/layers/{i}/mlp/output"),
        *norm("bert.encoder.layer.{i}.output.LayerNorm", "encoder/layers/{i}/mlp_norm"),
    ),
    pooler=linear("bert.pooler.dense", "encoder/pooler"),
    forms={
        "BertModel": Form(),
        "BertForMaskedLM": Form(_MLM, bert.MaskedLM),
        "BertForPreTraining": Form((*_MLM, *linear("cls.seq_relationship", "nsp")), bert.PreTraining, pooler=True),
        "BertForSequenceClassification": Form(_CLASSIFIER, pooler=True),
        "BertForTokenClassification": Form(_CLASSIFIER),
        "BertForQuestionAnswering": Form(linear("qa_outputs", "head/output")),
        "BertForMultipleChoice": Form(_CLASSIFIER, pooler=True),
    },
    aliases=((r"\.gamma$", ".weight"), (r"\.beta$", ".bias")),  # files that came from TensorFlow
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ignored=r"(^|\.)embeddings\.position_ids$",  # a buffer of older versions
)
