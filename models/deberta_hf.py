"""Hugging Face's names for DeBERTa (v1) and DeBERTa-v2 and -v3 beside ours.

Two classes are the released code's own: `MaskedLanguageModel`, with the enhanced mask decoder, and `ReplacedTokenDetectionModel`, v3's
discriminator, whose released file holds its generator's masked-LM head too. Their masked-LM head is called `lm_predictions` there and where
`legacy` is false, `cls.predictions` otherwise; the latter is written.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rootstock.models import bert_hf, deberta
from rootstock.models.hf import Family, Form, Mismatch
from rootstock.models.hf_rows import Layout, Packed, Row, Shape, Tensor, kernel, linear, norm
from rootstock.models.layers import activations

_LAYER, _OURS = "deberta.encoder.layer.{i}", "encoder/layers/{i}"
_FUNCTIONS = bert_hf.FUNCTIONS | {"tanh": activations.tanh}


# Which tensors there are


def _narrow(config: deberta.Config) -> bool:
    return config.embedding_width is not None


def _placed(config: deberta.Config) -> bool:
    return config.position_biased


def _typed(config: deberta.Config) -> bool:
    return config.token_types > 0


def _normed(config: deberta.Config) -> bool:
    return config.norm_table


def _convolved(config: deberta.Config) -> bool:
    return config.conv_kernel > 0


def _own_key(config: deberta.Config) -> bool:
    return not config.share_key and "c2p" in config.terms


def _own_query(config: deberta.Config) -> bool:
    return not config.share_key and "p2c" in config.terms


# How they lie


def _conv_split(weight: np.ndarray, config: deberta.Config) -> tuple[np.ndarray, ...]:
    return (weight.transpose(2, 1, 0).reshape(-1, weight.shape[0]),)


def _conv_join(kernels: Sequence[np.ndarray], config: deberta.Config) -> np.ndarray:
    return kernels[0].reshape(config.conv_kernel, -1, kernels[0].shape[1]).transpose(2, 1, 0)


def _conv_shape(shapes: Sequence[Shape], config: deberta.Config) -> Shape:
    rows, columns = shapes[0]
    return columns, rows // config.conv_kernel, config.conv_kernel


CONVOLUTION = Layout(_conv_split, _conv_join, _conv_shape)  # torch's [out, in, size] is our [size * in, out]


def _heads_split(weight: np.ndarray, config: deberta.Config) -> tuple[np.ndarray, ...]:
    by_head = weight.reshape(config.heads, 3, -1, weight.shape[1])
    return tuple(by_head[:, i].reshape(-1, weight.shape[1]).T for i in range(3))


def _heads_join(kernels: Sequence[np.ndarray], config: deberta.Config) -> np.ndarray:
    width = kernels[0].shape[0]
    return np.stack([kernel.T.reshape(config.heads, -1, width) for kernel in kernels], 1).reshape(-1, width)


def _heads_shape(shapes: Sequence[Shape], config: deberta.Config) -> Shape:
    return sum(columns for _, columns in shapes), shapes[0][0]


BY_HEAD = Layout(_heads_split, _heads_join, _heads_shape)  # query, key and value of the first head, then of the next


# Configurations


def _read(fields: dict[str, Any]) -> dict[str, Any]:
    """-1 is "not given" in two of their fields, terms are a list or a string, and embeddings as wide as the encoder are not projected."""
    width = fields.get("hidden_size")
    if (pooled := fields.get("pooler_hidden_size", width)) != width:
        raise Mismatch(f"pooler_hidden_size is {pooled!r}; known is only the hidden_size, {width!r}")
    distance, buckets = fields["max_relative_positions"], fields.get("position_buckets", 0)
    return fields | {
        "pos_att_type": _terms(fields["pos_att_type"]),
        "max_relative_positions": fields.get("max_position_embeddings") if distance in (-1, 0) else distance,
        "position_buckets": 0 if buckets == -1 else buckets,
        "embedding_size": None if fields.get("embedding_size") == width else fields.get("embedding_size"),
        "conv_act": fields.get("conv_act", "tanh") if fields.get("conv_kernel_size") else "gelu",
        "norm_rel_ebd": str(fields.get("norm_rel_ebd", "none")).lower().strip(),
    }


def _terms(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        value = [part.strip() for part in value.lower().split("|") if part.strip()]
    if not isinstance(value, list) or not all(isinstance(term, str) for term in value):
        raise Mismatch(f"pos_att_type is {value!r}; expected a list of c2p and p2c")
    return "|".join(sorted(value))


def _write(fields: dict[str, Any]) -> dict[str, Any]:
    if fields["embedding_size"] == fields["hidden_size"]:
        raise Mismatch("Config.embedding_width is the width itself, with a projection; transformers' deberta has none there")
    fields |= {"pos_att_type": [term for term in fields["pos_att_type"].split("|") if term], "pooler_hidden_size": fields["hidden_size"]}
    if "position_buckets" in fields:
        fields |= {"position_buckets": fields["position_buckets"] or -1}
    left_out = {"embedding_size"} if fields["embedding_size"] is None else set()
    if not fields.get("conv_kernel_size"):
        left_out |= {"conv_kernel_size", "conv_act", "conv_groups"}
    return {name: value for name, value in fields.items() if name not in left_out}


# Tensors


def _around() -> Iterator[Row]:
    """What stands around the layers."""
    theirs, ours = "deberta.embeddings", "encoder/embeddings"
    yield Tensor(f"{theirs}.word_embeddings.weight", f"{ours}/token/table")
    yield Tensor(f"{theirs}.position_embeddings.weight", f"{ours}/position/table", where=_placed)
    yield Tensor(f"{theirs}.token_type_embeddings.weight", f"{ours}/token_type/table", where=_typed)
    yield kernel(f"{theirs}.embed_proj", f"{ours}/project", _narrow)
    yield from norm(f"{theirs}.LayerNorm", f"{ours}/norm")
    yield Tensor("deberta.encoder.rel_embeddings.weight", "encoder/relative/table")
    yield from norm("deberta.encoder.LayerNorm", "encoder/relative_norm", _normed)


def _layer() -> Iterator[Row]:
    """All of a layer but the projections of its attention."""
    yield from linear(f"{_LAYER}.attention.output.dense", f"{_OURS}/attention/output")
    yield from norm(f"{_LAYER}.attention.output.LayerNorm", f"{_OURS}/attention_norm")
    yield from linear(f"{_LAYER}.intermediate.dense", f"{_OURS}/mlp/input")
    yield from linear(f"{_LAYER}.output.dense", f"{_OURS}/mlp/output")
    yield from norm(f"{_LAYER}.output.LayerNorm", f"{_OURS}/mlp_norm")


def _v1() -> Iterator[Row]:
    theirs, ours = f"{_LAYER}.attention.self", f"{_OURS}/attention"
    yield Packed(f"{theirs}.in_proj.weight", tuple(f"{ours}/{name}/kernel" for name in ("query", "key", "value")), BY_HEAD)
    yield Tensor(f"{theirs}.q_bias", f"{ours}/query/bias")
    yield Tensor(f"{theirs}.v_bias", f"{ours}/value/bias")
    yield kernel(f"{theirs}.pos_proj", f"{ours}/position_key", _own_key)
    yield from linear(f"{theirs}.pos_q_proj", f"{ours}/position_query", _own_query)


def _v2() -> Iterator[Row]:
    theirs, ours = f"{_LAYER}.attention.self", f"{_OURS}/attention"
    for name in ("query", "key", "value"):
        yield from linear(f"{theirs}.{name}_proj", f"{ours}/{name}")
    yield from linear(f"{theirs}.pos_key_proj", f"{ours}/position_key", _own_key)
    yield from linear(f"{theirs}.pos_query_proj", f"{ours}/position_query", _own_query)
    first = "encoder/layers/0"
    yield Packed("deberta.encoder.conv.conv.weight", (f"{first}/conv/kernel/kernel",), CONVOLUTION, _convolved)
    yield Tensor("deberta.encoder.conv.conv.bias", f"{first}/conv/kernel/bias", where=_convolved)
    yield from norm("deberta.encoder.conv.LayerNorm", f"{first}/conv_norm", _convolved)


_MLM = (
    *linear("cls.predictions.transform.dense", "mlm/transform"),
    *norm("cls.predictions.transform.LayerNorm", "mlm/norm"),
    Tensor("cls.predictions.bias", "mlm/bias"),
)
_POSITIONS = "deberta.embeddings.position_embeddings.weight"
_DETECTION = (
    *norm("mask_predictions.LayerNorm", "detection/norm"),
    *linear("mask_predictions.dense", "detection/transform"),
    *linear("mask_predictions.classifier", "detection/output"),
)
_CLASSIFIER = linear("classifier", "head/output")
_POOLER = linear("pooler.dense", "encoder/pooler")


# Of the generator: its head, its positions, and what was learnt on top of its table, which `word_embeddings.weight` has already.
_BESIDE = r"^cls\.predictions\.|^deberta\.embeddings\.(position_embeddings\.|word_embeddings\._weight$)"


def _forms(name: str) -> dict[str, Form]:
    return {
        f"{name}Model": Form(),
        f"{name}ForMaskedLM": Form(_MLM, deberta.MaskedLM),
        f"{name}ForSequenceClassification": Form(_CLASSIFIER, pooler=_POOLER),
        f"{name}ForTokenClassification": Form(_CLASSIFIER, dropout=("hidden_dropout_prob",)),
        f"{name}ForQuestionAnswering": Form(linear("qa_outputs", "head/output")),
        "MaskedLanguageModel": Form((*_MLM, Tensor(_POSITIONS, "position/table")), deberta.EnhancedMaskedLM),
    }


V1 = Family(
    model_type="deberta",
    config=deberta.Config,
    encoder=deberta.Encoder,
    prefix="deberta.",
    ours={"share_key": False, "buckets": 0, "key_bias": False, "position_key_bias": False, "norm_table": False},
    fields=bert_hf.FIELDS | {"max_relative_positions": "max_distance", "embedding_size": "embedding_width"},
    choices={
        "hidden_act": {name: {"activation": function} for name, function in bert_hf.FUNCTIONS.items()},
        "pooler_hidden_act": {name: {"pooler_activation": function} for name, function in _FUNCTIONS.items()},
        "pos_att_type": {
            "c2p|p2c": {"terms": ("c2p", "p2c")},
            "c2p": {"terms": ("c2p",)},
            "p2c": {"terms": ("p2c",)},
            "": {"terms": ()},
        },
        "position_biased_input": {True: {"position_biased": True}, False: {"position_biased": False}},
        "relative_attention": {True: {}},
    },
    defaults=bert_hf.DEFAULTS
    | {
        "layer_norm_eps": 1e-7,
        "type_vocab_size": 0,
        "relative_attention": False,
        "max_relative_positions": -1,
        "position_biased_input": True,
        "pos_att_type": None,
        "pooler_hidden_act": "gelu",
    },
    fixed={"talking_head": False, "pooler_dropout": 0, "tie_word_embeddings": True},
    read=_read,
    write=_write,
    dropout=("cls_dropout", "hidden_dropout_prob"),
    tensors=(*_around(), *_v1(), *_layer()),
    forms=_forms("Deberta"),
    aliases=(
        (r"^lm_predictions\.lm_head\.(dense|LayerNorm)\.", r"cls.predictions.transform.\1."),
        (r"^lm_predictions\.lm_head\.bias$", "cls.predictions.bias"),
    ),
    tied={
        "cls.predictions.decoder.weight": "deberta.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ignored=bert_hf.BUFFERS,
)

V2 = dataclasses.replace(
    V1,
    model_type="deberta-v2",
    ours={},
    zeros=("buckets",),
    pieces="spm.model",
    fields=V1.fields | {"position_buckets": "buckets", "conv_kernel_size": "conv_kernel"},
    choices=V1.choices
    | {
        "share_att_key": {True: {"share_key": True}, False: {"share_key": False}},
        "norm_rel_ebd": {"layer_norm": {"norm_table": True}, "none": {"norm_table": False}},
        "conv_act": {name: {"conv_activation": function} for name, function in _FUNCTIONS.items()},
    },
    defaults=V1.defaults | {"share_att_key": False, "conv_kernel_size": 0},
    fixed={"conv_groups": 1, "pooler_dropout": 0, "tie_word_embeddings": True},
    tensors=(*_around(), *_v2(), *_layer()),
    forms=_forms("DebertaV2")
    | {
        "DebertaV2ForMultipleChoice": Form(_CLASSIFIER, pooler=_POOLER),
        "ReplacedTokenDetectionModel": Form(_DETECTION, deberta.Discriminator, unused=_BESIDE),
    },
)
