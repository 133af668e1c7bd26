"""T5X's names for its T5 beside ours, and what the shapes of its arrays tell of the configuration.

Layers stand one by one (`encoder/layers_3/...`, t5x.examples.t5) or scanned, as an axis of every array of `encoder/encoder/...`
(t5x.examples.scalable_t5, where heads have an axis of their own and every layer has its table of positions).
"""

from collections.abc import Iterator, Mapping

import numpy as np

from rootstock.models import t5, t5_hf
from rootstock.models.hf import Family, Form, Mismatch
from rootstock.models.hf_rows import Tensor
from rootstock.models.layers import activations
from rootstock.models.layers.mlp import MLP, GatedMLP

# Attentions of a layer: T5X's name, that of the norm before it, ours.
_ATTENTIONS = {
    "encoder": (("attention", "pre_attention", "attention"),),
    "decoder": (("self_attention", "pre_self_attention", "attention"), ("encoder_decoder_attention", "pre_cross_attention", "cross")),
}
ACTIVATIONS = {"relu": activations.relu, "gelu": activations.gelu_tanh, "silu": activations.silu}  # flax's gelu is the approximation
_EMBEDDING = "target/token_embedder/embedding"


def _gated(config: t5.Config) -> bool:
    return config.mlp is GatedMLP


def _side(side: str) -> Iterator[Tensor]:
    block, ours = f"target/{side}/layers_{{i}}", f"{side}/layers/{{i}}"
    for theirs, norm, part in _ATTENTIONS[side]:
        yield Tensor(f"{block}/{norm}_layer_norm/scale", f"{ours}/{part}_norm/scale")
        for name, short in {"query": "query", "key": "key", "value": "value", "output": "out"}.items():
            yield Tensor(f"{block}/{theirs}/{short}/kernel", f"{ours}/{part}/{name}/kernel")
    yield Tensor(f"{block}/pre_mlp_layer_norm/scale", f"{ours}/mlp_norm/scale")
    yield Tensor(f"{block}/mlp/wi/kernel", f"{ours}/mlp/input/kernel", where=lambda config: not _gated(config))
    yield Tensor(f"{block}/mlp/wi_0/kernel", f"{ours}/mlp/gate/kernel", where=_gated)
    yield Tensor(f"{block}/mlp/wi_1/kernel", f"{ours}/mlp/input/kernel", where=_gated)
    yield Tensor(f"{block}/mlp/wo/kernel", f"{ours}/mlp/output/kernel")
    table = "relpos_bias/rel_embedding"
    yield Tensor(f"target/{side}/{table}", f"{side}/relative/table", True, lambda config: not config.per_layer_bias)
    yield Tensor(f"{block}/{table}", f"{ours}/relative/table", True, lambda config: config.per_layer_bias)
    yield Tensor(f"target/{side}/{side}_norm/scale", f"{side}/norm/scale")


FAMILY = Family(
    model_type="t5x",
    config=t5.Config,
    fields={},
    choices={},
    defaults={},
    fixed={},
    tensors=(
        Tensor(_EMBEDDING, "token/table"),
        *_side("encoder"),
        *_side("decoder"),
        Tensor("target/decoder/logits_dense/kernel", "head/kernel", where=lambda config: not config.tied),
    ),
    forms={"T5X's T5": Form(model=t5.T5)},
    layers=t5_hf.FAMILY.layers,
)


def apart(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scanned layers taken apart, kernels as matrices."""
    width, found = _of(arrays, _EMBEDDING).shape[-1], {}
    for name, value in arrays.items():
        side, scanned, rest = (*name.split("/", 3), "", "", "")[1:4]
        if side != scanned:
            found[name] = _matrix(name, value)
            continue
        scale = _of(arrays, f"target/{side}/{side}/pre_mlp_layer_norm/scale")
        axis = 1 if scale.shape[0] == width else 0  # T5X's param_scan_axis is 1; other codes scan over the first
        if value.ndim <= axis:
            raise Mismatch(f"{name} has shape {list(value.shape)}, without an axis over the layers")
        for i in range(value.shape[axis]):
            layer = f"target/{side}/layers_{i}/{rest}"
            found[layer] = _matrix(layer, np.take(value, i, axis))
    return found


def _of(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in arrays:
        raise Mismatch(f"the array {name} is missing")
    return arrays[name]


def _matrix(name: str, value: np.ndarray) -> np.ndarray:
    """Heads and what is inside a head as one axis."""
    if value.ndim != 3 or not name.endswith("/kernel"):
        return value
    return value.reshape(-1, value.shape[-1]) if name.endswith("/out/kernel") else value.reshape(len(value), -1)


def config(arrays: Mapping[str, np.ndarray], activation: str | None, **known) -> t5.Config:
    """Our configuration. Shapes tell all of it but the activation (as the released models: GELU where gated, else ReLU) and the dropout."""
    gated = any("/mlp/wi_0/" in name for name in arrays)
    per_layer = any("/layers_0/relpos_bias/" in name for name in arrays)
    layers = {side: sum(f"target/{side}/layers_{i}/mlp/wo/kernel" in arrays for i in range(len(arrays))) for side in _ATTENTIONS}
    heads, buckets = _of(arrays, f"target/encoder/{'layers_0/' * per_layer}relpos_bias/rel_embedding").shape
    vocab_size, width = _of(arrays, _EMBEDDING).shape
    joined = _of(arrays, "target/encoder/layers_0/attention/query/kernel").shape[-1]
    if joined % heads:
        raise Mismatch(f"the table of positions is of {heads} heads, which do not divide the {joined} outputs of a query")
    return t5.Config(
        vocab_size=vocab_size,
        width=width,
        layers=layers["encoder"],
        decoder_layers=layers["decoder"],
        heads=heads,
        head_dim=joined // heads,
        mlp_width=_of(arrays, "target/encoder/layers_0/mlp/wo/kernel").shape[0],
        mlp=GatedMLP if gated else MLP,
        activation=ACTIVATIONS[activation or ("gelu" if gated else "relu")],
        buckets=buckets,
        per_layer_bias=per_layer,
        tied="target/decoder/logits_dense/kernel" not in arrays,
        **known,
    )
