"""The peer of finetune_peer.py: transformers on torch fine-tunes one task with one seed. Knows nothing of JAX.

Takes one JSON argument; reads rows from an npz and writes the logits of the validation rows, and seconds, to another.
"""

import json
import os
import sys
import time

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


def train(model, rows, seed, steps, batch_size, learning_rate, warmup, weight_decay, eps, clip_norm) -> None:
    optimizer = optimizer_of(model, learning_rate, eps, weight_decay)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, warmup, steps)
    generator = torch.Generator().manual_seed(seed)
    order = torch.zeros(0, dtype=torch.long)
    model.train()
    for step in range(steps):
        while len(order) < batch_size:  # every batch is full, as ours: an epoch goes on in the next
            order = torch.cat([order, torch.randperm(len(rows["label"]), generator=generator)])
        places, order = order[:batch_size], order[batch_size:]
        loss = model(**batch_of(rows, places, labelled=True)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 49:
            print(f"peer step {step + 1}/{steps} | loss {loss.item():.3f}", file=sys.stderr, flush=True)


@torch.no_grad()
def predict(model, rows, eval_batch: int) -> np.ndarray:
    model.eval()
    places = torch.arange(len(rows["label"])).split(eval_batch)
    return torch.cat([model(**batch_of(rows, some, labelled=False)).logits for some in places]).numpy()


def main(model, rows, answer, head, outputs, seed, eval_batch, **how) -> None:
    started = time.perf_counter()
    torch.manual_seed(seed)
    with np.load(rows) as found:
        names = {split: [name for name in FIELDS if f"{split}/{name}" in found] for split in ("train", "validation")}
        read = {split: {name: torch.from_numpy(found[f"{split}/{name}"]) for name in fields} for split, fields in names.items()}
    built = build(model, head, outputs)
    train(built, read["train"], seed, **how)
    logits = predict(built, read["validation"], eval_batch)
    np.savez(answer, logits=logits, seconds=time.perf_counter() - started)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
