"""Hugging Face's mixtures beside ours: SwitchTransformersForConditionalGeneration and MixtralForCausalLM.

Their experts are tensors of their own, ours one parameter with an axis over them, so a table of names (`models/hf.py`) does not do. Nothing
here touches a disk: configurations are the content of a config.json, tensors are arrays by name.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rootstock.models import decoder, hf, t5, t5_hf
from rootstock.models.layers import activations
from rootstock.models.layers.mlp import MLP, GatedMLP
from rootstock.models.layers.moe.mixture import Mixture
from rootstock.models.layers.moe.placement import Every
from rootstock.models.layers.moe.routers import TopK
from rootstock.models.layers.positions import Rotary

Tensors = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One of their classes: its configuration and tensors as ours (`config`, `params`), and ours as theirs."""

    architecture: str
    model: type
    config: Callable[[Mapping[str, Any]], Any]
    params: Callable[[Tensors, Any], dict[str, np.ndarray]]
    config_back: Callable[[Any], dict[str, Any]]
    tensors: Callable[[Tensors, Any], dict[str, np.ndarray]]


def _wanted(theirs: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    for name, value in fixed.items():
        if (seen := theirs.get(name, value)) != value:
            raise hf.Mismatch(f"{name} is {seen!r}; only {value!r} is known here")


def _mixture(config: Any, kind: str) -> tuple[Mixture, TopK]:
    """The mixture of one of our configurations, where their class can say it."""
    mixture = config.mlp
    if not isinstance(mixture, Mixture) or not isinstance(mixture.router, TopK) or mixture.causal_router not in (None, mixture.router):
        raise hf.Mismatch(f"{kind} has experts and token choice alone")
    if mixture.shared or mixture.granularity != 1 or mixture.scale != 1.0 or mixture.router.prioritised:
        raise hf.Mismatch(f"{kind} knows no shared experts, shards, scales or priorities (models.layers.moe.mixture.Mixture)")
    return mixture, mixture.router


# Switch: T5 1.0, in which some layers have experts

_SWITCH_MLP = re.compile(
    r"^(encoder|decoder)\.block\.(\d+)\.layer\.[12]\.mlp\.(?:router\.(classifier)|experts\.expert_(\d+)\.(wi|wo)|(wi|wo))\.weight$"
)
_OURS = {"wi": "input", "wo": "output"}
_SWITCH_FIELDS = (
    "vocab_size",
    "d_model",
    "d_kv",
    "d_ff",
    "num_layers",
    "num_decoder_layers",
    "num_heads",
    "dropout_rate",
    "layer_norm_epsilon",
)
_SWITCH_FIELDS += ("relative_attention_num_buckets", "relative_attention_max_distance", "initializer_factor", "decoder_start_token_id")


def _switch_config(theirs: Mapping[str, Any]) -> t5.Config:
    _wanted(theirs, {"router_bias": False, "router_ignore_padding_tokens": False, "dense_act_fn": "relu", "router_dtype": "float32"})
    known = {name: theirs[name] for name in _SWITCH_FIELDS if name in theirs}
    tied = theirs.get("tie_word_embeddings", True)
    dense = hf.config(t5_hf.FAMILY, {**known, "feed_forward_proj": "relu", "tie_word_embeddings": tied, "scale_decoder_outputs": tied})
    depths = (("encoder", dense.layers, 3), ("decoder", dense.decoder_layers or dense.layers, 3))
    steps = {layers // max(1, theirs.get(f"num_sparse_{side}_layers", usual)) for side, layers, usual in depths}
    if steps not in ({1}, {2}):
        raise hf.Mismatch(
            f"one layer in {' and '.join(map(str, sorted(steps)))} has experts; known are all, and every other one in both stacks"
        )
    router = TopK(
        k=1,
        capacity=0.0,  # their capacity is a number of tokens, whatever the length
        eval_capacity=0.0,
        min_capacity=theirs.get("expert_capacity", 64),
        jitter=float(theirs.get("router_jitter_noise", 0.01)),
        balance_weight=theirs.get("router_aux_loss_coef", 0.001),
        z_weight=theirs.get("router_z_loss_coef", 0.001),
    )
    mixture = Mixture(experts=theirs.get("num_experts", 8), router=router, layers=Every(steps.pop()))
    return dataclasses.replace(dense, mlp=mixture)


def _switch_dense(config: t5.Config) -> hf.Table:
    return hf.Table(t5_hf.FAMILY, "T5ForConditionalGeneration", dataclasses.replace(config, mlp=MLP))


def _switch_params(tensors: Tensors, config: t5.Config) -> dict[str, np.ndarray]:
    plain, experts, found = {}, {}, {}
    for name, value in hf.original(t5_hf.FAMILY, dataclasses.replace(config, mlp=MLP), tensors).items():
        match = _SWITCH_MLP.match(name)
        if match is None:
            plain[name] = value
            continue
        side, layer, router, number, part, dense = match.groups()
        ours = f"{side}/layers/{layer}/mlp"
        if router:
            found[f"{ours}/router/kernel"] = value.T
        elif dense:
            found[f"{ours}/{_OURS[dense]}/kernel"] = value.T
        else:
            experts.setdefault(f"{ours}/experts/{_OURS[part]}/kernel", {})[int(number)] = value.T
    return {**_switch_dense(config).convert(plain), **found, **_stacked(experts, config.mlp.experts)}


def _stacked(experts: Mapping[str, Mapping[int, np.ndarray]], count: int) -> dict[str, np.ndarray]:
    for name, parts in experts.items():
        if sorted(parts) != list(range(count)):
            raise hf.Mismatch(f"of what is here {name} the file has the experts {sorted(parts)[:8]}..., and config.json speaks of {count}")
    return {name: np.stack([parts[number] for number in range(count)]) for name, parts in experts.items()}


def _switch_config_back(config: t5.Config) -> dict[str, Any]:
    mixture, router = _mixture(config, "SwitchTransformers")
    if mixture.mlp is not MLP or config.activation is not activations.relu or router.k != 1 or router.normalise:
        raise hf.Mismatch("SwitchTransformers has plain ReLU MLPs and one expert a token, with its own weight")
    if not isinstance(mixture.layers, Every) or mixture.layers.stride > 2 or mixture.group_size is not None:
        raise hf.Mismatch("SwitchTransformers has experts in all layers or in every other one (placement.Every), and counts by rows")
    if router.eval_capacity not in (None, 0.0):
        raise hf.Mismatch(
            f"TopK.eval_capacity is {router.eval_capacity}, and Switch counts tokens: set it to 0.0, with min_capacity, or to None"
        )
    dense = hf.config_back(t5_hf.FAMILY, dataclasses.replace(config, mlp=MLP))
    kept = {name: dense[name] for name in _SWITCH_FIELDS} | {"tie_word_embeddings": config.tied}
    decoder_layers = kept["num_decoder_layers"] = config.decoder_layers or config.layers
    return {
        "model_type": "switch_transformers",
        **kept,
        "num_sparse_encoder_layers": config.layers // mixture.layers.stride,
        "num_sparse_decoder_layers": decoder_layers // mixture.layers.stride,
        "num_experts": mixture.experts,
        "expert_capacity": 2**30 if router.eval_capacity is None else router.min_capacity,
        "router_jitter_noise": router.jitter,
        "router_aux_loss_coef": router.balance_weight,
        "router_z_loss_coef": router.z_weight,
        "dense_act_fn": "relu",
        "is_encoder_decoder": True,
    }


def _switch_tensors(params: Tensors, config: t5.Config) -> dict[str, np.ndarray]:
    plain, found = {}, {}
    theirs = {"input": "wi", "output": "wo"}
    for name, value in params.items():
        match = re.match(r"^(encoder|decoder)/layers/(\d+)/mlp/(?:(router)|experts/(input|output)|(input|output))/kernel$", name)
        if match is None:
            plain[name] = value
            continue
        side, layer, router, part, dense = match.groups()
        block = f"{side}.block.{layer}.layer.{1 if side == 'encoder' else 2}.mlp"
        if router:
            found[f"{block}.router.classifier.weight"] = value.T
        elif dense:
            found[f"{block}.{theirs[dense]}.weight"] = value.T
        else:
            found |= {f"{block}.experts.expert_{number}.{theirs[part]}.weight": one.T for number, one in enumerate(value)}
    return {**_switch_dense(config).convert_back(plain), **found}


# Mixtral: our decoder with experts in every layer

_MIXTRAL = {  # in layers: theirs -> ours
    "input_layernorm": "attention_norm/scale",
    "post_attention_layernorm": "mlp_norm/scale",
    **{
        f"self_attn.{theirs}_proj": f"attention/{ours}/kernel"
        for theirs, ours in zip("qkvo", ("query", "key", "value", "output"), strict=True)
    },
    "block_sparse_moe.gate": "mlp/router/kernel",
}
_MIXTRAL_OUTSIDE = {"model.embed_tokens.weight": "token/table", "model.norm.weight": "norm/scale", "lm_head.weight": "head/kernel"}
_MIXTRAL_EXPERT = {"w1": "gate", "w3": "input", "w2": "output"}


def _mixtral_config(theirs: Mapping[str, Any]) -> decoder.Config:
    _wanted(theirs, {"hidden_act": "silu", "sliding_window": None, "attention_dropout": 0.0})
    rope = theirs.get("rope_parameters") or {"rope_theta": theirs.get("rope_theta", 1e6), "rope_type": "default"}
    _wanted(rope, {"rope_type": "default"})
    try:
        heads = theirs["num_attention_heads"]
        router = TopK(
            k=theirs.get("num_experts_per_tok", 2),
            capacity=None,
            eval_capacity=None,
            normalise=True,
            jitter=float(theirs.get("router_jitter_noise", 0.0)),
            balance_weight=theirs.get("router_aux_loss_coef", 0.001),
        )
        return decoder.Config(
            vocab_size=theirs["vocab_size"],
            width=theirs["hidden_size"],
            layers=theirs["num_hidden_layers"],
            heads=heads,
            kv_heads=theirs.get("num_key_value_heads", heads),
            head_dim=theirs.get("head_dim"),
            mlp_width=theirs["intermediate_size"],
            norm_eps=theirs.get("rms_norm_eps", 1e-5),
            init_std=theirs.get("initializer_range", 0.02),
            rotation=Rotary(float(rope["rope_theta"])),
            tied=theirs.get("tie_word_embeddings", False),
            mlp=Mixture(experts=theirs.get("num_local_experts", 8), router=router, layers=Every(1), mlp=GatedMLP),
        )
    except KeyError as error:
        raise hf.Mismatch(f"the field {error.args[0]} is missing") from error


def _mixtral_params(tensors: Tensors, config: decoder.Config) -> dict[str, np.ndarray]:
    found, experts = {}, {}
    for name, value in tensors.items():
        layer = re.match(r"^model\.layers\.(\d+)\.(.+)\.weight$", name)
        if name == "lm_head.weight" and config.tied:
            continue
        if name in _MIXTRAL_OUTSIDE:
            found[_MIXTRAL_OUTSIDE[name]] = value.T if name.startswith("lm_head") else value
        elif layer and (expert := re.match(r"^block_sparse_moe\.experts\.(\d+)\.(w[123])$", layer[2])):
            ours = f"layers/{layer[1]}/mlp/experts/{_MIXTRAL_EXPERT[expert[2]]}/kernel"
            experts.setdefault(ours, {})[int(expert[1])] = value.T
        elif layer and layer[2] in _MIXTRAL:
            found[f"layers/{layer[1]}/{_MIXTRAL[layer[2]]}"] = value.T
        else:
            raise hf.Mismatch(f"{name} is no tensor of MixtralForCausalLM")
    return {**found, **_stacked(experts, config.mlp.experts)}


def _mixtral_config_back(config: decoder.Config) -> dict[str, Any]:
    mixture, router = _mixture(config, "Mixtral")
    if mixture.layers != Every(1) or mixture.mlp is not GatedMLP or not router.normalise or router.eval_capacity is not None:
        raise hf.Mismatch("Mixtral has gated experts in every layer, normalised weights, and drops nobody (TopK.eval_capacity None)")
    if config.rotation is None or config.buckets or config.bias or config.activation is not activations.silu:
        raise hf.Mismatch("Mixtral has rotary positions, SiLU and no biases")
    return {
        "model_type": "mixtral",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads or config.heads,
        "head_dim": config.head_dim or config.width // config.heads,
        "intermediate_size": config.mlp_width,
        "rms_norm_eps": config.norm_eps,
        "initializer_range": config.init_std,
        "rope_parameters": {"rope_theta": config.rotation.theta, "rope_type": "default"},
        "tie_word_embeddings": config.tied,
        "num_local_experts": mixture.experts,
        "num_experts_per_tok": router.k,
        "router_jitter_noise": router.jitter,
        "router_aux_loss_coef": router.balance_weight,
        "hidden_act": "silu",
    }


def _mixtral_tensors(params: Tensors, config: decoder.Config) -> dict[str, np.ndarray]:
    outside = {ours: theirs for theirs, ours in _MIXTRAL_OUTSIDE.items()}
    inside = {ours: theirs for theirs, ours in _MIXTRAL.items()}
    expert = {f"mlp/experts/{ours}/kernel": theirs for theirs, ours in _MIXTRAL_EXPERT.items()}
    found = {}
    for name, value in params.items():
        layer = re.match(r"^layers/(\d+)/(.+)$", name)
        if layer and layer[2] in expert:
            block = f"model.layers.{layer[1]}.block_sparse_moe.experts"
            found |= {f"{block}.{number}.{expert[layer[2]]}.weight": one.T for number, one in enumerate(value)}
        elif layer:
            found[f"model.layers.{layer[1]}.{inside[layer[2]]}.weight"] = value.T
        else:
            found[outside[name]] = value.T if name.startswith("head") else value
    return found


KINDS = {
    "switch_transformers": Kind(
        "SwitchTransformersForConditionalGeneration", t5.T5, _switch_config, _switch_params, _switch_config_back, _switch_tensors
    ),
    "mixtral": Kind("MixtralForCausalLM", decoder.Decoder, _mixtral_config, _mixtral_params, _mixtral_config_back, _mixtral_tensors),
}
