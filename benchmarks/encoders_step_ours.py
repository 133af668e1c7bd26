"""Our side of encoders_step.py: the compiled step of the training loop, or the encoder's forward pass, over random ids."""

import gc
import resource

import jax
import numpy as np
import ours
import worker

from rootstock.data.arrays import Arrays
from rootstock.data.streams import Ordered
from rootstock.engine import optimizers, train
from rootstock.models import albert, bert, deberta, electra, modernbert, roberta
from rootstock.models.layers import parameters
from rootstock.pretrain.objectives.mlm import MaskedLM
from rootstock.pretrain.objectives.rtd import Masking, ReplacedTokens


def model_of(family: str, length: int, **shape):
    """The class of a family and its configuration, without dropout. Few layers on a CPU: unrolled they are faster than in a scan."""
    still = dict(dropout=0.0, attention_dropout=0.0, scan=False)
    configs = {
        "bert": (bert.MaskedLM, lambda: bert.Config(max_length=512, pooler=False, **still, **shape)),
        "roberta": (roberta.MaskedLM, lambda: roberta.Config(**still, **shape)),
        "electra": (electra.Pair, lambda: electra.PairConfig(electra.Config(embedding_width=128, **still, **shape), 0.25)),
        "albert": (albert.MaskedLM, lambda: albert.Config(pooler=False, **still, **shape)),
        "deberta_v1": (deberta.MaskedLM, lambda: deberta.v1(**still, **shape)),
        "deberta_v3": (deberta.MaskedLM, lambda: deberta.Config(**still, **shape)),
        "modernbert": (modernbert.MaskedLM, lambda: modernbert.Config(**still, **shape)),
    }
    kind, make = configs[family]
    return kind, make()


def make(family: str, what: str, length: int, batch: int, **shape) -> worker.Step:
    kind, config = model_of(family, length, **shape)
    ids = np.random.default_rng(0).integers(5, shape["vocab_size"], (batch, length)).astype(np.int32)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), ids.shape)
    data = {"input_ids": ids, "segment_ids": np.ones_like(ids), "token_type_ids": np.zeros_like(ids), "positions": positions}
    return _training(kind, config, data, shape["vocab_size"]) if what == "train" else _inference(kind, config, data)


def _training(kind, config, data, vocab_size) -> worker.Step:
    class Vocabulary:
        size, mask_id, special_ids = vocab_size, 4, (0, 1, 2, 3, 4)

    size = len(data["input_ids"])
    run = train.Run(
        model_dir="nowhere",  # nothing is written: the loop does not run
        model=lambda key: kind(config, key),
        objective=ReplacedTokens(Masking(Vocabulary())) if kind is electra.Pair else MaskedLM(Vocabulary()),
        data=Ordered(Arrays(data)),
        update=optimizers.adamw(1e-4),
        train_steps=1,
        batch_size=size,
        clip_norm=1.0,
    )
    return ours.stepping(run)


def _inference(kind, config, data) -> worker.Step:
    encoder = kind.encoder_class(getattr(config, "discriminator", config), jax.random.key(0))
    graphdef, params = parameters.split(encoder)
    inputs = {name: data[name] for name in ("token_type_ids", "segment_ids", "positions")}
    forward = jax.jit(lambda params, ids, inputs: parameters.merge(graphdef, params)(ids, **inputs))

    def steps(count: int) -> float:
        for _ in range(count):
            hidden = jax.block_until_ready(forward(params, data["input_ids"], inputs))
        return float(hidden.astype("float32").std())

    return steps


def memory() -> int:
    """Peak resident bytes so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget() -> None:
    """Drops what was built."""
    worker.forget()
    jax.clear_caches()
    gc.collect()


if __name__ == "__main__":
    worker.serve({"device": ours.device, "memory": memory, "forget": forget}, make)
