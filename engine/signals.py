"""Signals become a wish that the loop reads between two steps: the run saves and ends with the exit code of DESIGN.md."""

import signal
import threading
from types import FrameType

import jax
import numpy as np
from jax.experimental import multihost_utils

from rootstock.engine.errors import INTERRUPTED, SAVED_ON_SIGNAL

CODES = {signal.SIGTERM: SAVED_ON_SIGNAL, signal.SIGINT: INTERRUPTED}


class Signals:
    """`wish()` is 0, or the exit code that a signal asks for. A second Ctrl-C ends the process at once."""

    def __init__(self):
        self.code = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():  # Python gives signals to no other
            self._before = {number: signal.signal(number, self._receive) for number in CODES}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.code == INTERRUPTED and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.code = CODES[number]

    def wish(self) -> int:
        """Agreed upon by all processes, since a save needs all of them: a call is a meeting of all when there are several."""
        return agreed(self.code)


def agreed(number: int) -> int:
    """The largest of all processes' numbers."""
    return number if jax.process_count() == 1 else int(multihost_utils.process_allgather(np.int32(number)).max())
