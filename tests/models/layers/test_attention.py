import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.models.layers.attention import attend, visibility
from rootstock.models.layers.tap import tapped

B, L, H, D = 2, 9, 3, 8


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


Q, K, V = (draw(B, L, H, D, seed=seed) for seed in range(3))
SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 2, 0, 0], [1] * 9], np.int32)


def plain(q, k, v, bias=None, segments=None, window=None, causal=False):
    """One query of one head at a time, in float64."""
    out = np.zeros(q.shape)
    for b, h, i in itertools.product(range(B), range(H), range(L)):
        seen = [
            j
            for j in range(L)
            if (segments is None or segments[b, i] == segments[b, j])
            and (window is None or abs(i - j) <= window)
            and (not causal or j <= i)
        ]
        scores = np.array(
            [q[b, i, h].astype(np.float64) @ k[b, j, h] / np.sqrt(D) + (0 if bias is None else bias[b, h, i, j]) for j in seen]
        )
        weights = np.exp(scores - scores.max())
        out[b, i, h] = weights @ v[b, seen, h] / weights.sum()
    return out


@pytest.mark.parametrize(
    "wanted",
    [
        dict(),
        dict(segments=SEGMENTS),
        dict(window=2),
        dict(causal=True),
        dict(window=0),
        dict(window=3, causal=True),
        dict(bias=draw(B, H, L, L, seed=4)),
        dict(bias=draw(B, H, L, L, seed=4), segments=SEGMENTS, window=2, causal=True),
    ],
    ids=lambda wanted: "+".join(wanted) or "all",
)
def test_attend_is_a_softmax_over_the_visible(wanted):
    given = {
        "segment_ids" if name == "segments" else name: jnp.asarray(x) if isinstance(x, np.ndarray) else x for name, x in wanted.items()
    }
    np.testing.assert_allclose(attend(*map(jnp.asarray, (Q, K, V)), **given), plain(Q, K, V, **wanted), rtol=0, atol=2e-6)


def test_bias_broadcasts_and_scale_replaces_the_root():
    row = draw(1, H, 1, L, seed=5)
    out = attend(*map(jnp.asarray, (Q, K, V)), bias=jnp.asarray(row), scale=1.0)
    np.testing.assert_allclose(out, plain(Q * np.sqrt(np.float32(D)), K, V, np.broadcast_to(row, (B, H, L, L))), rtol=0, atol=5e-6)


def test_no_row_is_empty():
    """Padding sees padding: a row without any token still gives numbers."""
    assert np.isfinite(attend(*map(jnp.asarray, (Q, K, V)), segment_ids=jnp.zeros((B, L), jnp.int32))).all()
    assert visibility(L) is None
    assert visibility(L, segment_ids=jnp.asarray(SEGMENTS), window=1).any(-1).all()


def test_dropout_on_probabilities_keeps_their_mean():
    """5,400 softmaxes over ones: each sums to one, with dropout with a variance of at most 1/3, so their mean with one of 0.008^2."""
    many = [jnp.asarray(np.tile(x, (100, 1, 1, 1))) for x in (Q, K)]
    out = attend(*many, jnp.ones_like(many[0]), rate=0.25, key=jax.random.key(0))
    assert abs(out.mean() - 1) < 0.025 and out.std() > 0.1
    np.testing.assert_allclose(attend(*many, jnp.ones_like(many[0]), rate=0.25), 1.0, rtol=1e-6)


@pytest.fixture
def fused(monkeypatch):
    """Pretends to be on a GPU, and counts what reaches the fused kernel."""
    calls = []

    def kernel(q, k, v, bias, mask, *, scale, implementation):
        calls.append((implementation, scale, None if mask is None else mask.shape))
        return q

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax.nn, "dot_product_attention", kernel)
    return calls


def half(length=4, depth=8, dtype=jnp.bfloat16):
    return [jnp.ones((1, length, 1, depth), dtype)] * 3


def root(depth):
    return pytest.approx(depth**-0.5)


def test_eligible_calls_run_in_cudnn(fused):
    attend(*half(), segment_ids=jnp.ones((1, 4), jnp.int32))
    attend(*half(), rate=0.1)  # no key, no dropout
    attend(*half(depth=128, dtype=jnp.float16), key=jax.random.key(0))
    assert fused == [("cudnn", root(8), (1, 1, 4, 4)), ("cudnn", root(8), None), ("cudnn", root(128), None)]


@pytest.mark.parametrize(
    "inputs, options",
    [
        (half(dtype=jnp.float32), {}),
        (half(length=5), {}),
        (half(depth=12), {}),
        (half(depth=136), {}),
        (half(), dict(rate=0.1, key=jax.random.key(0))),
    ],
    ids=["float32", "odd length", "depth not in eights", "too deep", "dropout"],
)
def test_other_calls_do_not(fused, inputs, options):
    attend(*inputs, **options)
    assert not fused


@pytest.mark.parametrize(
    "wish",
    [dict(want={"scores"}), dict(want={"probabilities"}), dict(add={"scores": jnp.ones((1, 1, 4, 4))})],
    ids=["scores", "probabilities", "added scores"],
)
def test_a_tap_on_scores_selects_xla(fused, wish):
    with tapped(**wish):
        attend(*half())
    assert not fused


def test_on_a_cpu_nothing_is_fused(monkeypatch):
    monkeypatch.setattr(jax.nn, "dot_product_attention", None)
    attend(*half())
