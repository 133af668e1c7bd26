"""Disentangled attention against its formula, one pair of positions at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.models.layers import disentangled
from rootstock.models.layers.dense import normal
from rootstock.models.layers.disentangled import DisentangledAttention, block_of, log_buckets, rows_of, skew

WIDTH, HEADS = 12, 3


def test_log_buckets():
    """DeBERTa-v2's 256 buckets over 512 positions: values of the released code; odd."""
    distance = np.array([0, 127, 128, 200, 256, 511])
    np.testing.assert_array_equal(log_buckets(distance, 256, 512), [0, 127, 128, 169, 192, 255])
    every = np.arange(-511, 512)
    np.testing.assert_array_equal(log_buckets(-every, 256, 512), -log_buckets(every, 256, 512))


def test_rows_are_clipped():
    """The paper's delta with k = 3: 0 for distances of -3 and less, 2k - 1 for 3 and more."""
    np.testing.assert_array_equal(rows_of(np.arange(-5, 6), 3, 0, 3), [0, 0, 0, 1, 2, 3, 4, 5, 5, 5, 5])


def test_skew():
    """A block of three rows over five columns: column m is m - 2 after the row's own; the last is unused."""
    by_distance = np.arange(-2, 6)[None].repeat(3, axis=0).astype(np.float32)
    np.testing.assert_array_equal(skew(jnp.asarray(by_distance), 5), np.arange(5)[None] - np.arange(3)[:, None])


def test_blocks():
    assert [block_of(length) for length in (9, 128, 512, 384, 200, 127, 130, 509)] == [9, 128, 128, 128, 100, 127, 65, 509]


def plain(layer, x, table, segments, options):
    """float64, with A_ij = (Qc_i Kc_j + Qc_i Kr_d + Kc_j Qr_d) / sqrt(D (1 + terms)) and d the row of i - j in both."""

    def project(dense, values):
        bias = 0 if dense.bias is None else np.asarray(dense.bias[...], np.float64)
        return (values @ np.asarray(dense.kernel[...], np.float64) + bias).reshape(len(values), HEADS, -1)

    q, k, v = (project(dense, x) for dense in (layer.query, layer.key, layer.value))
    k_r, q_r = project(layer.position_key or layer.key, table), project(layer.position_query or layer.query, table)
    terms, span = options.get("terms", ("c2p", "p2c")), options["span"]
    out = np.zeros((len(x), HEADS, WIDTH // HEADS))
    for i in range(len(x)):
        seen = [j for j in range(len(x)) if segments[i] == segments[j]]
        scores = np.zeros((len(seen), HEADS))
        for n, j in enumerate(seen):
            bucket = log_buckets(np.array(i - j), options["buckets"], options["max_distance"]) if options["buckets"] else i - j
            row = np.clip(bucket + span, 0, 2 * span - 1)
            scores[n] = (q[i] * k[j]).sum(-1)
            scores[n] += (q[i] * k_r[row]).sum(-1) if "c2p" in terms else 0
            scores[n] += (k[j] * q_r[row]).sum(-1) if "p2c" in terms else 0
        scores /= np.sqrt(WIDTH // HEADS * (1 + len(terms)))
        weights = np.exp(scores - scores.max(0))
        out[i] = np.einsum("jh,jhd->hd", weights / weights.sum(0), v[seen])
    return project(layer.output, out.reshape(len(x), -1)).reshape(len(x), -1)


@pytest.mark.parametrize(
    "options",
    [
        dict(span=3, buckets=0, max_distance=3, share_key=False, key_bias=False, position_key_bias=False),
        dict(span=16, buckets=0, max_distance=16, share_key=True),
        dict(span=4, buckets=4, max_distance=16, share_key=True),
        dict(span=4, buckets=4, max_distance=16, share_key=False, terms=("c2p",)),
        dict(span=4, buckets=4, max_distance=16, share_key=True, terms=("p2c",)),
    ],
    ids=["v1", "far", "buckets", "c2p", "p2c"],
)
@pytest.mark.parametrize("size", [9, 3])
def test_formula(options, size, monkeypatch):
    """All nine positions at once, and in three blocks."""
    keys = jax.random.split(jax.random.key(0), 3)
    layer = DisentangledAttention(keys[0], WIDTH, HEADS, rate=0.0, position_rate=0.0, init=normal(0.4), dtype="float32", **options)
    for dense in (layer.query, layer.value, layer.output):
        dense.bias[...] = jax.random.normal(keys[1], (WIDTH,))
    x = jax.random.normal(keys[2], (9, WIDTH))
    table = jax.random.normal(keys[1], (2 * options["span"], WIDTH))
    segments = np.array([1, 1, 1, 2, 2, 2, 2, 0, 0], np.int32)
    monkeypatch.setattr(disentangled, "block_of", lambda length: size)
    found = layer(x[None], table=table, segment_ids=jnp.asarray(segments)[None])[0]
    wanted = plain(layer, np.asarray(x, np.float64), np.asarray(table, np.float64), segments, options)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_another_term():
    with pytest.raises(ValueError, match="are c2p and p2c, got p2p"):
        DisentangledAttention(
            jax.random.key(0), 4, 1, rate=0.0, position_rate=0.0, init=normal(1.0), dtype="float32", span=2, terms=("p2p",)
        )
