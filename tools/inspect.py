"""What is in a checkpoint: step, configuration, every parameter with canonical name, shape, logical axes and size.

    python -m rootstock.tools.inspect --checkpoint=MODEL_DIR [--hash]

`--hash` prints one SHA-256 over all parameters by canonical name: the same for the same values, however they are sharded or stacked.
"""

import argparse
import hashlib
import json
import math
import sys

import jax
import numpy as np

from rootstock.engine import checkpoints, mesh
from rootstock.engine.launch import guarded
from rootstock.engine.load import draw
from rootstock.engine.model_dir import parameter_table, read_config
from rootstock.engine.partitioning import Partitioner
from rootstock.models.layers import stack
from rootstock.models.layers.parameters import Params


def parameter_hash(params: Params) -> str:
    """SHA-256 over name, dtype, shape and little-endian bytes of every parameter, in the order of the canonical names."""
    digest = hashlib.sha256()
    where = {canonical: (name, index) for name in params for canonical, index in stack.address(name)}
    for canonical in sorted(where):
        name, index = where[canonical]
        value = np.asarray(params[name] if index is None else params[name][index])
        digest.update(f"{canonical} {value.dtype} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def summary(directory: str, step: int | None = None) -> str:
    """The description as text; reads no array."""
    config = read_config(directory)
    step = checkpoints.newest(directory) if step is None else step
    shapes = checkpoints.shapes(directory, step)
    blueprint = draw(directory, Partitioner(mesh.make(mesh.Shape(), jax.devices()[:1])))
    described = json.dumps(json.loads(config.to_json()), indent=2)
    count = sum(math.prod(shape) for shape in shapes.values())
    return f"{directory}: step {step:,}, {count:,} parameters, {config.family[1:]}\n\n{described}\n\n{parameter_table(blueprint)}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rootstock.tools.inspect", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, metavar="MODEL_DIR")
    parser.add_argument("--step", type=int, help="which checkpoint (default: the newest)")
    parser.add_argument("--hash", action="store_true", help="print only the SHA-256 of the parameters")
    flags = parser.parse_args(argv)
    return guarded(
        lambda: print(
            parameter_hash(checkpoints.read_params(flags.checkpoint, step=flags.step))
            if flags.hash
            else summary(flags.checkpoint, flags.step)
        )
    )


if __name__ == "__main__":
    sys.exit(main())
