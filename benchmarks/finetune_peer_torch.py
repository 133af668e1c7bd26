"""The peer of finetune_peer.py and finetune_check.py: transformers on torch fine-tunes one task with one seed. Knows nothing of JAX.

Takes one JSON argument; reads rows from an npz and writes the logits of the validation rows, and seconds, to another. With `steps_of` it
takes the rows in their order, from a given head and without dropout, and writes the loss and the gradient's norm of every step.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator

import numpy as np
import torch
import transformers

torch.set_num_threads(len(os.sched_getaffinity(0)))
transformers.logging.set_verbosity_error()
FIELDS = ("input_ids", "token_type_ids", "segment_ids", "label", "spans")


class Spans(torch.nn.Module):
    """Pooled [CLS] beside the mean hidden state of two spans, dropout, a dense layer."""

    def __init__(self, model: str, outputs: int):
        super().__init__()
        self.bert = transformers.AutoModel.from_pretrained(model)
        config = self.bert.config
        self.dropout = torch.nn.Dropout(config.hidden_dropout_prob)
        self.classifier = torch.nn.Linear(3 * config.hidden_size, outputs)
        torch.nn.init.normal_(self.classifier.weight, std=config.initializer_range)
        torch.nn.init.zeros_(self.classifier.bias)

    def forward(self, spans, labels=None, **inputs):
        found = self.bert(**inputs)
        place = torch.arange(found.last_hidden_state.shape[1])
        inside = ((place >= spans[..., :1]) & (place < spans[..., 1:])).float()
        means = inside @ found.last_hidden_state / inside.sum(-1, keepdim=True).clamp(min=1)
        logits = self.classifier(self.dropout(torch.cat([found.pooler_output, means[:, 0], means[:, 1]], -1)))
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return transformers.modeling_outputs.SequenceClassifierOutput(loss=loss, logits=logits)


def build(model: str, head: str, outputs: int) -> torch.nn.Module:
    if head == "SpanClassification":
        return Spans(model, outputs)
    if head == "MultipleChoice":
        return transformers.AutoModelForMultipleChoice.from_pretrained(model)
    problem = "regression" if head == "Regression" else "single_label_classification"
    return transformers.AutoModelForSequenceClassification.from_pretrained(model, num_labels=outputs, problem_type=problem)


def batch_of(rows: dict[str, torch.Tensor], places: torch.Tensor, labelled: bool) -> dict[str, torch.Tensor]:
    """Some rows, padded to the longest of them."""
    mask = (rows["segment_ids"][places] > 0).long()
    longest = int(mask.sum(-1).max())
    inputs = {name: rows[name][places][..., :longest].long() for name in ("input_ids", "token_type_ids")}
    found = inputs | {"attention_mask": mask[..., :longest]}
    if "spans" in rows:
        found["spans"] = rows["spans"][places]
    if labelled:
        label = rows["label"][places]
        found["labels"] = label if label.is_floating_point() else label.long()
    return found


def optimizer_of(model: torch.nn.Module, learning_rate: float, eps: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW without decay on biases and norms."""
    plain = [p for name, p in model.named_parameters() if name.endswith("bias") or "LayerNorm" in name]
    decayed = [p for name, p in model.named_parameters() if not (name.endswith("bias") or "LayerNorm" in name)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, eps=eps, fused=True)


def shuffled(rows: dict[str, torch.Tensor], seed: int, steps: int, batch_size: int) -> Iterator[torch.Tensor]:
    """Places of the rows of each batch. Every batch is full, as ours: an epoch goes on in the next."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.zeros(0, dtype=torch.long)
    for _ in range(steps):
        while len(order) < batch_size:
            order = torch.cat([order, torch.randperm(len(rows["label"]), generator=generator)])
        places, order = order[:batch_size], order[batch_size:]
        yield places


def train(model, rows, batches: Iterable[torch.Tensor], steps, learning_rate, warmup, weight_decay, eps, clip_norm) -> list[list[float]]:
    """The loss and the gradient's norm of every step."""
    optimizer = optimizer_of(model, learning_rate, eps, weight_decay)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, warmup, steps)
    told = []
    for places in batches:
        loss = model(**batch_of(rows, places, labelled=True)).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        told.append([loss.item(), norm.item()])
        if len(told) % 50 == 0:
            mean = sum(loss for loss, _ in told[-50:]) / 50
            print(f"peer step {len(told)}/{steps} | loss {mean:.3f}", file=sys.stderr, flush=True)
    return told


@torch.no_grad()
def predict(model, rows, eval_batch: int) -> np.ndarray:
    model.eval()
    places = torch.arange(len(rows["label"])).split(eval_batch)
    return torch.cat([model(**batch_of(rows, some, labelled=False)).logits for some in places]).numpy()


def read(path: str, split: str) -> dict[str, torch.Tensor]:
    with np.load(path) as found:
        return {name: torch.from_numpy(found[f"{split}/{name}"]) for name in FIELDS if f"{split}/{name}" in found}


def steps_of(model, rows, answer, head, outputs, batch_size, **how) -> None:
    """From the head that stands beside the rows. In evaluation a model has no dropout."""
    built, given = build(model, head, outputs).eval(), read(rows, "train")
    with np.load(rows) as found, torch.no_grad():
        built.classifier.weight.copy_(torch.from_numpy(found["kernel"].T.copy()))
        built.classifier.bias.copy_(torch.from_numpy(found["bias"]))
    np.savez(answer, steps=train(built, given, torch.arange(len(given["label"])).split(batch_size), **how))


def main(model, rows, answer, head, outputs, seed, batch_size, eval_batch, **how) -> None:
    started = time.perf_counter()
    torch.manual_seed(seed)
    train_rows, validation = read(rows, "train"), read(rows, "validation")
    built = build(model, head, outputs).train()
    train(built, train_rows, shuffled(train_rows, seed, how["steps"], batch_size), **how)
    logits = predict(built, validation, eval_batch)
    np.savez(answer, logits=logits, seconds=time.perf_counter() - started)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    (steps_of if asked.pop("steps_of", False) else main)(**asked)
