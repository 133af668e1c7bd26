"""What our sides of the benchmarks share: the compiled step of a run, and figures of the machine."""

import checkout  # noqa: F401  first of all
import jax
import worker

from rootstock.engine import feed, host_memory, telemetry, train

host_memory.keep()  # as the commands do


def started(run: train.Run) -> train.Running:
    """The run with its first state; nothing is written, the loop does not run."""
    running = train.Running(run)
    running.state = running.initial_state()
    return running


def stepping(run: train.Run) -> worker.Step:
    """Its compiled step, over its first batch again and again."""
    running, size = started(run), run.batch_size
    step = running.compile(size)
    data = feed.place(run.data, 0, size, running.partitioner)

    def steps(count: int) -> float:
        for _ in range(count):
            running.state, measured = step(running.state, data)
        jax.block_until_ready(running.state)
        return float(measured["loss"].total)

    return steps


def matrix_rate(size: int, dtype: str = "float32") -> float:
    return telemetry.matrix_rate(jax.devices()[0], size, dtype)


def device() -> str:
    return f"jax {jax.__version__} on {jax.default_backend()}, {jax.devices()[0].device_kind}"
