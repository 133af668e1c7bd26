"""Makes the stored parity cases: tiny random BERTs in Hugging Face's own files, with inputs and what torch answers.

    python tests/golden/hf/make.py [--out DIR]

Needs torch and transformers, which the default install leaves out. For each model below it writes a folder with
config.json, model.safetensors and cases.npz, and one made_with.json with the versions used. README.md lists the keys.

Weights and inputs are uniform draws of numpy's legacy generator, whose stream is frozen. Only single multiplications
and additions touch them, so the weights come out bit for bit the same on any machine.
"""

import argparse
import json
import platform
from pathlib import Path

import numpy as np
import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForPreTraining

PAD, CLS, SEP, MASK, FIRST_WORD = range(5)

SHAPES = {  # case -> (padded length, real length of each row)
    "case0": (7, [7, 5]),
    "case1": (17, [17, 11, 14]),
    "case2": (33, [29]),
}
CASE_WITH_HIDDEN_STATES = "case0"
CASE_WITH_GRADIENT = "case1"

GRADIENTS_OF = [
    "bert.embeddings.word_embeddings.weight",  # tied: the lookup's part plus the output projection's part
    "bert.encoder.layer.0.attention.self.query.weight",
    "bert.encoder.layer.1.output.LayerNorm.bias",
    "cls.predictions.bias",
]

MODELS = {
    "bert_pretraining": dict(
        seed=1,
        # Small activations reach the prediction head's LayerNorm, so an epsilon of 1e-6 instead of 1e-12 shows there.
        head_std=0.01,
        config=dict(
            vocab_size=101,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=56,
            max_position_embeddings=40,
            type_vocab_size=2,
            hidden_act="gelu",
            layer_norm_eps=1e-12,
        ),
    ),
    "bert_gelu_new": dict(
        seed=2,
        head_std=0.25,  # large activations in the prediction head, so the kind of gelu shows there too
        config=dict(
            vocab_size=67,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=52,
            max_position_embeddings=37,
            type_vocab_size=3,
            hidden_act="gelu_new",
            layer_norm_eps=1e-3,  # large enough that reading it from config.json shows
        ),
    ),
}


def uniform(rng, std, shape):
    """Float32 draws with mean 0 and the given standard deviation."""
    return ((2 * rng.random_sample(shape) - 1) * (std * np.sqrt(3))).astype(np.float32)


def draw(rng, name, shape, head_std):
    """One parameter, so that no bias is zero and no LayerNorm is the identity."""
    if name.endswith("LayerNorm.weight"):
        return 1 + uniform(rng, 0.3, shape)
    std = head_std if name.startswith("cls.predictions.transform.dense.") else 0.25
    return uniform(rng, std, shape)


def make_model(seed, head_std, config):
    # Eager attention is the definition itself; the fused kernels differ between machines.
    model = BertForPreTraining._from_config(BertConfig(**config), attn_implementation="eager").eval()
    rng = np.random.RandomState(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            parameter.copy_(torch.from_numpy(draw(rng, name, parameter.shape, head_std)))
    return model


def make_inputs(rng, config, length, real_lengths):
    """[CLS] words [SEP] words [SEP] padding, as BERT reads it; a third token type, where there is one, ends the row."""
    shape = (len(real_lengths), length)
    # PAD stands only where the mask is 0: torch's lookup gives its row no gradient.
    input_ids = np.full(shape, PAD, np.int32)
    attention_mask = np.zeros(shape, np.int32)
    token_type_ids = np.zeros(shape, np.int32)
    for row, real in enumerate(real_lengths):
        middle = real // 2
        input_ids[row, :real] = rng.randint(FIRST_WORD, config.vocab_size, real)
        input_ids[row, [0, middle, real - 1]] = CLS, SEP, SEP
        attention_mask[row, :real] = 1
        token_type_ids[row, middle + 1 : real] = 1
        token_type_ids[row, real - 1] = config.type_vocab_size - 1
    return dict(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)


def hide_words(rng, input_ids):
    """Puts MASK on about a quarter of each row's words; returns the new ids, and labels with -100 where none is asked."""
    hidden = np.zeros(input_ids.shape, bool)
    for row, ids in enumerate(input_ids):
        words = np.flatnonzero(ids >= FIRST_WORD)
        hidden[row, rng.permutation(words)[: len(words) // 4]] = True
    return np.where(hidden, np.int32(MASK), input_ids), np.where(hidden, input_ids, np.int32(-100))


def as_long(array):
    return torch.from_numpy(array).long()


def make_case(model, rng, case):
    inputs = make_inputs(rng, model.config, *SHAPES[case])
    targets = {}
    if case == CASE_WITH_GRADIENT:
        inputs["input_ids"], targets["labels"] = hide_words(rng, inputs["input_ids"])
        targets["next_sentence_label"] = np.arange(len(inputs["input_ids"]), dtype=np.int32) % 2

    encoded = model.bert(**{key: as_long(value) for key, value in inputs.items()}, output_hidden_states=True)
    logits, seq_relationship_logits = model.cls(encoded.last_hidden_state, encoded.pooler_output)
    outputs = dict(
        last_hidden_state=encoded.last_hidden_state,
        pooler_output=encoded.pooler_output,
        logits=logits,
        seq_relationship_logits=seq_relationship_logits,
    )
    if case == CASE_WITH_HIDDEN_STATES:
        outputs["hidden_states"] = torch.stack(encoded.hidden_states)
    if case == CASE_WITH_GRADIENT:
        outputs["mlm_loss"] = cross_entropy(logits.flatten(0, 1), as_long(targets["labels"]).flatten(), ignore_index=-100)
        outputs["nsp_loss"] = cross_entropy(seq_relationship_logits, as_long(targets["next_sentence_label"]))
        outputs["loss"] = outputs["mlm_loss"] + outputs["nsp_loss"]
        parameters = dict(model.named_parameters())
        gradients = torch.autograd.grad(outputs["loss"], [parameters[name] for name in GRADIENTS_OF])
        outputs |= {f"grad/{name}": gradient for name, gradient in zip(GRADIENTS_OF, gradients)}

    arrays = inputs | targets | {key: value.detach().numpy() for key, value in outputs.items()}
    return {f"{case}/{key}": value for key, value in arrays.items()}


def main(out):
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name, recipe in MODELS.items():
        model = make_model(**recipe)
        model.save_pretrained(out / name)
        rng = np.random.RandomState(1000 + recipe["seed"])
        arrays = {}
        for case in SHAPES:
            arrays |= make_case(model, rng, case)
        np.savez(out / name / "cases.npz", **arrays)

    versions = dict(
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        numpy=np.__version__,
    )
    text = json.dumps(versions, indent=2) + "\n"
    (out / "made_with.json").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write; default: beside this script")
    main(parser.parse_args().out)
