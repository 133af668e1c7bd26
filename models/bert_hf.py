"""Hugging Face's names for BERT beside ours: one table, read from either side.

`{i}` stands for a layer's number. torch keeps the weight of a Linear as [out, in]; our kernels are [in, out].
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from rootstock.models import bert
from rootstock.models.layers import activations


def _linear(theirs: str, ours: str) -> tuple[tuple[str, str, bool], ...]:
    return (f"{theirs}.weight", f"{ours}/kernel", True), (f"{theirs}.bias", f"{ours}/bias", False)


def _norm(theirs: str, ours: str) -> tuple[tuple[str, str, bool], ...]:
    return (f"{theirs}.weight", f"{ours}/scale", False), (f"{theirs}.bias", f"{ours}/bias", False)


# Their tensor, our canonical name, whether the two are each other's transpose.
TENSORS = (
    ("bert.embeddings.word_embeddings.weight", "encoder/embeddings/token/table", False),
    ("bert.embeddings.position_embeddings.weight", "encoder/embeddings/position/table", False),
    ("bert.embeddings.token_type_embeddings.weight", "encoder/embeddings/token_type/table", False),
    *_norm("bert.embeddings.LayerNorm", "encoder/embeddings/norm"),
    *_linear("bert.encoder.layer.{i}.attention.self.query", "encoder/layers/{i}/attention/query"),
    *_linear("bert.encoder.layer.{i}.attention.self.key", "encoder/layers/{i}/attention/key"),
    *_linear("bert.encoder.layer.{i}.attention.self.value", "encoder/layers/{i}/attention/value"),
    *_linear("bert.encoder.layer.{i}.attention.output.dense", "encoder/layers/{i}/attention/output"),
    *_norm("bert.encoder.layer.{i}.attention.output.LayerNorm", "encoder/layers/{i}/attention_norm"),
    *_linear("bert.encoder.layer.{i}.intermediate.dense", "encoder/layers/{i}/mlp/input"),
    *_linear("bert.encoder.layer.{i}.output.dense", "encoder/layers/{i}/mlp/output"),
    *_norm("bert.encoder.layer.{i}.output.LayerNorm", "encoder/layers/{i}/mlp_norm"),
    *_linear("bert.pooler.dense", "encoder/pooler"),
    *_linear("cls.predictions.transform.dense", "mlm/transform"),
    *_norm("cls.predictions.transform.LayerNorm", "mlm/norm"),
    ("cls.predictions.bias", "mlm/bias", False),
    *_linear("cls.seq_relationship", "nsp"),
)

# Other spellings of the same names: a bare BertModel, and files that came from TensorFlow.
ALIASES = ((r"^(embeddings|encoder|pooler)\.", r"bert.\1."), (r"\.gamma$", ".weight"), (r"\.beta$", ".bias"))

# Not parameters: a buffer, and copies of the word embeddings and of cls.predictions.bias.
TIED = r"position_ids$|^cls\.predictions\.decoder\."

# Their configuration's field, ours.
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
ACTIVATIONS = {"gelu": activations.gelu, "gelu_new": activations.gelu_tanh, "relu": activations.relu}


def config(theirs: Mapping[str, Any]) -> bert.Config:
    """Our configuration from the content of their config.json."""
    return bert.Config(activation=ACTIVATIONS[theirs["hidden_act"]], **{ours: theirs[name] for name, ours in FIELDS.items()})


def canonical(name: str) -> tuple[str, bool]:
    """Our name for their tensor, and whether to transpose it."""
    for pattern, replacement in ALIASES:
        name = re.sub(pattern, replacement, name)
    for theirs, ours, transposed in TENSORS:
        if found := re.fullmatch(re.escape(theirs).replace(r"\{i\}", r"(\d+)"), name):
            return ours.format(i=found[1] if found.groups() else ""), transposed
    raise KeyError(f"{name} is no tensor of BertForPreTraining")


def convert(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Their tensors under our canonical names."""
    found = {}
    for name, value in tensors.items():
        if not re.search(TIED, name):
            ours, transposed = canonical(name)
            found[ours] = value.T if transposed else value
    return found
