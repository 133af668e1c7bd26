"""What is kept of a pair answers as the pair did, its tables summed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.engine import load
from rootstock.finetune.finetuned import encoder_of
from rootstock.models import deberta, deberta_pair, electra
from rootstock.tools import converted, keep_discriminator

SMALL = dict(vocab_size=23, width=8, layers=2, heads=2, mlp_width=8, max_length=12)
PAIRS = {
    "deberta": (deberta_pair.Pair, deberta_pair.PairConfig(deberta.Config(**SMALL, buckets=4, max_distance=12, position_biased=True), 1)),
    "electra": (electra.Pair, electra.PairConfig(electra.Config(**SMALL, embedding_width=4), 0.5)),
}
IDS = jnp.asarray([[2, 9, 11, 7, 3]], jnp.int32)


@pytest.mark.parametrize("name", PAIRS)
def test_answers_as_the_pair(name, tmp_path):
    family, config = PAIRS[name]
    blueprint = converted.drawn(family, config)
    params = blueprint.init_params(jax.random.key(0))
    params |= {key: jax.random.normal(jax.random.key(1), x.shape) for key, x in params.items() if "/delta/" in key}
    converted.write_model_dir(tmp_path / "pair", blueprint, jax.device_get(params), None)
    assert encoder_of(str(tmp_path / "pair"), dropout=0.0).config.width == 8  # its discriminator's
    assert keep_discriminator.main([f"--from={tmp_path / 'pair'}", f"--to={tmp_path / 'kept'}"]) == 0
    kept, values = load.load(tmp_path / "kept")
    assert not [key for key in values if key.startswith("generator/") or "/base/" in key]
    assert type(kept.model).__name__ == "Discriminator"
    logits = [jax.jit(lambda p, b=b: b.merge(p)(IDS).logits)(p) for b, p in ((blueprint, params), (kept, values))]
    np.testing.assert_allclose(*logits, rtol=0, atol=1e-6)


def test_another_model(tmp_path, capfd):
    blueprint = converted.drawn(electra.Discriminator, PAIRS["electra"][1].discriminator)
    converted.write_model_dir(tmp_path / "one", blueprint, jax.device_get(blueprint.init_params(jax.random.key(0))), None)
    assert keep_discriminator.main([f"--from={tmp_path / 'one'}", f"--to={tmp_path / 'kept'}"]) == 2
    assert "only of electra.Pair or deberta_pair.Pair" in capfd.readouterr().err
    assert not (tmp_path / "kept").exists()
    assert keep_discriminator.summed({"a/base/table": np.ones(2), "a/delta/table": np.full(2, 0.5)})["a/table"].tolist() == [1.5, 1.5]
