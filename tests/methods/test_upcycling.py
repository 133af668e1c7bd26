"""Sparse upcycling in memory: the model that comes out is the dense one where it must be, and has the published sizes."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.engine import optimizers
from rootstock.methods import expert_steps, upcycling
from rootstock.models import albert, bert, deberta, decoder, electra, t5
from rootstock.models.layers import parameters, stack
from rootstock.models.layers.mlp import MLP, GatedMLP
from rootstock.models.layers.moe import mixture, placement, routers

OPEN = dict(capacity=None, eval_capacity=None, normalise=True)
SMALL = dict(vocab_size=31, width=16, layers=2, heads=2, mlp_width=24)
QUIET = dict(dropout=0.0, attention_dropout=0.0)
ENCODER = dict(SMALL, max_length=12, init_std=0.3, **QUIET)
TOP2 = mixture.Mixture(experts=4, router=routers.TopK(**OPEN))
PAIRED = mixture.Mixture(experts=4, router=routers.ExpertChoice(**OPEN), causal_router=routers.TopK(**OPEN), mlp=GatedMLP)
SHARDS = mixture.Mixture(experts=4, granularity=2, scale=2.0, router=routers.TopK(k=4, **OPEN), mlp=GatedMLP)
FAMILIES = {
    "bert": (bert.MaskedLM, bert.Config(**{**ENCODER, "layers": 4}), TOP2),
    "electra": (electra.Discriminator, electra.Config(embedding_width=8, **ENCODER), dataclasses.replace(TOP2, layers=placement.Last(1))),
    "deberta": (deberta.MaskedLM, deberta.Config(buckets=4, max_distance=8, **ENCODER), TOP2),
    "albert": (
        albert.MaskedLM,
        albert.Config(groups=2, **{**ENCODER, "embedding_width": 8}),
        dataclasses.replace(TOP2, layers=placement.Last(1)),
    ),
    "t5": (t5.T5, t5.Config(head_dim=8, mlp=GatedMLP, dropout=0.0, **SMALL), PAIRED),
    "decoder": (decoder.Decoder, decoder.Config(**SMALL), SHARDS),
}
IDS = np.random.default_rng(0).integers(5, 31, (2, 12)).astype(np.int32)
SEGMENTS = np.array([[1] * 8 + [0] * 4, [1] * 6 + [2] * 6], np.int32)


def inputs(family):
    return (IDS, IDS[:, :6]) if family == "t5" else (IDS,)


def segments(family):
    return {"segment_ids": SEGMENTS} | ({"decoder_segment_ids": SEGMENTS[:, :6]} if family == "t5" else {})


@pytest.fixture(scope="module")
def grafted():
    """For each family logits of the dense and of the upcycled model, and the parameters of both."""
    found = {}
    for family, (model, config, moe) in FAMILIES.items():

        def both(ids, segments, model=model, config=config, moe=moe):
            dense = model(config, jax.random.key(1))
            sparse = upcycling.Upcycle(moe)(dense, jax.random.key(2))
            logits = [one(*ids, **segments).logits for one in (dense, sparse)]
            return *logits, stack.unstack(parameters.split(dense)[1]), stack.unstack(parameters.split(sparse)[1])

        found[family] = jax.device_get(jax.jit(both)(inputs(family), segments(family)))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_parents(grafted, family):
    dense, sparse, *_ = grafted[family]
    np.testing.assert_allclose(sparse, dense, rtol=0, atol=1e-5 * max(1.0, np.abs(dense).max()))
    assert np.abs(dense).std() > 0.05


def same(drawn, elsewhere):
    """Equal but for rounding: the same numbers (deviation 0.02) were drawn in two programs."""
    return drawn.shape == elsewhere.shape and np.allclose(drawn, elsewhere, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_is_where_it_came_from(grafted, family):
    _, _, dense, sparse = grafted[family]
    moe, used = FAMILIES[family][2], set()
    for name, value in sparse.items():
        of = upcycling.origin(name)
        if of.kind == "same":
            assert same(value, dense[name])
        elif of.kind == "experts" and moe.granularity == 1:
            assert same(value[0], dense[of.dense]) and all(one.tobytes() == value[0].tobytes() for one in value)
        elif of.kind == "router":
            assert 0.01 < value.std() < 0.03
        used.add(of.dense or "")
    assert set(dense) == used - {""}
    sparse_layers = {upcycling.origin(name).layer for name in sparse if upcycling.origin(name).kind == "router"}
    assert len(sparse_layers) == {"t5": 2, "bert": 2}.get(family, 1)


def test_parameter_counts_of_the_paper():
    """dense + n_moe ((E - 1) P_mlp + d E), P_mlp = 3 d f for T5 1.1, E = 32."""
    moe = mixture.Mixture(experts=32, mlp=GatedMLP)
    sizes = {  # width, hidden, layers a stack, heads, dense and sparse parameters
        "base": (768, 2048, 12, 12, 247_577_856, 12),
        "large": (1024, 2816, 24, 16, 783_150_080, 24),
        "xl": (2048, 5120, 24, 32, 2_849_757_184, 24),
    }
    for width, hidden, layers, heads, dense, n_moe in sizes.values():
        config = t5.Config(width=width, mlp_width=hidden, layers=layers, heads=heads, mlp=GatedMLP, tied=False)
        count = lambda config: sum(
            math.prod(s.shape) for s in parameters.specs(parameters.abstract(lambda key: t5.T5(config, key))).values()
        )
        assert count(config) == dense
        assert count(dataclasses.replace(config, mlp=moe)) == dense + n_moe * (31 * 3 * width * hidden + width * 32)


def test_averages_give_the_dense_bits_back(grafted):
    for family, (_, _, moe) in FAMILIES.items():
        _, _, dense, sparse = grafted[family]
        for name, value in sparse.items():
            of = upcycling.origin(name)
            if of.kind == "experts":
                axes = ("mlp",) if of.part.endswith("bias") and "output" not in of.part else ("embed",)
                axes = {"input/kernel": ("embed", "mlp"), "gate/kernel": ("embed", "mlp"), "output/kernel": ("mlp", "embed")}.get(
                    of.part, axes
                )
                back = upcycling.average(list(value), axes, moe)
                assert same(back, dense[of.dense]), (family, name)
                assert moe.granularity > 1 or back.tobytes() == value[0].tobytes(), (family, name)


def test_noise_and_redrawn_units():
    """Redrawn units are the same in all matrices of an expert, others in another; noise has the deviation that was asked for."""
    dense = {
        "input/kernel": np.random.default_rng(0).normal(1.0, 2.0, (200, 40)),
        "output/kernel": np.random.default_rng(1).normal(0, 2.0, (40, 200)),
    }
    dense = {part: value.astype(np.float32) for part, value in dense.items()}
    axes = {"input/kernel": ("embed", "mlp"), "output/kernel": ("mlp", "embed")}

    def made(number, **options):
        surgery = upcycling.Surgery(**options)
        return {
            part: np.asarray(upcycling.expert(upcycling.origin(f"layers/1/mlp/experts/{part}"), number, value, axes[part], TOP2, surgery))
            for part, value in dense.items()
        }

    first, second = made(0, redraw=0.25), made(1, redraw=0.25)
    units = [(one["input/kernel"] != dense["input/kernel"]).all(0) for one in (first, second)]
    assert units[0].sum() == units[1].sum() == 10 and (units[0] != units[1]).any()
    np.testing.assert_array_equal(units[0], (first["output/kernel"] != dense["output/kernel"]).all(1))
    kept = ~units[0]
    assert (first["input/kernel"][:, kept] == dense["input/kernel"][:, kept]).all()
    new = first["input/kernel"][:, units[0]]
    assert abs(new.mean() - 1.0) < 0.15 and abs(new.std() - 2.0) < 0.15  # 2000 draws: three standard errors
    noise = made(0, noise=0.1)["input/kernel"] - dense["input/kernel"]
    assert abs(noise.std() / dense["input/kernel"].std() - 0.1) < 0.005 and abs(noise.mean()) < 0.01
    assert (made(0, noise=0.1)["input/kernel"] == made(0, noise=0.1)["input/kernel"]).all()
    assert (made(0, noise=0.1, seed=1)["input/kernel"] != made(0, noise=0.1)["input/kernel"]).any()


def test_refusals():
    sparse = upcycling.sparse_config(bert.Config(), TOP2)
    with pytest.raises(ValueError, match="experts already"):
        upcycling.sparse_config(sparse, TOP2)
    with pytest.raises(ValueError, match=r"GatedMLP.*must be the same"):
        upcycling.sparse_config(t5.Config(mlp=GatedMLP), TOP2)
    with pytest.raises(ValueError, match="has no experts"):
        upcycling.dense_config(bert.Config())
    assert upcycling.dense_config(sparse) == bert.Config()
    with pytest.raises(ValueError, match="redraw is 2"):
        upcycling.Surgery(redraw=2)
    with pytest.raises(ValueError, match=r"layers 0 to 11 share their parameters"):
        parameters.abstract(lambda key: albert.MaskedLM(albert.Config(mlp=TOP2), key))


def test_a_pair_takes_experts_in_both_halves():
    pair = upcycling.sparse_config(electra.PairConfig(), TOP2)
    assert pair.discriminator.mlp is TOP2 and pair.generator.mlp is TOP2
    assert upcycling.mixture_of(pair) is TOP2 and upcycling.dense_config(pair).discriminator.mlp is MLP


def test_optimizers_take_experts_one_by_one():
    """The update of stacked, expert-parallel arrays by LAMB and Adafactor is that of each matrix alone."""
    draws = np.random.default_rng(0)
    alone = {f"m{layer}_{e}/kernel": draws.standard_normal((16, 8)).astype(np.float32) for layer in range(2) for e in range(3)}
    stacked = {"layers/1:5:2/mlp/experts/input/kernel": jnp.asarray(np.stack(list(alone.values())).reshape(2, 3, 16, 8))}
    for update in (optimizers.lamb(1e-2), optimizers.adafactor(1e-2, min_dim_size_to_factor=4)):

        def moved(params, update=update):
            grads = jax.tree.map(jnp.sin, params)
            with jax.numpy_dtype_promotion("standard"):  # as in a step: optax mixes integer counts with floats
                return update.tx.update(grads, update.tx.init(params), params)[0]

        one, whole = jax.jit(moved)(alone), jax.jit(moved)(stacked)
        np.testing.assert_allclose(
            np.stack([one[name] for name in alone]).reshape(2, 3, 16, 8), next(iter(whole.values())), rtol=1e-5, atol=1e-7
        )


def test_steps_of_experts_are_scaled():
    params = {"layers/1/mlp/experts/input/kernel": jnp.ones((2, 3, 3)), "layers/1/mlp/router/kernel": jnp.ones((3, 2))}
    update = expert_steps.scaled(optimizers.adamw(1e-2), 0.25)
    plain = optimizers.adamw(1e-2)
    with jax.numpy_dtype_promotion("standard"):
        moved, whole = (one.tx.update(params, one.tx.init(params), params)[0] for one in (update, plain))
    expert, router = params
    np.testing.assert_allclose(moved[expert], 0.25 * whole[expert], rtol=1e-6)
    np.testing.assert_array_equal(moved[router], whole[router])
    with pytest.raises(ValueError, match=r"factor is 0\.0"):
        expert_steps.scaled(plain, 0.0)
