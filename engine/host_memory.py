"""What a process that trains on a CPU does with the memory that a step frees.

The C library gives large pieces back to the system at once, and the next step gets them anew, page by page, each cleared: of a step of BERT
4 x 512 over 4,096 tokens a fifth (benchmarks/RESULTS.md).
"""

import ctypes
import importlib.metadata
import importlib.util
import os

_ARENA_MAX, _MMAP_MAX, _TRIM_THRESHOLD = -8, -4, -1  # of <malloc.h>


def keep() -> None:
    """From now on memory stays with the process, where the devices are CPUs and the C library is glibc; else nothing happens.

    Before JAX starts its threads: the heaps that threads have of their own are not kept.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None and _on_cpus():
        for option, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1)):
            mallopt(option, value)


def _on_cpus() -> bool:
    """Known without starting JAX: its platforms are named, or none but the CPU is installed."""
    named = os.environ.get("JAX_PLATFORMS")
    if named:
        return named == "cpu"
    return not importlib.metadata.entry_points(group="jax_plugins") and importlib.util.find_spec("libtpu") is None
