"""What T5's own preprocessors make of given rows and masks: writes t5.npz beside this file.

    pip install --no-deps t5==0.9.4 && pip install babel && python tests/golden/denoising/make.py

Only `t5/data/preprocessors.py` is loaded, which needs seqio and no Mesh TensorFlow. The masks are drawn by T5; what a mask makes of a row
does not depend on chance, nor do the numbers of its tokens and spans.
"""

import importlib.util
import pathlib
import types

import numpy as np
import seqio
import tensorflow as tf

LENGTHS = (2, 5, 20, 141, 190, 512, 568)
KINDS = ((0.15, 3.0), (0.5, 3.0), (0.15, 8.0), (0.5, 64.0))
HELPED = (64, 128, 256, 512, 1024)
SIZE, SENTINELS = 1000, 100


def preprocessors() -> types.ModuleType:
    package = importlib.util.find_spec("t5").submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location("t5_preprocessors", pathlib.Path(package) / "data" / "preprocessors.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    theirs = preprocessors()
    vocabulary = seqio.PassThroughVocabulary(SIZE, eos_id=1)
    chance = np.random.default_rng(0)
    found = {}
    for tokens in LENGTHS:
        for number, (rate, span) in enumerate(KINDS):
            seeds = tf.constant(chance.integers(0, 1000, (2, 2)), tf.int32)
            mask = theirs.random_spans_noise_mask(tf.constant(tokens), rate, seeds, span)
            ids = chance.integers(2, SIZE - SENTINELS, tokens).astype(np.int32)
            if np.diff(np.concatenate([[0], mask.numpy(), [0]])).clip(0).sum() > SENTINELS:
                continue
            case = {
                "ids": ids,
                "mask": mask.numpy(),
                "inputs": theirs.noise_span_to_unique_sentinel(ids, mask, vocabulary, seeds),
                "targets": theirs.nonnoise_span_to_unique_sentinel(ids, mask, vocabulary, seeds),
            }
            found |= {f"{tokens}/{number}/{name}": np.asarray(value) for name, value in case.items()}
    how = dict(extra_tokens_per_span_inputs=1, extra_tokens_per_span_targets=1)
    found["helper"] = np.array([(length, *theirs.random_spans_helper(length, 0.15, 3.0, **how)) for length in HELPED])
    np.savez_compressed(pathlib.Path(__file__).with_name("t5.npz"), **found)


if __name__ == "__main__":
    main()
