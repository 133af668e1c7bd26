"""The peer of decode.py: `generate` of T5ForConditionalGeneration of transformers on torch. Knows nothing of JAX."""

import t5_step_peer
import torch
import worker


def make(length, target_length, batch, beams, **shape) -> worker.Step:
    model = t5_step_peer.model(**shape).eval()
    ids = torch.randint(5, shape["vocab_size"], (batch, length))
    how = dict(max_new_tokens=target_length, min_new_tokens=target_length, num_beams=beams, do_sample=False)
    how |= dict(eos_token_id=None, pad_token_id=0, decoder_start_token_id=0)

    def steps(count: int) -> float:
        for _ in range(count):
            with torch.inference_mode():
                found = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how)
        assert found.shape == (batch, target_length + 1), found.shape
        return 0.0

    return steps


if __name__ == "__main__":
    worker.serve({"device": t5_step_peer.device}, make)
