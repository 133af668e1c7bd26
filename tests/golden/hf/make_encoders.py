"""The other encoders among the stored parity cases; `make.py` calls this. Everything it says of weights and inputs holds here."""

import numpy as np
import torch
import transformers
from draws import all_to_torch, uniform

SHAPES = {  # case -> (padded length, real length of each row)
    "case0": (7, [7, 5]),
    "case1": (17, [17, 11, 1]),
    "case2": (33, [29]),
}
CASE_WITH_GRADIENT = "case1"
CHOICES = 3

SMALL = dict(
    vocab_size=43,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=24,
    max_position_embeddings=37,
    layer_norm_eps=1e-3,  # large enough that reading it from config.json shows
)
NAMED = dict(id2label={0: "entailment", 1: "neutral", 2: "contradiction"})

ELECTRA = SMALL | dict(embedding_size=8)
ROBERTA = SMALL | dict(type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2)
ALBERT = SMALL | dict(embedding_size=8, num_hidden_layers=4, num_hidden_groups=2)
V1 = SMALL | dict(relative_attention=True, max_relative_positions=6, position_biased_input=False, pos_att_type=["c2p", "p2c"])
# Distances go to 32: beyond the buckets, and beyond the largest distance that they tell apart.
V2 = V1 | dict(share_att_key=True, norm_rel_ebd="layer_norm", position_buckets=4, max_relative_positions=20, pos_att_type=["p2c", "c2p"])
# Two layers after the first global one see three tokens on either side.
MODERN = {key: value for key, value in SMALL.items() if key != "layer_norm_eps"} | dict(
    num_hidden_layers=5, local_attention=6, norm_eps=1e-3, pad_token_id=0, cls_token_id=1, bos_token_id=1, sep_token_id=2, eos_token_id=2
)

MODELS = {
    "electra_pretraining": dict(architecture="ElectraForPreTraining", seed=41, config=ELECTRA),
    "electra_masked_lm": dict(architecture="ElectraForMaskedLM", seed=42, config=ELECTRA),
    "electra_classes": dict(architecture="ElectraForSequenceClassification", seed=43, config=ELECTRA | NAMED),
    "electra_tokens": dict(architecture="ElectraForTokenClassification", seed=44, config=SMALL | dict(embedding_size=16, num_labels=5)),
    "electra_answers": dict(architecture="ElectraForQuestionAnswering", seed=45, config=ELECTRA),
    "electra_choices": dict(architecture="ElectraForMultipleChoice", seed=46, config=ELECTRA),
    "roberta_masked_lm": dict(architecture="RobertaForMaskedLM", seed=51, config=ROBERTA),
    "roberta_classes": dict(architecture="RobertaForSequenceClassification", seed=52, config=ROBERTA | NAMED),
    "roberta_tokens": dict(architecture="RobertaForTokenClassification", seed=53, config=ROBERTA | dict(num_labels=5)),
    "roberta_answers": dict(architecture="RobertaForQuestionAnswering", seed=54, config=ROBERTA),
    "roberta_choices": dict(architecture="RobertaForMultipleChoice", seed=55, config=ROBERTA),
    "albert_pretraining": dict(architecture="AlbertForPreTraining", seed=61, config=ALBERT),
    "albert_masked_lm": dict(architecture="AlbertForMaskedLM", seed=62, config=ALBERT | dict(num_hidden_groups=1, hidden_act="gelu")),
    "albert_classes": dict(architecture="AlbertForSequenceClassification", seed=63, config=ALBERT | NAMED),
    "albert_tokens": dict(architecture="AlbertForTokenClassification", seed=64, config=ALBERT | dict(num_labels=5)),
    "albert_answers": dict(architecture="AlbertForQuestionAnswering", seed=65, config=ALBERT | dict(num_hidden_groups=4)),
    "albert_choices": dict(architecture="AlbertForMultipleChoice", seed=66, config=ALBERT),
    "deberta_masked_lm": dict(architecture="DebertaForMaskedLM", seed=71, config=V1),
    "deberta_classes": dict(architecture="DebertaForSequenceClassification", seed=72, config=V1 | NAMED | dict(pooler_hidden_act="tanh")),
    "deberta_tokens": dict(architecture="DebertaForTokenClassification", seed=73, config=V1 | dict(num_labels=5, pos_att_type=["p2c"])),
    "deberta_answers": dict(
        architecture="DebertaForQuestionAnswering",
        seed=74,
        config=V1 | dict(type_vocab_size=2, position_biased_input=True, embedding_size=8),
    ),
    "deberta_v2_masked_lm": dict(architecture="DebertaV2ForMaskedLM", seed=81, config=V2),
    "deberta_v2_conv": dict(architecture="DebertaV2ForMaskedLM", seed=82, config=V2 | dict(conv_kernel_size=3, conv_act="tanh")),
    "deberta_v2_own_keys": dict(
        architecture="DebertaV2ForMaskedLM",
        seed=83,
        config=V2
        | dict(share_att_key=False, norm_rel_ebd="none", position_buckets=-1, max_relative_positions=-1)
        | dict(position_biased_input=True, type_vocab_size=2, embedding_size=8),
    ),
    "deberta_v2_classes": dict(architecture="DebertaV2ForSequenceClassification", seed=84, config=V2 | NAMED),
    "deberta_v2_tokens": dict(
        architecture="DebertaV2ForTokenClassification", seed=85, config=V2 | dict(share_att_key=False, pos_att_type=["c2p"], num_labels=5)
    ),
    "deberta_v2_answers": dict(architecture="DebertaV2ForQuestionAnswering", seed=86, config=V2),
    "deberta_v2_choices": dict(architecture="DebertaV2ForMultipleChoice", seed=87, config=V2),
    "modernbert_masked_lm": dict(architecture="ModernBertForMaskedLM", seed=91, config=MODERN),
    "modernbert_classes": dict(architecture="ModernBertForSequenceClassification", seed=92, config=MODERN | NAMED),
    "modernbert_regression": dict(
        architecture="ModernBertForSequenceClassification", seed=93, config=MODERN | dict(num_labels=1, classifier_pooling="mean")
    ),
    "modernbert_tokens": dict(architecture="ModernBertForTokenClassification", seed=94, config=MODERN | dict(num_labels=5)),
    "modernbert_answers": dict(architecture="ModernBertForQuestionAnswering", seed=95, config=MODERN | dict(classifier_dropout=0.25)),
    "modernbert_choices": dict(architecture="ModernBertForMultipleChoice", seed=96, config=MODERN | dict(num_hidden_layers=3)),
}
WITH_GRADIENT = {
    "electra_pretraining", "roberta_masked_lm", "albert_pretraining", "deberta_masked_lm", "deberta_v2_masked_lm", "deberta_v2_conv",
    "deberta_v2_classes", "modernbert_masked_lm",
}  # fmt: skip


