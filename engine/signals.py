"""SIGTERM and Ctrl-C end a command with the exit codes of README.md: at once while there is nothing to save (imports, caches, compilation),
in the loop after a save between two steps.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from rootstock.engine.errors import INTERRUPTED, SAVED_ON_SIGNAL

CODES = {signal.SIGTERM: SAVED_ON_SIGNAL, signal.SIGINT: INTERRUPTED}
AT_ONCE = b"stopped by a signal before there was anything to save; the same command begins again, or goes on where it stood\n"

Receive = Callable[[int, FrameType | None], None]


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """A signal ends the process as a kill would, which every file that we write survives, but says so and with its exit code.

    An exception would be no safer: raised inside an extension's import or a compilation it becomes an ImportError or a crash.
    """
    before = _install(_end)
    try:
        yield
    finally:
        _restore(before)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, AT_ONCE)
    os._exit(CODES[number])


class Signals:
    """After `listen()`, `wish()` is 0 or the exit code that a signal asks for. A second Ctrl-C ends the process at once."""

    def __init__(self):
        self.code = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Signals":
        return self

    def __exit__(self, *_) -> None:
        _restore(self._before)

    def listen(self) -> None:
        self._before = _install(self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.code == INTERRUPTED and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.code = CODES[number]

    def wish(self) -> int:
        """Agreed upon by all processes, since a save needs all of them: a call is a meeting of all when there are several."""
        return agreed(self.code)


def agreed(number: int) -> int:
    """The largest of all processes' numbers."""
    # Imported here, so that a command can listen to signals before this slow import.
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    return number if jax.process_count() == 1 else int(multihost_utils.process_allgather(np.int32(number)).max())


def _install(receive: Receive) -> dict[int, object]:
    """The handlers that were there before."""
    if threading.current_thread() is not threading.main_thread():  # Python gives signals to no other
        return {}
    return {number: signal.signal(number, receive) for number in CODES}


def _restore(before: dict[int, object]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
