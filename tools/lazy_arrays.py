"""The arrays of a checkpoint one slice at a time, by tensorstore, without Orbax's handlers, which know only whole arrays.

`Saved` reads what Orbax wrote; `Writing` makes what Orbax restores: plain zarr arrays beside Orbax's own description of the tree, which is
written first, over scalars.
"""

import collections
import json
import math
import pathlib
import shutil
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore as ts

from rootstock.engine import checkpoints, checksums
from rootstock.engine.errors import Unwritten, UserError
from rootstock.engine.state import TrainState

_METADATA = "_METADATA"
_ORBAX = ("d", "manifest.ocdbt", "ocdbt.process_0", "array_metadatas", "_sharding")  # what Orbax keeps of the scalars
BLOCK = 64 * 2**20  # bytes of an array that are held at a time where it has no layers to go by
PENDING = 4  # slices that wait for the disk


class Saved:
    """One checkpoint: arrays by item (`params`, `training`) and name, the parts of a path joined by dots."""

    def __init__(self, model_dir: str, step: int):
        self.folder = checkpoints.folder(model_dir) / str(step)
        self._arrays: dict[tuple[str, str], ts.TensorStore] = {}

    def names(self, item: str) -> list[str]:
        described = json.loads((self.folder / item / _METADATA).read_text())["tree_metadata"].values()
        real = [entry for entry in described if not entry["value_metadata"].get("skip_deserialize")]
        return [".".join(str(part["key"]) for part in entry["key_metadata"]) for entry in real]

    def array(self, item: str, name: str) -> ts.TensorStore:
        if (item, name) not in self._arrays:
            folder = self.folder / item
            base = f"file://{folder}/"
            ocdbt = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
            plain = {"driver": "file", "path": f"{folder}/{name}/"}
            spec = {"driver": "zarr", "kvstore": ocdbt if (folder / "manifest.ocdbt").exists() else plain}
            try:
                self._arrays[item, name] = ts.open(spec, open=True, read=True).result()
            except (ValueError, OSError) as error:
                raise UserError(f"the checkpoint {folder} holds no readable array {name}: {str(error).splitlines()[0]}") from error
        return self._arrays[item, name]

    def read(self, item: str, name: str, index: tuple = ()) -> np.ndarray:
        return np.asarray(self.array(item, name)[index].read().result() if index else self.array(item, name).read().result())

    def position(self) -> dict:
        return json.loads((self.folder / "position" / "metadata").read_text())


class Writing:
    """A checkpoint under way in the MODEL_DIR `folder`. Every slice of an array must be written: Orbax takes none that is missing."""

    def __init__(self, folder: pathlib.Path, step: int, planned: TrainState, position: dict):
        """`planned` has shapes in place of arrays."""
        saving = checkpoints.Checkpoints(folder, keep=1)
        try:
            saving.save(step, jax.tree.map(lambda x: jnp.zeros((), x.dtype), planned), position)
        finally:
            saving.close()
        self.folder = checkpoints.folder(folder) / str(step)
        (self.folder / checksums.SEAL).unlink(missing_ok=True)
        self._pending: collections.deque[ts.Future] = collections.deque()
        self.bytes = 0
        training = {"opt_state": planned.opt_state, "carried": planned.carried, "step": planned.step, "elapsed": planned.elapsed}
        self._describe("params", {name: x.shape for name, x in planned.all_params.items()})
        self._describe("training", {path_name(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(training)})

    def _describe(self, item: str, shapes: dict[str, tuple[int, ...]]) -> None:
        """Orbax's description with the true shapes; its arrays, the scalars, go."""
        folder = self.folder / item
        described = json.loads((folder / _METADATA).read_text())
        for entry in described["tree_metadata"].values():
            name = ".".join(str(part["key"]) for part in entry["key_metadata"])
            if name in shapes:
                entry["value_metadata"]["write_shape"] = list(shapes[name])
        (folder / _METADATA).write_text(json.dumps(described | {"use_ocdbt": False}))
        for left in _ORBAX:
            path = folder / left
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def create(self, item: str, name: str, shape: tuple[int, ...], dtype: str, leading: int) -> ts.TensorStore:
        """A new array; `leading` axes are cut into single rows."""
        rest = shape[leading:]
        rows = max(1, min(rest[0], BLOCK // max(1, math.prod(rest[1:]) * jnp.dtype(dtype).itemsize))) if rest else 1
        chunks = [1] * leading + ([rows, *rest[1:]] if rest else [])
        metadata = {"chunks": chunks, "compressor": None}
        spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{self.folder}/{item}/{name}/"}, "metadata": metadata}
        return ts.open(spec, create=True, dtype=ts.dtype(str(dtype)), shape=shape).result()

    def write(self, array: ts.TensorStore, index: tuple, value: np.ndarray) -> None:
        """Returns when few enough slices wait for the disk."""
        target = array[index] if index else array
        self._pending.append(target.write(value, can_reference_source_data_indefinitely=True).commit)
        self.bytes += value.nbytes
        self._settle(PENDING)

    def finish(self) -> None:
        self._settle(0)
        checksums.seal(self.folder)

    def _settle(self, most: int) -> None:
        while len(self._pending) > most:
            try:
                self._pending.popleft().result()
            except (ValueError, OSError) as error:
                raise Unwritten(
                    f"{self.folder.parents[1]} could not be written: {str(error).splitlines()[0]}; nothing of it is left"
                ) from error


def blocks(shape: tuple[int, ...], itemsize: int, single: bool = False) -> Iterator[tuple]:
    """Indices that cover an array in parts of at most BLOCK bytes, or in `single` rows, along its first axis."""
    if not shape:
        yield ()
        return
    rows = 1 if single else max(1, BLOCK // max(1, math.prod(shape[1:]) * itemsize))
    for start in range(0, shape[0], rows):
        yield (slice(start, min(start + rows, shape[0])),)


def path_name(path: tuple) -> str:
    """A path in a tree as Orbax spells it."""
    return ".".join(str(getattr(part, "key", getattr(part, "idx", getattr(part, "name", None)))) for part in path)
