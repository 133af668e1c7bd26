"""The peer of encoders_step.py: the classes of transformers on torch, with fused AdamW and gradient clipping. Knows nothing of JAX."""

import gc
import os
import resource

import torch
import transformers
import worker
from torch.nn.functional import binary_cross_entropy_with_logits

torch.set_num_threads(len(os.sched_getaffinity(0)))
transformers.logging.set_verbosity_error()
MASKED_SHARE, IGNORED = 0.15, -100
STILL = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
DEBERTA = dict(
    relative_attention=True, pos_att_type=["c2p", "p2c"], position_biased_input=False, type_vocab_size=0, max_position_embeddings=512
)


def config_of(family, layers, width, heads, mlp_width, vocab_size):
    shape = dict(num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads, intermediate_size=mlp_width, vocab_size=vocab_size)
    if family == "modernbert":
        tokens = dict.fromkeys(("pad_token_id", "cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id"), 0)
        return transformers.ModernBertConfig(attn_implementation="sdpa", **shape, **tokens)
    if family == "deberta_v1":
        return transformers.DebertaConfig(**shape, **STILL, **DEBERTA, max_relative_positions=512)
    if family == "deberta_v3":
        buckets = dict(position_buckets=256, norm_rel_ebd="layer_norm", share_att_key=True)
        return transformers.DebertaV2Config(**shape, **STILL, **DEBERTA, **buckets)
    kinds = {
        "bert": (transformers.BertConfig, {}),
        "roberta": (transformers.RobertaConfig, dict(max_position_embeddings=514, type_vocab_size=1)),
        "electra": (transformers.ElectraConfig, dict(embedding_size=128)),
        "albert": (transformers.AlbertConfig, dict(embedding_size=128)),
    }
    kind, more = kinds[family]
    return kind(attn_implementation="sdpa", **shape, **STILL, **more)


def make(family, what, dtype, length, batch, **shape) -> worker.Step:
    torch.manual_seed(0)
    config = config_of(family, **shape)
    ids = torch.randint(5, shape["vocab_size"], (batch, length))
    if what == "infer":
        return _inference(transformers.AutoModel.from_config(config).eval(), ids, dtype)
    if family == "electra":
        narrow = dict(width=shape["width"] // 4, heads=shape["heads"] // 4, mlp_width=shape["width"])
        model = Pair(config_of(family, **shape | narrow), config)
        parameters, loss_of = list(model.parameters()), lambda inputs, labels: model(inputs, ids, labels)
    else:
        model = transformers.AutoModelForMaskedLM.from_config(config).train()
        parameters, loss_of = list(model.parameters()), lambda inputs, labels: model(**inputs, labels=labels).loss
    return _training(parameters, loss_of, ids, dtype)


class Pair(torch.nn.Module):
    """ELECTRA's two models from one table of embeddings, as there is no joint class in transformers."""

    def __init__(self, generator, discriminator):
        super().__init__()
        self.generator = transformers.ElectraForMaskedLM(generator).train()
        self.discriminator = transformers.ElectraForPreTraining(discriminator).train()
        self.generator.electra.embeddings = self.discriminator.electra.embeddings
        self.generator.generator_lm_head.weight = self.discriminator.electra.embeddings.word_embeddings.weight

    def forward(self, inputs, ids, labels):
        made = self.generator(**inputs, labels=labels)
        chosen = labels != IGNORED
        logits = made.logits[chosen].detach().float()
        drawn = (logits - torch.empty_like(logits).exponential_().log()).argmax(-1)  # Gumbel noise
        corrupt = ids.masked_scatter(chosen, drawn)
        found = self.discriminator(corrupt, attention_mask=inputs["attention_mask"]).logits
        return made.loss + 50 * binary_cross_entropy_with_logits(found.float(), (corrupt != ids).float())


def _training(parameters, loss_of, ids, dtype) -> worker.Step:
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, eps=1e-6, weight_decay=0.01, fused=True)
    count = max(1, round(MASKED_SHARE * ids.shape[1]))
    places = torch.stack([torch.randperm(ids.shape[1])[:count] for _ in ids])
    labels = torch.full_like(ids, IGNORED).scatter(1, places, ids.gather(1, places))
    inputs = {"input_ids": ids.scatter(1, places, 4), "attention_mask": torch.ones_like(ids)}

    def steps(count: int) -> float:
        for _ in range(count):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = loss_of(inputs, labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return steps


def _inference(model, ids, dtype) -> worker.Step:
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def steps(count: int) -> float:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
            for _ in range(count):
                hidden = model(**inputs).last_hidden_state
        return hidden.float().std().item()

    return steps


def memory() -> int:
    """Peak resident bytes so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget() -> None:
    """Drops what was built."""
    worker.forget()
    gc.collect()


def device() -> str:
    return f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    worker.serve({"device": device, "memory": memory, "forget": forget}, make)
