"""The peer of bert_step.py: BertForMaskedLM of transformers on torch, with its fused AdamW and gradient clipping. Knows nothing of JAX."""

import os

import torch
import transformers
import worker

torch.set_num_threads(len(os.sched_getaffinity(0)))
transformers.logging.set_verbosity_error()
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MASKED_SHARE, IGNORED = 0.15, -100


def make(layers, width, heads, mlp_width, vocab_size, length, batch, dtype, dropout, gathered, compiled) -> worker.Step:
    """`gathered`: only masked positions go through the head; else the model as shipped, with every position. bfloat16 is autocast."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=mlp_width,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        attn_implementation="sdpa",
    )
    model = transformers.BertForMaskedLM(config).to(DEVICE).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, eps=1e-6, weight_decay=0.01, fused=True)
    inputs, labels, places = _batch(batch, length, vocab_size)

    def loss_of():
        if not gathered:
            return model(**inputs, labels=labels).loss
        hidden = model.bert(**inputs).last_hidden_state
        scores = model.cls(hidden.gather(1, places[:, :, None].expand(-1, -1, width)))
        return torch.nn.functional.cross_entropy(scores.view(-1, vocab_size).float(), labels.gather(1, places).view(-1))

    forward = torch.compile(loss_of) if compiled else loss_of

    def steps(count: int) -> float:
        for _ in range(count):
            with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = forward()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.item()  # waits for the device

    return steps


def _batch(batch, length, vocab_size):
    """Random ids without padding; labels at `places`, as many a row as our objective has, and IGNORED elsewhere."""
    ids = torch.randint(5, vocab_size, (batch, length))
    count = max(1, round(MASKED_SHARE * length))
    places = torch.stack([torch.randperm(length)[:count] for _ in range(batch)])
    labels = torch.full_like(ids, IGNORED).scatter(1, places, ids.gather(1, places))
    inputs = {"input_ids": ids.scatter(1, places, 4), "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    return {name: x.to(DEVICE) for name, x in inputs.items()}, labels.to(DEVICE), places.to(DEVICE)


def device() -> str:
    return f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    worker.serve({"device": device}, make)
