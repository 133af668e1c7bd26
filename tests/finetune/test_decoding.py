"""Batches of rows of any length, on one device and on eight; the likelihood of choices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.engine import mesh
from rootstock.engine.errors import UserError
from rootstock.engine.partitioning import Partitioner
from rootstock.engine.state import Blueprint
from rootstock.finetune.decoding import Answer, Generator, Scorer
from rootstock.models import bert, decoder, t5
from rootstock.models.decoding.beam import BeamSearch
from rootstock.models.decoding.choices import Sampling
from rootstock.models.decoding.stepwise import Stepwise

CONFIG = t5.Config(vocab_size=32, width=16, layers=2, heads=4, head_dim=4, mlp_width=24, buckets=8, init_scale=3.0, dropout=0.0)
HOW = {"length": 6, "end_id": 1, "pad_id": 0}
CHANCE = np.random.default_rng(0)
INPUTS = [CHANCE.integers(2, 32, length).tolist() for length in (3, 20, 16, 1, 17, 9, 30)]


def blueprint(shape=None, build=lambda key: t5.T5(CONFIG, key)):
    devices = jax.devices() if shape else jax.devices()[:1]
    return Blueprint.draw(build, Partitioner(mesh.make(shape or mesh.Shape(), devices)))


@pytest.fixture(scope="module")
def one():
    drawn = blueprint()
    return drawn, drawn.init_params(jax.random.key(1))


@pytest.fixture(scope="module")
def eight():
    """The same model on 2 x 2 x 2 devices."""
    drawn = blueprint(mesh.Shape(data=2, fsdp=2, tensor=2))
    return drawn, drawn.init_params(jax.random.key(1))


def close(found, wanted):
    assert [answer.ids for answer in found] == [answer.ids for answer in wanted]
    np.testing.assert_allclose([answer.score for answer in found], [answer.score for answer in wanted], atol=1e-5)


SEARCHES = [Stepwise(), pytest.param(Stepwise(Sampling(0.7, top_p=0.9)), marks=pytest.mark.slow), BeamSearch(3, 0.6)]


@pytest.mark.parametrize("search", SEARCHES, ids=["greedy", "sampling", "beams"])
def test_eight_devices_equal_one_and_batches_do_not_matter(one, eight, search):
    """Sums over a mesh add up in another order: the same tokens, scores to 1e-5."""
    wanted = Generator(one[0], search, **HOW, batch_size=4, seed=3)(one[1], INPUTS)
    assert all(isinstance(answer, Answer) and len(answer.ids) <= 6 and 1 not in answer.ids for answer in wanted)
    assert len({tuple(answer.ids) for answer in wanted}) >= 4
    close(Generator(eight[0], search, **HOW, batch_size=3, seed=3)(eight[1], INPUTS), wanted)
    some = Generator(one[0], search, **HOW, batch_size=4, seed=3)
    close(some(one[1], INPUTS[:3]) + some(one[1], INPUTS[3:], first=3), wanted)


def test_few_programs(one):
    """Seven lengths are two padded ones, and one batch size: two programs; more rows of such lengths compile nothing."""
    generator, rows = Generator(one[0], **HOW, batch_size=2), []
    generator(one[1], INPUTS, heard=rows.append)
    assert generator._run._cache_size() == 2 and sorted(rows) == [1, 2, 2, 2]
    generator(one[1], INPUTS[::-1] + INPUTS)
    assert generator._run._cache_size() == 2


@pytest.mark.slow
def test_scores_of_choices(one, eight):
    """Rows of unlike numbers of choices of unlike lengths, each as if it stood alone; eight devices equal one."""
    choices = [[CHANCE.integers(1, 32, CHANCE.integers(1, 6)).tolist() for _ in range(count)] for count in (3, 4, 4, 3, 4, 1, 4)]
    scorer = Scorer(one[0], pad_id=0, batch_size=8)
    found = scorer(one[1], INPUTS, choices)
    for row, targets in enumerate(choices):
        assert found[row].tokens.tolist() == [len(target) for target in targets]
    ids, targets = INPUTS[3], choices[3]
    model = one[0].merge(one[1])
    for place, target in enumerate(targets):
        before = jnp.asarray([[0, *target[:-1]]], jnp.int32)
        log_p = jax.nn.log_softmax(model(jnp.asarray([ids], jnp.int32), before).logits[0], axis=-1)
        np.testing.assert_allclose(found[3].total[place], log_p[np.arange(len(target)), np.array(target)].sum(), atol=1e-4)
    for ours, theirs in zip(Scorer(eight[0], pad_id=0, batch_size=8)(eight[1], INPUTS[:5], choices[:5]), found, strict=False):
        np.testing.assert_allclose(ours.total, theirs.total, atol=1e-4)
    with pytest.raises(ValueError, match=r"row 1 has the choices \[\[3\], \[\]\]; expected at least one, each of at least one token"):
        scorer(one[1], INPUTS[:2], [[[3]], [[3], []]])


@pytest.mark.slow
def test_a_decoder_generates_and_scores_on_eight_devices():
    config = decoder.Config(vocab_size=32, width=16, layers=2, heads=4, mlp_width=24, init_std=0.5)
    found = []
    for shape in (None, mesh.Shape(data=4, tensor=2)):
        drawn = blueprint(shape, lambda key: decoder.Decoder(config, key))
        params = drawn.init_params(jax.random.key(1))
        scores = Scorer(drawn, pad_id=0, batch_size=4)(params, INPUTS[2:4], [[[4, 5], [6]], [[7], [8, 9, 10]]])
        found.append((Generator(drawn, BeamSearch(2), **HOW, batch_size=4)(params, INPUTS[2:4]), scores))
    close(found[1][0], found[0][0])
    for ours, theirs in zip(found[1][1], found[0][1], strict=True):
        np.testing.assert_allclose(ours.total, theirs.total, atol=1e-4)


def test_mistakes(one):
    encoder = blueprint(build=lambda key: bert.PreTraining(bert.Config(vocab_size=8, width=4, layers=1, heads=1, mlp_width=4), key))
    for make in (lambda: Generator(encoder, **HOW), lambda: Scorer(encoder, pad_id=0)):
        with pytest.raises(UserError, match="a PreTraining generates nothing: expected an encoder-decoder or a decoder"):
            make()
    with pytest.raises(ValueError, match="batch_size is 0; expected 1 or more"):
        Generator(one[0], **HOW, batch_size=0)
    with pytest.raises(ValueError, match="without any token"):
        Generator(one[0], **HOW)(one[1], [[]])
