"""Makes the stored cases of generation: a tiny random T5, 50 inputs, and what transformers generates from them.

    python tests/golden/decoding/make.py [--out DIR]

Needs torch and transformers, which the default install leaves out. It writes config.json and model.safetensors in Hugging Face's own
form, and cases.npz: `input_ids` and `attention_mask` [50, 12], and for each way of decoding `NAME/ids` [50, 24] (without the start,
0 after the end) and, for beams, `NAME/scores` [50]. made_with.json has the versions.

Weights are uniform draws of numpy's legacy generator, large enough that the model is sure of some things and not of others: rows end
at many different places, some never.
"""

import argparse
import json
import platform
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

PAD, EOS, FIRST_WORD = 0, 1, 2
ROWS, INPUTS, TARGETS = 50, 12, 24
PENALTIES = (0.6, 1.0, 2.0)

CONFIG = dict(
    vocab_size=29,
    d_model=16,
    d_kv=6,
    d_ff=24,
    num_layers=2,
    num_decoder_layers=2,
    num_heads=2,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=20,
    feed_forward_proj="gated-gelu",
    tie_word_embeddings=False,
    decoder_start_token_id=PAD,
    pad_token_id=PAD,
    eos_token_id=EOS,
)
STD = {"shared": 1.0, "lm_head": 0.35, "relative_attention_bias": 1.5}  # by a part of the name; others are of deviation 0.35


def uniform(rng, std, shape):
    """Float32 draws with mean 0 and the given standard deviation."""
    return ((2 * rng.random_sample(shape) - 1) * (std * np.sqrt(3))).astype(np.float32)


def draw(rng, name, shape):
    if name.endswith("layer_norm.weight"):
        return 1 + uniform(rng, 0.3, shape)
    return uniform(rng, next((std for part, std in STD.items() if part in name), 0.35), shape)


def make_model(seed=35):
    config = transformers.T5Config(**CONFIG)
    model = transformers.T5ForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    # T5Config of transformers 5 ties whatever it is told, and reads from `tie_word_embeddings` only whether to scale the logits.
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.shared.weight))
    rng = np.random.RandomState(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            parameter.copy_(torch.from_numpy(draw(rng, name, parameter.shape)))
        model.lm_head.weight[EOS] *= 1.5
    return model


def make_inputs(seed=12):
    rng = np.random.RandomState(seed)
    lengths = 2 + np.arange(ROWS) % (INPUTS - 1)
    mask = (np.arange(INPUTS) < lengths[:, None]).astype(np.int32)
    ids = rng.randint(FIRST_WORD, CONFIG["vocab_size"], (ROWS, INPUTS)).astype(np.int32)
    ids[np.arange(ROWS), lengths - 1] = EOS
    return ids * mask, mask


def generate(model, ids, mask, **how):
    """Ids without the start, padded to TARGETS; scores where there are any."""
    found = model.generate(
        torch.from_numpy(ids).long(),
        attention_mask=torch.from_numpy(mask).long(),
        max_new_tokens=TARGETS,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **how,
    )
    sequences = found.sequences[:, 1:].numpy().astype(np.int32)
    ended = np.cumsum(sequences == EOS, axis=1) - (sequences == EOS) > 0
    sequences[ended] = PAD  # beam search fills with the end where the id of padding is 0: `pad_token_id or eos_token_id[0]`
    scores = found.sequences_scores.numpy() if how["num_beams"] > 1 else None
    return np.pad(sequences, ((0, 0), (0, TARGETS - sequences.shape[1])), constant_values=PAD), scores


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    model, (ids, mask) = make_model(), make_inputs()
    cases = {"input_ids": ids, "attention_mask": mask, "greedy/ids": generate(model, ids, mask, num_beams=1)[0]}
    for penalty in PENALTIES:
        found = generate(model, ids, mask, num_beams=4, length_penalty=penalty, early_stopping=False)
        cases[f"beam4_{penalty}/ids"], cases[f"beam4_{penalty}/scores"] = found
    out.mkdir(parents=True, exist_ok=True)
    said = {"model_type": "t5", "architectures": [type(model).__name__], **CONFIG}
    (out / "config.json").write_text(json.dumps(said, indent=2) + "\n")
    save_file({name: value for name, value in model.state_dict().items() if "embed_tokens" not in name}, out / "model.safetensors")
    np.savez(out / "cases.npz", **cases)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}
    (out / "made_with.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
