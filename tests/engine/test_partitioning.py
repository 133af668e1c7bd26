import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import PartitionSpec as P

from rootstock.engine import mesh, state
from rootstock.engine.errors import UserError
from rootstock.engine.partitioning import Partitioner
from rootstock.models.layers.parameters import Spec


@pytest.fixture(scope="module")
def partitioner():
    return Partitioner(mesh.make(mesh.Shape(data=2, fsdp=2, tensor=2)))


@pytest.mark.parametrize(
    "axes, partition",
    [
        (("embed", "heads"), P("fsdp", "tensor")),
        (("mlp", "embed"), P("tensor", "fsdp")),
        (("layers", "embed", "mlp"), P(None, "fsdp", "tensor")),
        (("vocab", None), P("tensor", None)),
        (("norm",), P(None)),
        (("batch", "length"), P(("data", "fsdp"), None)),  # axes of size one are left out
        (("batch", "embed"), P(("data", "fsdp"), None)),  # fsdp is taken already
        (("heads", "mlp"), P("tensor", None)),
    ],
)
def test_rules(partitioner, axes, partition):
    assert partitioner.partition(axes) == partition


def test_batch(partitioner):
    assert partitioner.batch.spec == P(("data", "fsdp")) and partitioner.batch_shards == 4
    assert Partitioner(mesh.make(mesh.Shape())).batch_shards == 8


def test_overrides_replace_rows():
    partitioner = Partitioner(mesh.make(mesh.Shape(data=1, fsdp=4, tensor=2)), {"embed": ["fsdp", "tensor"], "relation": ()})
    assert partitioner.partition(("embed", "mlp")) == P(("fsdp", "tensor"), None)
    assert partitioner.partition(("relation", "mlp")) == P(None, "tensor")


def test_a_name_without_a_rule(partitioner):
    with pytest.raises(UserError, match=r"the logical axis 'emded' .* has no rule; known are .*'embed'"):
        partitioner.partition(("emded", "mlp"))


def test_a_rule_with_an_unknown_mesh_axis(partitioner):
    with pytest.raises(UserError, match=r"name the mesh axes \['pipeline'\], but the mesh has"):
        Partitioner(partitioner.mesh, {"layers": ("pipeline",)})


def test_a_mesh_that_does_not_divide(partitioner):
    with pytest.raises(
        UserError,
        match=r"the mesh axis 'tensor' is 2, which does not divide 30521, the size of the axis 'vocab' of .* e/table \(30521, 8\)",
    ):
        partitioner.parameters({"e/table": Spec((30521, 8), "float32", ("vocab", "embed"))})


def test_optimizer_state_is_laid_out_by_name_and_shape(partitioner):
    specs = {
        "a/kernel": Spec((4, 6), "float32", ("embed", "mlp")),
        "b/0:3:1/kernel": Spec((3, 4, 6), "float32", ("layers", "embed", "mlp")),
    }
    shapes = {
        "count": (),
        "mu": {"a/kernel": (4, 6), "b/0:3:1/kernel": (3, 4, 6)},
        "rows": {"a/kernel": (4,), "b/0:3:1/kernel": (3, 4)},
        "columns": {"a/kernel": (6,), "b/0:3:1/kernel": (3, 6)},
        "placeholder": {"a/kernel": (1,), "unknown": (4, 6)},
    }
    tree = jax.tree.map(lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32), shapes, is_leaf=lambda x: isinstance(x, tuple))
    found = jax.tree.map(lambda sharding: sharding.spec, partitioner.like(tree, partitioner.parameters(specs), specs))
    assert found == {
        "count": P(),
        "mu": {"a/kernel": P("fsdp", "tensor"), "b/0:3:1/kernel": P(None, "fsdp", "tensor")},
        "rows": {"a/kernel": P("fsdp"), "b/0:3:1/kernel": P(None, "fsdp")},
        "columns": {"a/kernel": P("tensor"), "b/0:3:1/kernel": P(None, "tensor")},
        "placeholder": {"a/kernel": P(), "unknown": P()},
    }


@pytest.mark.parametrize(
    "shape, devices, sizes",
    [
        (mesh.Shape(), 8, (1, 8, 1, 1, 1)),
        (mesh.Shape(data=2, fsdp=-1, tensor=2), 8, (1, 2, 2, 1, 2)),
        (mesh.Shape(replica=2, data=2, expert=3), 12, (2, 2, 1, 3, 1)),
    ],
)
def test_mesh_sizes(shape, devices, sizes):
    assert shape.sizes(devices) == sizes


@pytest.mark.parametrize(
    "shape, message",
    [
        (mesh.Shape(data=3), "wants 3 devices, but 8 are present"),
        (mesh.Shape(tensor=3), "wants 6 devices, but 8 are present"),
        (mesh.Shape(fsdp=-1), "one of them may be -1"),
        (mesh.Shape(data=0), "a mesh axis must be a positive number"),
        (mesh.Shape(data=-2), "a mesh axis must be a positive number"),
        (mesh.Shape(fsdp=16), "devices, but 8 are present"),
    ],
)
def test_impossible_meshes(shape, message):
    with pytest.raises(UserError, match=message):
        shape.sizes(8)


def test_the_mesh_has_every_axis():
    made = mesh.make(mesh.Shape(data=2, fsdp=2, tensor=2))
    assert dict(made.shape) == dict(replica=1, data=2, fsdp=2, expert=1, tensor=2)
    assert {device.id for device in made.devices.ravel()} == set(range(8))


def test_trainable_names():
    stacked = "encoder/layers/0:4:1/mlp/input/bias"
    assert state.is_trainable(stacked, "bias$") and not state.is_trainable(stacked, "kernel")
    assert state.is_trainable("encoder/layers/3/mlp/input/bias", r"layers/[23]/")
    with pytest.raises(UserError, match=r"names some layers of encoder/layers/0:4:1/mlp/input/bias and not others"):
        state.is_trainable(stacked, r"layers/[23]/")


def test_frozen_parameters_have_no_moments(linear):
    blueprint = state.Blueprint.draw(linear.blueprint.build, linear.blueprint.partitioner, trainable="^w")
    tx = optax.adam(0.1)
    began = state.init(blueprint, blueprint.init_params(jax.random.key(0)), [(tx, blueprint.trainable)], ())
    assert set(began.params) == {"w"} and set(began.frozen) == {"b"} and set(began.opt_state[0][0].mu) == {"w"}
    with pytest.raises(UserError, match="no parameter's name matches trainable='lora'"):
        state.Blueprint.draw(linear.blueprint.build, linear.blueprint.partitioner, trainable="lora")
