"""Makes blocks.npz: mixture blocks of transformers on random weights, with inputs, outputs and losses; and two whole models with theirs.

    python tests/golden/moe/make.py [--out=FOLDER]

Needs torch and transformers; the tests read what is stored.
"""

import argparse
import pathlib

import numpy as np
import torch
import transformers
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
from transformers.models.switch_transformers import modeling_switch_transformers as switch

WIDTH, HIDDEN, EXPERTS, CAPACITY = 16, 24, 4, 3


def drawn(module, seed):
    rng = np.random.RandomState(seed)
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            parameter.copy_(torch.from_numpy((0.3 * rng.standard_normal(parameter.shape)).astype(np.float32)))
    return module.eval()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    out = parser.parse_args().out
    x = np.random.RandomState(0).standard_normal((2, 11, WIDTH)).astype(np.float32)
    found = {"x": x}
    sizes = dict(d_model=WIDTH, d_ff=HIDDEN, num_experts=EXPERTS, expert_capacity=CAPACITY, dense_act_fn="relu")
    block = drawn(switch.SwitchTransformersSparseMLP(transformers.SwitchTransformersConfig(**sizes)), 1)
    sizes = dict(hidden_size=WIDTH, intermediate_size=HIDDEN, num_local_experts=EXPERTS, num_experts_per_tok=2)
    mixtral = drawn(MixtralSparseMoeBlock(transformers.MixtralConfig(**sizes, experts_implementation="eager")), 2)
    with torch.no_grad():
        tokens = torch.from_numpy(x)
        found["switch/y"] = block(tokens.clone()).numpy()
        _, _, logits = block.router(tokens.clone())
        probabilities = torch.softmax(logits, -1)
        found["switch/router_z"] = switch.router_z_loss_func(logits).numpy()
        found["switch/balance"] = switch.load_balancing_loss_func(probabilities, probabilities.argmax(-1)[..., None]).numpy()
        found["mixtral/y"] = mixtral(tokens.clone()).numpy()
        for name, module in (("switch", block), ("mixtral", mixtral)):
            found |= {f"{name}/{key}": value.numpy() for key, value in module.state_dict().items()}
    np.savez_compressed(out / "blocks.npz", **found)
    whole_models(out)


def whole_models(out):
    """Saved as transformers saves them, with ids and logits."""
    sizes = dict(
        vocab_size=43, d_model=20, d_kv=6, d_ff=28, num_layers=4, num_decoder_layers=2, num_heads=3, num_experts=3, expert_capacity=3
    )
    sparse = dict(num_sparse_encoder_layers=2, num_sparse_decoder_layers=1, decoder_start_token_id=0, dropout_rate=0.0)
    rng = np.random.RandomState(5)
    ids, targets = rng.randint(2, 43, (2, 11)), rng.randint(2, 43, (2, 7))
    model = transformers.SwitchTransformersForConditionalGeneration(transformers.SwitchTransformersConfig(**sizes, **sparse))
    save(drawn(model, 3), out / "switch", input_ids=ids, decoder_input_ids=targets)
    sizes = dict(vocab_size=43, hidden_size=24, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    config = transformers.MixtralConfig(
        **sizes, num_local_experts=3, head_dim=8, pad_token_id=0, rope_parameters={"rope_type": "default", "rope_theta": 500.0}
    )
    save(drawn(transformers.MixtralForCausalLM(config), 4), out / "mixtral", input_ids=ids)


def save(model, folder, **inputs):
    with torch.no_grad():
        logits = model(**{name: torch.from_numpy(value).long() for name, value in inputs.items()}).logits.numpy()
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    np.savez_compressed(folder / "cases.npz", logits=logits, **{name: value.astype(np.int32) for name, value in inputs.items()})


if __name__ == "__main__":
    main()
