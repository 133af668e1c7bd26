"""A mixture of experts beside the dense MLP, and the speed of the upcycling tool.

    python benchmarks/moe.py layer [--width=768 --hidden=3072 --rows=16 --length=128 --experts=8 --k=1 --capacity=1.25 --repeats=7]
    python benchmarks/moe.py upcycle [--width=1024 --hidden=4096 --layers=8 --experts=8]

`layer`: forward and backward of both ways of dispatching and of the dense MLP of equal active FLOPs (k times as wide),
in turn, median milliseconds and bytes of temporary memory as compiled. `upcycle`: MB/s of what is written, and the peak of resident
memory above that before, beside one layer's source and target together. Both write one JSON line.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time


def layer(flags):
    import jax
    import jax.numpy as jnp

    from rootstock.models.layers import activations, parameters
    from rootstock.models.layers.dense import normal
    from rootstock.models.layers.mlp import MLP
    from rootstock.models.layers.moe import dispatch, mixture, routers

    how = dict(activation=activations.gelu, init=normal(0.02), dtype="float32")
    router = routers.TopK(k=flags.k, capacity=flags.capacity, eval_capacity=flags.capacity)
    sparse = lambda way: mixture.Mixture(experts=flags.experts, router=router, dispatch=way)
    builds = {
        "dense": (MLP, flags.hidden * flags.k),
        "einsum": (sparse(dispatch.einsum), flags.hidden),
        "ragged": (sparse(dispatch.ragged), flags.hidden),
    }
    x = jax.random.normal(jax.random.key(0), (flags.rows, flags.length, flags.width))
    programs = {}
    for name, (build, hidden) in builds.items():
        graphdef, params = parameters.split(build(jax.random.key(1), flags.width, hidden, **how))
        loss = lambda params, x, graphdef=graphdef: jnp.square(parameters.merge(graphdef, params)(x)).sum()
        compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, x).compile()
        programs[name] = (compiled, params)
    seconds = {name: [] for name in programs}
    for _ in range(flags.repeats + 1):
        for name, (compiled, params) in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(compiled(params, x))
            seconds[name].append(time.perf_counter() - start)
    found = {}
    for name, (compiled, _) in programs.items():
        ms = 1000 * statistics.median(seconds[name][1:])
        found[name] = {"ms": round(ms, 2), "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes}
    return found | {f"{name}_over_dense": round(found[name]["ms"] / found["dense"]["ms"], 3) for name in ("einsum", "ragged")}


RECIPE = """from __gin__ import dynamic_registration
from rootstock.models.layers.moe import mixture
mixture.Mixture.experts = {experts}
"""


def upcycle(flags):
    """The tool in a process of its own, whose resident memory is watched."""
    with tempfile.TemporaryDirectory(dir=flags.folder) as name:
        folder = pathlib.Path(name)
        prepare = [sys.executable, __file__, "prepare", *(f"--{key}={getattr(flags, key)}" for key in ("width", "hidden", "layers"))]
        subprocess.run([*prepare, f"--folder={folder}"], check=True)
        (folder / "recipe.gin").write_text(RECIPE.format(experts=flags.experts))
        result = subprocess.run([sys.executable, __file__, "watched", f"--folder={folder}"], check=True, capture_output=True, text=True)
    found = json.loads(result.stdout.splitlines()[-1])
    matrices = 2 * 4 * flags.width * flags.hidden  # of one MLP, in bytes, without its biases
    one_layer = matrices * (1 + flags.experts)
    return found | {
        "one_layer_source_and_target_mb": round(one_layer / 1e6, 1),
        "peak_over_one_layer": round(found["peak_mb"] * 1e6 / one_layer, 2),
    }


def prepare(flags):
    """A dense checkpoint of random numbers."""
    import jax

    from rootstock.models import bert
    from rootstock.tools.converted import drawn, write_model_dir

    config = bert.Config(vocab_size=1000, width=flags.width, layers=flags.layers, heads=16, mlp_width=flags.hidden, max_length=64)
    blueprint = drawn(bert.MaskedLM, config)
    (flags.folder / "dense").mkdir()
    write_model_dir(flags.folder / "dense", blueprint, jax.device_get(blueprint.init_params(jax.random.key(0))), None)


def watched(flags):
    import threading

    from rootstock.tools import lazy_arrays
    from rootstock.tools import upcycle as tool

    def resident():
        fields = pathlib.Path("/proc/self/status").read_text().split()
        return int(fields[fields.index("VmRSS:") + 1]) * 1024

    peak, over, bytes_written = [0], threading.Event(), []
    finish = lazy_arrays.Writing.finish
    lazy_arrays.Writing.finish = lambda self: (finish(self), bytes_written.append(self.bytes))

    def watch():
        while not over.wait(0.002):
            peak[0] = max(peak[0], resident())

    tool.upcycle(str(flags.folder / "dense"), str(flags.folder / "warm"), [str(flags.folder / "recipe.gin")])  # compiles, imports
    before, watcher = resident(), threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    tool.upcycle(str(flags.folder / "dense"), str(flags.folder / "sparse"), [str(flags.folder / "recipe.gin")])
    seconds = time.perf_counter() - start
    over.set()
    watcher.join()
    megabytes = bytes_written[-1] / 1e6
    return {
        "mb": round(megabytes),
        "seconds": round(seconds, 2),
        "mb_per_s": round(megabytes / seconds),
        "peak_mb": round((peak[0] - before) / 1e6, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("layer", "upcycle", "prepare", "watched"))
    defaults = dict(width=768, hidden=3072, rows=16, length=128, experts=8, k=1, repeats=7, layers=8)
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--capacity", type=float, default=1.25)
    parser.add_argument("--folder", type=pathlib.Path, default=None, help="where the checkpoints of `upcycle` go for a while")
    flags = parser.parse_args()
    found = {"layer": layer, "upcycle": upcycle, "prepare": prepare, "watched": watched}[flags.what](flags)
    if found is not None:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
