import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.data.arrays import Arrays
from rootstock.data.streams import Ordered
from rootstock.engine.evaluate import Evaluation, ObjectiveLoss
from rootstock.engine.state import Blueprint
from rootstock.pretrain.objectives.mlm import MaskedLM

ROWS = 21


class Moments:
    """Number, sum and largest prediction of the linear model over the real rows."""

    def zero(self):
        return {"sums": jnp.zeros(2), "largest": jnp.asarray(-jnp.inf)}

    def add(self, model, batch, statistic):
        y, weight = model(batch["x"]), batch["weight"]
        return {
            "sums": statistic["sums"] + jnp.stack([weight.sum(), (y * weight).sum()]),
            "largest": jnp.maximum(statistic["largest"], jnp.where(weight > 0, y, -jnp.inf).max()),
        }

    def finish(self, statistic):
        return {
            "rows": float(statistic["sums"][0]),
            "mean": float(statistic["sums"][1] / statistic["sums"][0]),
            "largest": float(statistic["largest"]),
        }


@pytest.fixture(scope="module")
def data():
    draws = np.random.default_rng(1)
    return Ordered(Arrays({"x": draws.standard_normal((ROWS, 2)).astype(np.float32), "y": draws.standard_normal(ROWS).astype(np.float32)}))


def evaluation(linear, partitioner, probe, data, batch_size):
    blueprint = Blueprint.draw(linear.blueprint.build, partitioner)
    params = {name: jax.device_put(x, blueprint.shardings[name]) for name, x in linear.blueprint.init_params(jax.random.key(0)).items()}
    return Evaluation(blueprint, probe, data, batch_size)(params)


@pytest.mark.parametrize("where, batch_size", [("one", 21), ("one", 4), ("data8", 8), ("data2_fsdp2_tensor2", 6)])
def test_every_row_counts_once(linear, partitioners, data, where, batch_size):
    """21 rows in batches that do not divide them, on meshes that do not divide the batches."""
    y = data.source.arrays["x"] @ np.array([1.0, -2.0]) + 0.5
    assert evaluation(linear, partitioners[where], Moments(), data, batch_size) == pytest.approx(
        {"rows": ROWS, "mean": y.mean(), "largest": y.max()}, rel=1e-5
    )


def test_view(linear, partitioners, data):
    """What is evaluated is what the model is trained as, at its step."""
    blueprint = Blueprint.draw(linear.blueprint.build, partitioners["one"])
    params = linear.blueprint.init_params(jax.random.key(0))
    view = lambda params, ctx: {name: x * ctx.step.astype(x.dtype) for name, x in params.items()}
    y = data.source.arrays["x"] @ np.array([1.0, -2.0]) + 0.5
    assert Evaluation(blueprint, Moments(), data, 7, view)(params, 3)["mean"] == pytest.approx(3 * y.mean(), rel=1e-5)


@pytest.mark.parametrize("where", ["one", "data8"])
def test_objective_loss(linear, partitioners, data, where):
    x, y = data.source.arrays["x"], data.source.arrays["y"]
    wanted = 0.5 * np.square(x @ np.array([1.0, -2.0]) + 0.5 - y).mean()
    assert evaluation(linear, partitioners[where], ObjectiveLoss(linear.squares()), data, 8) == {"loss": pytest.approx(wanted, rel=1e-5)}


def test_objective_loss_draws_the_same_masks_every_time(toy):
    """Masked LM: two evaluations agree to the bit, another seed draws other masks, and the parts add up."""

    class Held(type(toy.data)):
        def __len__(self):
            return 20

    blueprint = toy.blueprint("one", layers=1, dropout=0.5)
    params = toy.params(blueprint)
    evaluate = Evaluation(blueprint, ObjectiveLoss(MaskedLM(toy.vocabulary, nsp_scale=0.5)), Held(), 10)
    first = evaluate(params)
    assert evaluate(params) == first
    assert first["loss"] == pytest.approx(first["loss/mlm"] + 0.5 * first["loss/nsp"], rel=1e-6)
    other = Evaluation(blueprint, ObjectiveLoss(MaskedLM(toy.vocabulary, nsp_scale=0.5), seed=1), Held(), 10)(params)
    assert other["loss/mlm"] != first["loss/mlm"] and other["loss/nsp"] == pytest.approx(first["loss/nsp"], abs=0.05)
