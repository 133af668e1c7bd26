"""The peer of t5_step.py: T5ForConditionalGeneration of transformers on torch. Knows nothing of JAX."""

import os

import torch
import transformers
import worker

torch.set_num_threads(len(os.sched_getaffinity(0)))
transformers.logging.set_verbosity_error()
OPTIMIZERS = {
    "adafactor": lambda parameters: torch.optim.Adafactor(parameters, lr=1e-3),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-4, eps=1e-6, weight_decay=0.01, fused=True),
}


def model(layers, width, heads, head_dim, mlp_width, vocab_size, dropout=0.0) -> transformers.T5ForConditionalGeneration:
    """T5 1.1, as shipped."""
    config = transformers.T5Config(
        vocab_size=vocab_size,
        d_model=width,
        num_layers=layers,
        num_heads=heads,
        d_kv=head_dim,
        d_ff=mlp_width,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        dropout_rate=dropout,
        decoder_start_token_id=0,
    )
    torch.manual_seed(0)
    made = transformers.T5ForConditionalGeneration(config)
    made.config.tie_word_embeddings = False  # transformers 5 ties whatever it is told, and reads from this only how to scale
    made.lm_head.weight = torch.nn.Parameter(torch.randn(vocab_size, width) * width**-0.5)
    return made


def make(length, target_length, batch, optimizer, **shape) -> worker.Step:
    trained = model(**shape).train()
    update = OPTIMIZERS[optimizer](trained.parameters())
    ids, labels = (torch.randint(5, shape["vocab_size"], (batch, size)) for size in (length, target_length))
    mask = torch.ones_like(ids)

    def steps(count: int) -> float:
        for _ in range(count):
            loss = trained(input_ids=ids, attention_mask=mask, labels=labels).loss
            loss.backward()
            update.step()
            update.zero_grad(set_to_none=True)
        return loss.item()

    return steps


def device() -> str:
    return f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    worker.serve({"device": device}, make)
