"""Token by token what transformers generates, and the cache against the model without one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.models import t5
from rootstock.models.decoding.beam import BeamSearch
from rootstock.models.decoding.likelihood import likelihood
from rootstock.models.decoding.stepwise import Stepwise
from rootstock.models.layers import parameters

T = 24
END = 1


def lengths(ids):
    ended = ids == END
    return np.where(ended.any(1), ended.argmax(1) + 1, T)


def test_the_stored_case_says_something(cases):
    """Rows end at many places, some never; beams find other rows than greedy decoding, and each penalty others still."""
    names = ["greedy", "beam4_0.6", "beam4_1.0", "beam4_2.0"]
    found = {name: cases[f"{name}/ids"] for name in names}
    assert all(ids.shape == (50, T) for ids in found.values())
    assert len(set(lengths(found["greedy"]))) > 12 and (found["greedy"] == END).any(1).sum() > 30
    for place, name in enumerate(names):
        for other in names[place + 1 :]:
            assert (found[name] != found[other]).any(1).sum() > 20, (name, other)


def test_greedy_is_that_of_transformers(t5_model, cases, run):
    found = run(t5_model, Stepwise(), cases["input_ids"], cases["attention_mask"], length=T)
    np.testing.assert_array_equal(found.ids, cases["greedy/ids"])


@pytest.mark.parametrize("penalty", [0.6, 1.0, 2.0])
def test_beam_search_is_that_of_transformers(t5_model, cases, run, penalty):
    found = run(t5_model, BeamSearch(4, penalty), cases["input_ids"], cases["attention_mask"], length=T)
    np.testing.assert_array_equal(found.ids, cases[f"beam4_{penalty}/ids"])
    np.testing.assert_allclose(found.scores, cases[f"beam4_{penalty}/scores"], rtol=1e-5)  # sums of 24 numbers in float32


def teacher_forced(model, ids, mask, targets):
    """log p of every target, by the call without a cache."""
    graphdef, params = parameters.split(model)

    def logits(params, ids, mask, before):
        return parameters.merge(graphdef, params)(ids, before, segment_ids=mask).logits

    ids, mask, targets = (jnp.asarray(x, jnp.int32) for x in (ids, mask, targets))
    found = jax.nn.log_softmax(jax.jit(logits)(params, ids, mask, t5.shift_right(targets, 0)), axis=-1)
    return np.asarray(jnp.take_along_axis(found, targets[..., None], axis=-1)[..., 0])


def test_cached_decoding_is_teacher_forced_decoding(t5_model, cases, run):
    """Scores of what was generated step by step are the likelihoods of the same tokens read at once."""
    ids, mask = cases["input_ids"], cases["attention_mask"]
    for search, length_penalty in ((Stepwise(), 0.0), (BeamSearch(4, 0.6), 0.6)):
        found = run(t5_model, search, ids, mask, length=T)
        real = np.arange(T) < lengths(found.ids)[:, None]
        sums = np.where(real, teacher_forced(t5_model, ids, mask, found.ids), 0).sum(1)
        np.testing.assert_allclose(found.scores * lengths(found.ids) ** length_penalty, sums, atol=1e-4)  # sums of up to 24


def test_mixed_lengths_are_one_at_a_time(t5_model, cases, run):
    """The same tokens, scores to 1e-5 of their size (products over batches of other sizes add up in another order)."""
    for search in (Stepwise(), BeamSearch(4, 0.6)):
        whole = run(t5_model, search, cases["input_ids"], cases["attention_mask"], length=T)
        for row in (3, 10):
            real = int(cases["attention_mask"][row].sum())
            alone = run(t5_model, search, cases["input_ids"][row : row + 1, :real], length=T)
            np.testing.assert_array_equal(alone.ids[0], whole.ids[row])
            np.testing.assert_allclose(alone.scores[0], whole.scores[row], rtol=1e-5)


def test_likelihood_is_teacher_forced(t5_model, cases):
    """Of four choices of unlike lengths; the inputs are read once for all."""
    ids, mask = (jnp.asarray(cases[name][:6], jnp.int32) for name in ("input_ids", "attention_mask"))
    rng = np.random.default_rng(0)
    targets = rng.integers(1, 29, (6, 4, 9)).astype(np.int32)
    counts = rng.integers(1, 10, (6, 4))
    real = np.arange(9) < counts[..., None]
    found = jax.jit(likelihood)(t5_model, ids, mask, jnp.asarray(np.where(real, targets, 0)), jnp.asarray(real, jnp.int32))
    for choice in range(4):
        want = teacher_forced(t5_model, ids, mask, targets[:, choice])
        np.testing.assert_allclose(found.total[:, choice], np.where(real[:, choice], want, 0).sum(1), atol=1e-4)
    np.testing.assert_array_equal(found.tokens, counts)
    np.testing.assert_allclose(found.mean, np.asarray(found.total) / counts, rtol=1e-6)


@pytest.mark.slow
def test_a_decoder_goes_on_from_prompts_of_mixed_lengths(decoder_model, run):
    """Padded on the left; each token is the likeliest after all before it, by the call without a cache."""
    prompts = [[5, 6, 7, 8, 9], [12], [3, 4, 5]]
    ids = np.array([[0] * (5 - len(prompt)) + prompt for prompt in prompts], np.int32)
    found = run(decoder_model, Stepwise(), ids, ids > 0, length=7, end=2)
    beams = run(decoder_model, BeamSearch(3, 1.0), ids, ids > 0, length=7, end=2)
    for row, prompt in enumerate(prompts):
        tokens = found.ids[row].tolist()
        tokens = tokens[: tokens.index(2) + 1] if 2 in tokens else tokens
        log_p = jax.nn.log_softmax(decoder_model(jnp.asarray([prompt + tokens], jnp.int32)).logits[0, len(prompt) - 1 : -1], axis=-1)
        np.testing.assert_array_equal(log_p.argmax(-1), tokens)
        np.testing.assert_allclose(found.scores[row], log_p.max(-1).sum(), atol=1e-5)
        alone = run(decoder_model, BeamSearch(3, 1.0), [prompt], length=7, end=2)
        np.testing.assert_array_equal(alone.ids[0], beams.ids[row])
        np.testing.assert_allclose(alone.scores[0], beams.scores[row], atol=1e-5)
