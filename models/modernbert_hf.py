"""Hugging Face's names for ModernBERT beside ours.

Every class of theirs but the encoder alone has the prediction head, also before token classification and question answering; it is our
pooler. The files of the hub say by two numbers what transformers 5 says by layer (`layer_types`, `rope_parameters`); the former is written,
which both read.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rootstock.models import bert_hf, modernbert
from rootstock.models.hf import Family, Form, Mismatch
from rootstock.models.hf_rows import Layout, Packed, Row, Shape, Tensor, kernel, linear

_KINDS = {"full_attention": "global", "sliding_attention": "local"}


def _rows_split(count: int):
    return lambda weight, config: [part.T for part in np.split(weight, count)]


def _rows_join(kernels: Sequence[np.ndarray], config: modernbert.Config) -> np.ndarray:
    return np.concatenate([kernel.T for kernel in kernels])


def _rows_shape(shapes: Sequence[Shape], config: modernbert.Config) -> Shape:
    return sum(columns for _, columns in shapes), shapes[0][0]


def _rows(count: int) -> Layout:
    """Kernels of one size, transposed, one below the other."""
    return Layout(_rows_split(count), _rows_join, _rows_shape)


def _read(fields: dict[str, Any]) -> dict[str, Any]:
    local, drops = fields.get("local_attention"), [fields[name] for name in ("embedding_dropout", "mlp_dropout")]
    if type(local) is not int or local < 2:
        raise Mismatch(f"local_attention is {local!r}; expected a whole number of at least 2")
    if drops[0] != drops[1]:
        raise Mismatch(f"embedding_dropout is {drops[0]!r} and mlp_dropout {drops[1]!r}; here they are one number")
    return _without_list(_without_rope(fields)) | {"local_attention": local // 2}


def _without_list(fields: dict[str, Any]) -> dict[str, Any]:
    """The number of layers from one global one to the next, from a list of kinds."""
    if (kinds := fields.pop("layer_types", None)) is None:
        return fields
    wrong = not isinstance(kinds, list) or len(kinds) != fields.get("num_hidden_layers")
    every = len(kinds) if wrong else next((i for i, kind in enumerate(kinds) if i and kind == "full_attention"), len(kinds))
    if wrong or kinds != [list(_KINDS)[i % every > 0] for i in range(len(kinds))]:
        raise Mismatch(f"layer_types is {str(kinds)[:100]}; known is one full_attention at first and again after equal numbers of layers")
    return fields | {"global_attn_every_n_layers": every}


def _without_rope(fields: dict[str, Any]) -> dict[str, Any]:
    """The bases of the two rotations, from what is said by kind of layer."""
    if (said := fields.pop("rope_parameters", None)) is None:
        return fields
    for kind, ours in _KINDS.items():
        found = said.get(kind) or {} if isinstance(said, dict) else None
        if not isinstance(found, dict) or found.get("rope_type", "default") != "default" or found.keys() - {"rope_type", "rope_theta"}:
            raise Mismatch(f"rope_parameters is {str(said)[:100]}; known is the type 'default' with a rope_theta for {', '.join(_KINDS)}")
        fields |= {f"{ours}_rope_theta": found.get("rope_theta", fields[f"{ours}_rope_theta"])}
    return fields


def _write(fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {"local_attention": 2 * fields["local_attention"], "embedding_dropout": fields["mlp_dropout"]}


def _tensors() -> Iterator[Row]:
    yield Tensor("model.embeddings.tok_embeddings.weight", "encoder/embeddings/token/table")
    yield Tensor("model.embeddings.norm.weight", "encoder/embeddings/norm/scale")
    theirs, ours = "model.layers.{i}", "encoder/layers/{i}"
    yield Tensor(f"{theirs}.attn_norm.weight", f"{ours}/attention_norm/scale", first=1)
    yield Packed(f"{theirs}.attn.Wqkv.weight", tuple(f"{ours}/attention/{name}/kernel" for name in ("query", "key", "value")), _rows(3))
    yield kernel(f"{theirs}.attn.Wo", f"{ours}/attention/output")
    yield Tensor(f"{theirs}.mlp_norm.weight", f"{ours}/mlp_norm/scale")
    yield Packed(f"{theirs}.mlp.Wi.weight", (f"{ours}/mlp/gate/kernel", f"{ours}/mlp/input/kernel"), _rows(2))
    yield kernel(f"{theirs}.mlp.Wo", f"{ours}/mlp/output")
    yield Tensor("model.final_norm.weight", "encoder/norm/scale")


_HEAD = (kernel("head.dense", "encoder/pooler/transform"), Tensor("head.norm.weight", "encoder/pooler/norm/scale"))
_CLASSIFIER = Form(linear("classifier", "head/output"), pooler=_HEAD)

FAMILY = Family(
    model_type="modernbert",
    config=modernbert.Config,
    encoder=modernbert.Encoder,
    prefix="model.",
    fields={
        "vocab_size": "vocab_size",
        "hidden_size": "width",
        "num_hidden_layers": "layers",
        "num_attention_heads": "heads",
        "intermediate_size": "mlp_width",
        "max_position_embeddings": "max_length",
        "global_attn_every_n_layers": "global_every",
        "local_attention": "window",
        "global_rope_theta": "global_theta",
        "local_rope_theta": "local_theta",
        "mlp_dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "norm_eps": "norm_eps",
        "initializer_range": "init_std",
    },
    choices={
        "hidden_activation": {name: {"activation": function} for name, function in bert_hf.FUNCTIONS.items()},
        "classifier_activation": {name: {"pooler_activation": function} for name, function in bert_hf.FUNCTIONS.items()},
        "classifier_pooling": {"cls": {"pooling": modernbert.first_token}, "mean": {"pooling": modernbert.mean_of_tokens}},
    },
    defaults={
        "global_attn_every_n_layers": 3,
        "local_attention": 128,
        "global_rope_theta": 160_000.0,
        "local_rope_theta": 10_000.0,
        "embedding_dropout": 0.0,
        "mlp_dropout": 0.0,
        "attention_dropout": 0.0,
        "classifier_dropout": 0.0,
        "norm_eps": 1e-5,
        "initializer_range": 0.02,
        "hidden_activation": "gelu",
        "classifier_activation": "gelu",
        "classifier_pooling": "cls",
    },
    fixed={
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "decoder_bias": True,
        "classifier_bias": False,
        "tie_word_embeddings": True,
        "rope_scaling": None,
    },
    ids={
        "pad_token_id": ("pad", 0),
        "bos_token_id": ("cls", 0),
        "cls_token_id": ("cls", 0),
        "eos_token_id": ("sep", 0),
        "sep_token_id": ("sep", 0),
    },
    read=_read,
    write=_write,
    dropout=("classifier_dropout",),
    tensors=tuple(_tensors()),
    forms={
        "ModernBertModel": Form(),
        "ModernBertForMaskedLM": Form((Tensor("decoder.bias", "bias"),), modernbert.MaskedLM, _HEAD),
        "ModernBertForSequenceClassification": _CLASSIFIER,
        "ModernBertForTokenClassification": _CLASSIFIER,
        "ModernBertForQuestionAnswering": _CLASSIFIER,
        "ModernBertForMultipleChoice": _CLASSIFIER,
    },
    tied={"decoder.weight": "model.embeddings.tok_embeddings.weight"},
)
