"""The encoder-decoders among the stored parity cases; `make.py` calls this. Everything it says of weights and inputs holds here."""

import numpy as np
import torch
import transformers
from draws import all_to_torch, uniform

PAD, EOS, FIRST_WORD = 0, 1, 2

SHAPES = {  # case -> (padded length, real length of each row) of the inputs, the same of the targets
    "case0": ((7, [7, 5]), (5, [3, 5])),
    "case1": ((17, [17, 11, 1]), (13, [13, 4, 9])),
    "case2": ((33, [29]), (25, [25])),
}
CASE_WITH_GRADIENT = "case1"

# Head sizes whose product is not the width, stacks of different depth, distances beyond the last bucket.
SMALL = dict(
    vocab_size=43,
    d_model=20,
    d_kv=6,
    d_ff=28,
    num_layers=2,
    num_decoder_layers=3,
    num_heads=3,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=20,
    dropout_rate=0.2,
    decoder_start_token_id=0,
)

MODELS = {
    "t5_tied": dict(kind="T5", seed=21, tied=True, config=SMALL | dict(feed_forward_proj="relu", num_decoder_layers=None)),
    "t5_gated": dict(kind="T5", seed=22, tied=False, config=SMALL | dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
    # An epsilon large enough that reading it from config.json shows.
    "mt5": dict(kind="MT5", seed=23, tied=False, config=SMALL | dict(vocab_size=67, num_heads=2, layer_norm_epsilon=1e-2)),
    "umt5": dict(kind="UMT5", seed=24, tied=True, config=SMALL | dict(decoder_start_token_id=2)),
}


def make_model(kind, seed, tied, config):
    # Eager attention is the definition itself; the fused kernels differ between machines.
    config = getattr(transformers, f"{kind}Config")(**config)
    model = getattr(transformers, f"{kind}ForConditionalGeneration")._from_config(config, attn_implementation="eager").eval()
    if not tied:  # which transformers 5 does in any case, unless a file holds both
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
        model.all_tied_weights_keys.pop("lm_head.weight")
    rng = np.random.RandomState(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            parameter.copy_(torch.from_numpy(draw(rng, name, parameter.shape)))
    return model


def draw(rng, name, shape):
    if name.endswith("layer_norm.weight"):
        return 1 + uniform(rng, 0.3, shape)
    return uniform(rng, 1.0 if name == "shared.weight" else 0.25, shape)


def words(rng, vocab_size, length, real_lengths):
    """Words, EOS, padding; and which are real."""
    ids, mask = np.full((2, len(real_lengths), length), PAD, np.int32)
    for row, real in enumerate(real_lengths):
        ids[row, :real] = rng.randint(FIRST_WORD, vocab_size, real)
        ids[row, real - 1] = EOS
        mask[row, :real] = 1
    return ids, mask


def make_case(model, rng, case):
    inputs, targets = SHAPES[case]
    input_ids, attention_mask = words(rng, model.config.vocab_size, *inputs)
    target_ids, target_mask = words(rng, model.config.vocab_size, *targets)
    labels = np.where(target_mask == 1, target_ids, np.int32(-100))
    given = dict(input_ids=input_ids, attention_mask=attention_mask)
    out = model(**all_to_torch(given), labels=torch.from_numpy(labels).long(), output_hidden_states=True)
    outputs = dict(
        logits=out.logits,
        last_hidden_state=out.decoder_hidden_states[-1],
        encoder_last_hidden_state=out.encoder_last_hidden_state,
        loss=out.loss,
    )
    if case == CASE_WITH_GRADIENT:
        parameters = dict(model.named_parameters())
        gradients = torch.autograd.grad(out.loss, list(parameters.values()))
        outputs |= {f"grad/{name}": gradient for name, gradient in zip(parameters, gradients, strict=True)}
    found = {key: value.detach().numpy() for key, value in outputs.items()}
    return {f"{case}/{key}": value for key, value in (given | dict(labels=labels) | found).items()}


def main(out):
    for name, recipe in MODELS.items():
        model = make_model(**recipe)
        model.save_pretrained(out / name)
        (out / name / "generation_config.json").unlink(missing_ok=True)  # which repeats config.json
        rng = np.random.RandomState(1000 + recipe["seed"])
        arrays = {}
        for case in SHAPES:
            arrays |= make_case(model, rng, case)
        np.savez(out / name / "cases.npz", **arrays)
