"""What a person sees while a run goes on: speed, utilisation, loss, time left."""

import sys
import time
from typing import Any

import jax
from tqdm import tqdm

from rootstock.engine import telemetry


def say(text: str) -> None:
    """A line on standard error, from the first process only."""
    if jax.process_index() == 0:
        print(text, file=sys.stderr, flush=True)


class Meter:
    """Speed over the steps since the last reading; evaluation and saving are not counted (`reset` after them)."""

    def __init__(self, running: Any):
        self.running = running
        devices = running.partitioner.mesh.devices.ravel()
        self.peak = telemetry.peak_flops(devices[0]) * len(devices)
        self.reset()

    def reset(self) -> None:
        self.since = time.perf_counter()
        self.waited = self.running.goodput.seconds.get("data", 0.0)

    def read(self, steps: int) -> dict[str, float]:
        """Figures of the last `steps` steps."""
        running = self.running
        seconds = (time.perf_counter() - self.since) / steps
        waited = (running.goodput.seconds.get("data", 0.0) - self.waited) / steps
        tokens, flops = running.costs[running.run.ramp.size(running.step - 1)]
        self.reset()
        return {
            "learning_rate": float(running.run.update.learning_rate(running.step - 1)),
            "step_seconds": seconds,
            "tokens_per_second": tokens / seconds,
            **({} if flops is None else {"mfu": flops / seconds / self.peak}),
            "waiting": waited / seconds,
            **telemetry.memory(),
        }


class Bar:
    """A progress bar on a terminal, a line at every reading elsewhere. Only the first process prints."""

    def __init__(self, running: Any, begin: int):
        self.running = running
        self.bar = tqdm(
            total=running.run.train_steps,
            initial=begin,
            unit="step",
            dynamic_ncols=True,
            file=sys.stderr,
            disable=not (jax.process_index() == 0 and sys.stderr.isatty()),
        )

    def __enter__(self) -> "Bar":
        self._say, self.running.say = self.running.say, self.write
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()
        self.running.say = self._say

    def write(self, text: str) -> None:
        if self.bar.disable:
            say(text)
        else:
            self.bar.write(text, file=sys.stderr)

    def update(self, values: dict[str, float]) -> None:
        step, total = self.running.step, self.running.run.train_steps
        text = f"loss {values['loss']:.3f} | {values['tokens_per_second']:,.0f} tokens/s"
        text += f" | MFU {values['mfu']:.0%}" if "mfu" in values else ""
        if self.bar.disable:
            left = (total - step) * values["step_seconds"]
            self.write(f"step {step}/{total} | {text} | {_clock(left)} left")
        else:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(step - self.bar.n)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