def make_model(architecture, seed, config):
    # Eager attention is the definition itself; the fused kernels differ between machines.
    kind = getattr(transformers, architecture)
    model = kind._from_config(kind.config_class(**config), attn_implementation="eager").eval()
    rng = np.random.RandomState(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            parameter.copy_(torch.from_numpy(draw(rng, name, parameter.shape)))
    return model


def draw(rng, name, shape):
    if name.lower().endswith(("norm.weight",)):
        return 1 + uniform(rng, 0.3, shape)
    return uniform(rng, 0.25, shape)


def make_inputs(rng, config, length, real_lengths):
    """[CLS] words [SEP] words [SEP] padding; where there are types, those of the second half are 1."""
    pad = config.pad_token_id
    cls, sep = (0, 2) if pad == 1 else (1, 2)
    ids = np.full((len(real_lengths), length), pad, np.int32)
    mask, types = np.zeros_like(ids), np.zeros_like(ids)
    for row, real in enumerate(real_lengths):
        middle = real // 2
        ids[row, :real] = rng.randint(5, config.vocab_size, real)
        ids[row, [middle, real - 1]] = sep
        ids[row, 0] = cls
        mask[row, :real] = 1
        types[row, middle + 1 : real] = 1
    typed = {"token_type_ids": types} if getattr(config, "type_vocab_size", 0) > 1 else {}
    return dict(input_ids=ids, attention_mask=mask) | typed


def make_targets(architecture, rng, inputs, config):
    """What the model's own loss wants."""
    shape = inputs["input_ids"].shape
    real = inputs["attention_mask"] == 1
    if architecture.endswith("SequenceClassification"):
        return dict(labels=rng.randint(0, config.num_labels, len(real)).astype(np.int32))
    if architecture == "ElectraForPreTraining":
        return dict(labels=((rng.random_sample(shape) < 0.3) & real).astype(np.int32))
    asked = (rng.random_sample(shape) < 0.3) & real
    labels = np.where(asked, rng.randint(5, config.vocab_size, shape), -100).astype(np.int32)
    pairs = dict(sentence_order_label=np.arange(len(real), dtype=np.int32) % 2) if architecture == "AlbertForPreTraining" else {}
    return dict(labels=labels) | pairs


def make_case(model, rng, case, architecture, gradient):
    length, real_lengths = SHAPES[case]
    rows_of = CHOICES if architecture.endswith("MultipleChoice") else 1
    inputs = make_inputs(rng, model.config, length, [n for n in real_lengths for _ in range(rows_of)])
    if rows_of > 1:
        inputs = {key: value.reshape(-1, rows_of, length) for key, value in inputs.items()}
    targets = make_targets(architecture, rng, inputs, model.config) if gradient and case == CASE_WITH_GRADIENT else {}
    out = model(**all_to_torch(inputs), **all_to_torch(targets), output_hidden_states=True)
    outputs = dict(last_hidden_state=out.hidden_states[-1])
    if "start_logits" in out:
        outputs["logits"] = torch.stack([out.start_logits, out.end_logits], -1)
    elif "prediction_logits" in out:
        outputs |= dict(logits=out.prediction_logits, sop_logits=out.sop_logits)
    else:
        outputs["logits"] = out.logits
    if targets:
        parameters = dict(model.named_parameters())
        gradients = torch.autograd.grad(out.loss, list(parameters.values()), materialize_grads=True)
        outputs |= {"loss": out.loss} | {f"grad/{name}": found for name, found in zip(parameters, gradients, strict=True)}
    found = {key: value.detach().numpy() for key, value in outputs.items()}
    return {f"{case}/{key}": value for key, value in (inputs | targets | found).items()}


def main(out):
    for name, recipe in MODELS.items():
        model = make_model(**recipe)
        model.save_pretrained(out / name)
        rng = np.random.RandomState(1000 + recipe["seed"])
        arrays = {}
        for case in SHAPES:
            arrays |= make_case(model, rng, case, recipe["architecture"], name in WITH_GRADIENT)
        np.savez_compressed(out / name / "cases.npz", **arrays)
