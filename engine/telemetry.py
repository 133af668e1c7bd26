"""Where the time goes, and how much of the machine is used."""

import contextlib
import resource
import sys
import time
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp

# Dense bf16 products, floating-point operations a second, from the makers' data sheets.
PEAKS = {
    "TPU v3": 61.5e12,  # a core, which is a device of JAX
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40": 181e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA V100": 125e12,
}


def peak_flops(device: jax.Device) -> float:
    """Of one device: the data sheet's figure where the device is known, else the rate of a large product measured now (one CPU process:
    all its cores).

    Fake CPU devices share the cores, so the measured rate is divided among them.
    """
    for kind in sorted(PEAKS, key=len, reverse=True):
        if device.device_kind.startswith(kind):
            return PEAKS[kind]
    sharing = jax.local_device_count() if device.platform == "cpu" else 1
    return matrix_rate(device) / sharing


def matrix_rate(device: jax.Device, size: int = 1536, dtype: str = "float32") -> float:
    """Floating-point operations a second of a product of that size, accumulated in float32: the best of eight."""
    x = jax.device_put(jnp.ones((size, size), dtype), device)
    product = jax.jit(lambda x, y: jnp.dot(x, y, preferred_element_type=jnp.float32))
    product(x, x).block_until_ready()
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        product(x, x).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def memory() -> dict[str, float]:
    """Peak memory, GB: of the first device where it tells, else (CPUs do not) the resident memory of this process, under its own name."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if peak := stats.get("peak_bytes_in_use"):
        return {"memory_gb": peak / 1e9}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"process_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}


class Goodput:
    """Seconds by category (init, compile, data, evaluate, save, ...); what remains of the wall clock is training."""

    def __init__(self):
        self.start = time.perf_counter()
        self.seconds: dict[str, float] = {}
        self.before: dict[str, float] = {}  # of the earlier starts of a resumed run

    @contextlib.contextmanager
    def measure(self, category: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[category] = self.seconds.get(category, 0.0) + time.perf_counter() - begin

    def continue_from(self, told: Mapping[str, float], elapsed: float) -> None:
        """Of a resumed run: what its starts told when they ended, and the seconds of its loop that its checkpoint knows. The second is
        more where a start was killed and told nothing; what that start took before its loop stays unknown.
        """
        lost = elapsed - sum(seconds for name, seconds in told.items() if name not in ("init", "compile"))
        self.before = {**told, "train": told.get("train", 0.0) + lost} if lost > 0 else dict(told)

    def breakdown(self) -> dict[str, float]:
        """All categories, training included; they add up to the wall clock of every start of the run."""
        rest = time.perf_counter() - self.start - sum(self.seconds.values())
        now = {"train": max(rest, 0.0), **self.seconds}
        return {name: now.get(name, 0.0) + self.before.get(name, 0.0) for name in {**now, **self.before}}
