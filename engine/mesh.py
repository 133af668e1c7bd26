"""The device mesh: `replica` (across slices), `data`, `fsdp`, `expert`, `tensor`."""

import dataclasses
import math

import jax
import numpy as np
from jax.experimental import mesh_utils

from rootstock.engine.errors import UserError

AXES = ("replica", "data", "fsdp", "expert", "tensor")


@dataclasses.dataclass(frozen=True)
class Shape:
    """How many devices along each axis. One of them may be -1: all the devices that the others leave."""

    replica: int = 1
    data: int = -1
    fsdp: int = 1
    expert: int = 1
    tensor: int = 1

    def sizes(self, devices: int) -> tuple[int, ...]:
        """The five sizes for that many devices."""
        sizes = [getattr(self, axis) for axis in AXES]
        if any(size == 0 or size < -1 for size in sizes) or sizes.count(-1) > 1:
            raise UserError(f"a mesh axis must be a positive number, and one of them may be -1 (the rest); got {self}")
        known = math.prod(size for size in sizes if size > 0)
        sizes = [devices // known if size == -1 else size for size in sizes]
        if math.prod(sizes) != devices:
            raise UserError(
                f"the mesh {dict(zip(AXES, sizes, strict=True))} wants {math.prod(sizes)} devices, "
                f"but {devices} are present; change the bindings of rootstock.engine.mesh.Shape"
            )
        return tuple(sizes)


def parse(text: str) -> Shape | None:
    """`data=4,tensor=2` from a command line; None where nothing is said."""
    try:
        sizes = {name: int(number) for name, _, number in (part.partition("=") for part in text.split(",") if part)}
        return Shape(**sizes) if sizes else None
    except (TypeError, ValueError) as error:
        raise UserError(f"--mesh={text} is not a mesh; write AXIS=N with commas between, with the axes {', '.join(AXES)}") from error


def make(shape: Shape = Shape(), devices: list | None = None) -> jax.sharding.Mesh:
    """The mesh over `devices` (all by default). On several slices `replica` runs across them, so that only gradients cross the slow
    network.
    """
    devices = jax.devices() if devices is None else devices
    sizes = shape.sizes(len(devices))
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices > 1 and sizes[0] % slices == 0:
        inner = (sizes[0] // slices, *sizes[1:])
        grid = mesh_utils.create_hybrid_device_mesh(inner, (slices, 1, 1, 1, 1), devices)
    elif devices[0].platform == "tpu":
        grid = mesh_utils.create_device_mesh(sizes, devices)
    else:
        grid = np.asarray(devices).reshape(sizes)
    return jax.sharding.Mesh(grid, AXES)
