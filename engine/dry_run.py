"""What a run would take, before it takes it: parameters, memory, steps, time, disk."""

import math
import pathlib
import shutil
import time

import jax
import numpy as np

from rootstock.engine import checkpoints, feed
from rootstock.engine.telemetry import peak_flops
from rootstock.engine.train import Run, Running


def summary(run: Run, timed_steps: int = 3) -> str:
    """The figures as text. The step is compiled as the run would compile it, and timed on the first batches. MODEL_DIR is not
    touched; a token cache that is absent is built.
    """
    running = Running(run)
    blueprint, size = running.blueprint, max(running.batches)
    running.state = running.initial_state()
    compiled = running.compile(size)
    memory = compiled.program.memory_analysis()
    seconds = _time(running, compiled, size, timed_steps)
    position = run.ramp.position(run.train_steps)
    tokens, flops = running.costs[size]
    count = sum(math.prod(spec.shape) for spec in blueprint.specs.values())
    trained = sum(math.prod(blueprint.specs[name].shape) for name in blueprint.trainable)
    saved = sum(x.nbytes for x in jax.tree.leaves(running.state))
    copies = run.keep + 1
    free = shutil.disk_usage(_existing(pathlib.Path(run.model_dir).absolute())).free
    device = running.partitioner.mesh.devices.ravel()[0]
    peak = peak_flops(device) * running.partitioner.mesh.size
    rows = [
        ("model directory", str(run.model_dir)),
        ("devices", f"{running.partitioner.mesh.size} x {device.device_kind}, mesh {dict(running.partitioner.mesh.shape)}"),
        ("parameters", f"{count:,}, of which trained {trained:,}"),
        ("state per device", f"{_gb(_local(running.state))} (parameters and moments)"),
        ("step per device", f"{_gb(_local(running.state) + (memory.temp_size_in_bytes if memory else 0))} with activations, as compiled"),
        ("batch", f"{size} examples in {run.micro_batches(size)} micro-batches, {tokens:,} tokens"),
        ("steps", f"{run.train_steps:,}, {position:,} examples"),
        ("a step", f"{seconds:.3f} s, {tokens / seconds:,.0f} tokens/s{_utilisation(flops, seconds, peak)}"),
        ("whole run", f"{_duration(seconds * position / size)} without evaluation"),
        (
            "disk",
            f"{_gb(saved)} a checkpoint, {_gb(saved * copies)} at most beside those kept by time, {_gb(free)} free"
            + (" - NOT ENOUGH" if saved * copies > free else ""),
        ),
    ]
    if saved_steps := checkpoints.steps(run.model_dir):
        rows.append(("would resume at", f"step {saved_steps[-1]:,}"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


def _utilisation(flops: float | None, seconds: float, peak: float) -> str:
    return "" if flops is None else f", {flops / 1e9:,.1f} GFLOP, MFU {flops / seconds / peak:.0%}"


def _time(running: Running, compiled, size: int, steps: int) -> float:
    """Median seconds of a step, after one that is not counted."""
    batch = feed.place(running.run.data, 0, size, running.partitioner)
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        running.state, metrics = compiled(running.state, batch)
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:]))


def _local(tree) -> int:
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _existing(path: pathlib.Path) -> pathlib.Path:
    return path if path.exists() else _existing(path.parent)


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
