"""Hugging Face's names for T5, mT5 and UMT5 beside ours.

What ties the embeddings to the output: in T5 `tie_word_embeddings`, which transformers 5 writes as true in every file and then says what it
was in `scale_decoder_outputs`; mT5 has an output of its own whatever its file says. UMT5 as T5, but transformers 5 scales its logits
by width^-0.5 even where it is not tied, which we and version 4 do not: the same order of words, other temperatures.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from rootstock.models import t5
from rootstock.models.hf import Family, Form, Mismatch
from rootstock.models.hf_rows import Tensor, kernel
from rootstock.models.layers import activations
from rootstock.models.layers.mlp import MLP, GatedMLP

_SIDES = {"encoder": ("mlp",), "decoder": ("cross", "mlp")}  # what follows self-attention in a block
_BIAS = "{side}.block.{i}.layer.0.SelfAttention.relative_attention_bias.weight"
_TIED = {True: {"tied": True}, False: {"tied": False}}


def _gated(config: t5.Config) -> bool:
    return config.mlp is GatedMLP


def _plain(config: t5.Config) -> bool:
    return not _gated(config)


def _untied(config: t5.Config) -> bool:
    return not config.tied


def _side(side: str) -> Iterator[Tensor]:
    """The tensors of one stack, without its table of positions."""
    block, ours = f"{side}.block.{{i}}.layer", f"{side}/layers/{{i}}"
    for number, part in enumerate(("attention", *_SIDES[side])):
        yield Tensor(f"{block}.{number}.layer_norm.weight", f"{ours}/{part}_norm/scale")
        if part == "mlp":
            theirs = f"{block}.{number}.DenseReluDense"
            yield kernel(f"{theirs}.wi", f"{ours}/mlp/input", _plain)
            yield kernel(f"{theirs}.wi_0", f"{ours}/mlp/gate", _gated)
            yield kernel(f"{theirs}.wi_1", f"{ours}/mlp/input", _gated)
            yield kernel(f"{theirs}.wo", f"{ours}/mlp/output")
        else:
            theirs = f"{block}.{number}.{'SelfAttention' if part == 'attention' else 'EncDecAttention'}"
            for name in ("query", "key", "value", "output"):
                yield kernel(f"{theirs}.{name[0]}", f"{ours}/{part}/{name}")
    yield Tensor(f"{side}.final_layer_norm.weight", f"{side}/norm/scale")


def _tables(per_layer: bool) -> Iterator[Tensor]:
    """The tables of position buckets: the first layer's, which all layers of a stack use, or one a layer."""
    for side in _SIDES:
        yield Tensor(_BIAS.format(side=side, i="{i}" if per_layer else 0), f"{side}/{'layers/{i}/' * per_layer}relative/table")


_TENSORS = (Tensor("shared.weight", "token/table"), *_side("encoder"), *_side("decoder"))
_HEAD = (kernel("lm_head", "head", _untied),)


def _read(theirs: dict[str, Any]) -> dict[str, Any]:
    """transformers computes by `dense_act_fn` and `is_gated_act` where a file has them, whatever `feed_forward_proj` says."""
    *gated, function = str(theirs["feed_forward_proj"]).split("-")
    implied = {"dense_act_fn": "gelu_new" if gated and function == "gelu" else function, "is_gated_act": bool(gated)}
    for name, value in implied.items():
        if theirs.get(name, value) != value:
            raise Mismatch(f"{name} is {theirs[name]!r}, and feed_forward_proj {theirs['feed_forward_proj']!r} means {value!r}")
    return theirs


FAMILY = Family(
    model_type="t5",
    config=t5.Config,
    fields={
        "vocab_size": "vocab_size",
        "d_model": "width",
        "d_kv": "head_dim",
        "d_ff": "mlp_width",
        "num_layers": "layers",
        "num_decoder_layers": "decoder_layers",
        "num_heads": "heads",
        "relative_attention_num_buckets": "buckets",
        "relative_attention_max_distance": "max_distance",
        "dropout_rate": "dropout",
        "layer_norm_epsilon": "norm_eps",
        "initializer_factor": "init_scale",
        "decoder_start_token_id": "start_id",
    },
    choices={
        "feed_forward_proj": {
            "relu": {"activation": activations.relu, "mlp": MLP},
            "gated-gelu": {"activation": activations.gelu_tanh, "mlp": GatedMLP},
            "gated-silu": {"activation": activations.silu, "mlp": GatedMLP},
            "gated-relu": {"activation": activations.relu, "mlp": GatedMLP},
            "gelu": {"activation": activations.gelu, "mlp": MLP},
            "gelu_new": {"activation": activations.gelu_tanh, "mlp": MLP},
            "silu": {"activation": activations.silu, "mlp": MLP},
        },
        "tie_word_embeddings": _TIED,
        "scale_decoder_outputs": {**_TIED, None: {}},
    },
    defaults={
        "num_decoder_layers": None,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "dropout_rate": 0.1,
        "layer_norm_epsilon": 1e-6,
        "initializer_factor": 1.0,
        "decoder_start_token_id": 0,
        "feed_forward_proj": "relu",
        "tie_word_embeddings": True,
    },
    fixed={"is_encoder_decoder": True, "is_decoder": False},
    read=_read,
    ids={"pad_token_id": ("pad", 0), "eos_token_id": ("eos", 1)},
    tensors=(*_TENSORS, *_tables(per_layer=False)),
    forms={"T5ForConditionalGeneration": Form(_HEAD, t5.T5)},
    layers={"encoder/": lambda config: config.layers, "decoder/": lambda config: config.decoder_layers or config.layers},
    tied={
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
        "lm_head.weight": "shared.weight",
    },
    # Files that came from Mesh TensorFlow have a table towards the encoder, which nothing reads.
    ignored=r"^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$",
)

_GATED = {**FAMILY.defaults, "feed_forward_proj": "gated-gelu"}
_FEED_FORWARD = {"feed_forward_proj": FAMILY.choices["feed_forward_proj"]}

MT5 = dataclasses.replace(
    FAMILY,
    model_type="mt5",
    choices=_FEED_FORWARD,
    defaults=_GATED,
    ours={"tied": False},
    forms={"MT5ForConditionalGeneration": Form(_HEAD, t5.T5)},
)

UMT5 = dataclasses.replace(
    FAMILY,
    model_type="umt5",
    choices={**_FEED_FORWARD, "tie_word_embeddings": _TIED},
    defaults=_GATED,
    ours={"per_layer_bias": True},
    tensors=(*_TENSORS, *_tables(per_layer=True)),
    forms={"UMT5ForConditionalGeneration": Form(_HEAD, t5.T5)},
)
