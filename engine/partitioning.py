"""One rule table from logical axis names to mesh axes, for every model, in training and in evaluation.

A dimension takes the mesh axes of its row unless an earlier dimension of the same array has them already. A name without a row is a
mistake.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rootstock.engine.errors import UserError
from rootstock.models.layers.parameters import Spec

BATCH = ("replica", "data", "fsdp", "expert")

RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    # activations
    ("batch", BATCH),
    ("length", ()),
    ("activation", ()),
    # parameters
    ("vocab", ("tensor",)),
    ("heads", ("tensor",)),
    ("mlp", ("tensor",)),
    ("experts", ("expert",)),
    ("embed", ("fsdp",)),
    ("norm", ()),
    ("layers", ()),
)


class Partitioner:
    """The rules on one mesh. `overrides` replaces rows: `{"embed": ("fsdp", "tensor")}`."""

    def __init__(self, mesh: Mesh, overrides: Mapping[str, tuple[str, ...]] | None = None):
        self.mesh = mesh
        self.rules = dict(RULES) | {name: tuple(axes) for name, axes in (overrides or {}).items()}
        unknown = {axis for axes in self.rules.values() for axis in axes} - set(mesh.axis_names)
        if unknown:
            raise UserError(f"the partitioning rules name the mesh axes {sorted(unknown)}, but the mesh has {mesh.axis_names}")

    def partition(self, axes: tuple[str | None, ...]) -> PartitionSpec:
        """The mesh axes of each dimension named by `axes`."""
        taken: set[str] = set()
        dimensions = []
        for name in axes:
            row = () if name is None else self._row(name, axes)
            row = tuple(axis for axis in row if axis not in taken and self.mesh.shape[axis] > 1)
            taken.update(row)
            dimensions.append(row[0] if len(row) == 1 else row or None)
        return PartitionSpec(*dimensions)

    def _row(self, name: str, axes: tuple) -> tuple[str, ...]:
        if name not in self.rules:
            raise UserError(
                f"the logical axis {name!r} (of {axes}) has no rule; "
                f"known are {sorted(self.rules)}. Add a row by binding rootstock.engine.train.Run.rules"
            )
        return self.rules[name]

    def sharding(self, axes: tuple[str | None, ...]) -> NamedSharding:
        return NamedSharding(self.mesh, self.partition(axes))

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch(self) -> NamedSharding:
        """Of every array of a batch: the leading dimension over all data axes."""
        return self.sharding(("batch",))

    @property
    def batch_shards(self) -> int:
        """Into how many parts a global batch is cut."""
        return math.prod(self.mesh.shape[axis] for axis in self.rules["batch"])

    def parameters(self, specs: Mapping[str, Spec]) -> dict[str, NamedSharding]:
        """A sharding for each parameter; a dimension that its mesh axes do not divide is a user's mistake."""
        return {name: self._checked(name, spec) for name, spec in specs.items()}

    def _checked(self, name: str, spec: Spec) -> NamedSharding:
        partition = self.partition(spec.axes)
        for size, axis, mesh_axes in zip(spec.shape, spec.axes, partition, strict=True):
            mesh_axes = (mesh_axes,) if isinstance(mesh_axes, str) else mesh_axes or ()
            parts = math.prod(self.mesh.shape[a] for a in mesh_axes)
            if size % parts:
                raise UserError(
                    f"the mesh axis {' x '.join(map(repr, mesh_axes))} is {parts}, which does not divide {size}, the size of the axis "
                    f"{axis!r} of the parameter {name} {spec.shape}; change the mesh or the model's size"
                )
        return NamedSharding(self.mesh, partition)

    def constraint(self) -> Callable[[Any, tuple], Any]:
        """For `layers.axes.constrained_by`: lays activations out by the same rules."""
        return _unconstrained if self.mesh.size == 1 else Layout(self)

    def like(self, tree: Any, parameters: Mapping[str, NamedSharding], specs: Mapping[str, Spec]) -> Any:
        """Shardings for a tree that holds moments beside other things (an optimizer's state): an array whose path ends in a parameter's
        name and that has its shape is laid out as the parameter, a factored moment by the dimensions that remain, anything else is
        replicated.
        """

        def of(path, leaf):
            name = next((key.key for key in reversed(path) if isinstance(key, jax.tree_util.DictKey) and key.key in specs), None)
            if name is None:
                return self.replicated
            if tuple(leaf.shape) == specs[name].shape:
                return parameters[name]
            axes = _remaining(tuple(leaf.shape), specs[name])
            return self.replicated if axes is None else self._checked(name, Spec(tuple(leaf.shape), str(leaf.dtype), axes))

        return jax.tree_util.tree_map_with_path(of, tree)


class Layout:
    """`layers.axes.Layout` over the mesh of a partitioner."""

    def __init__(self, partitioner: Partitioner):
        self.partitioner = partitioner

    def __call__(self, x: Any, axes: tuple) -> Any:
        return jax.lax.with_sharding_constraint(x, self.partitioner.sharding(axes))

    def mesh_axes(self, name: str) -> tuple[str, ...]:
        row = self.partitioner.partition((name,))[0]
        return (row,) if isinstance(row, str) else row or ()

    def shards(self, name: str) -> int:
        return math.prod(self.partitioner.mesh.shape[axis] for axis in self.mesh_axes(name))

    def by_shard(self, function: Callable, arguments: Sequence, result: Sequence) -> Callable:
        partitioner = self.partitioner
        into, out_of = (jax.tree.map(partitioner.partition, tuple(axes), is_leaf=_is_names) for axes in (arguments, result))
        return jax.shard_map(function, mesh=partitioner.mesh, in_specs=into, out_specs=out_of, check_vma=False)


def _unconstrained(x: Any, axes: tuple) -> Any:
    return x


def _is_names(x: Any) -> bool:
    return isinstance(x, tuple) and all(name is None or isinstance(name, str) for name in x)


def _remaining(shape: tuple[int, ...], spec: Spec) -> tuple[str | None, ...] | None:
    """The axes of a factored moment: the parameter's with one dimension left out (Adafactor's rows and columns)."""
    for out in reversed(range(len(spec.shape))):
        if shape == spec.shape[:out] + spec.shape[out + 1 :]:
            return spec.axes[:out] + spec.axes[out + 1 :]
    return None
