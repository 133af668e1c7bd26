"""A signal ends at once, and later is a wish; a second Ctrl-C is more. test_determinism.py sends them to whole runs."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from rootstock.engine.signals import Signals, ending_at_once


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_at_once_while_there_is_nothing_to_save(number, code):
    """From inside a callback that swallows exceptions, as those of extensions do."""
    program = f"""
import os
from rootstock.engine.signals import ending_at_once
with ending_at_once():
    try:
        os.kill(os.getpid(), {int(number)})
    except BaseException:
        print("swallowed")
print("went on")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.startswith("stopped by a signal before there was anything to save; the same command begins again")


def test_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with ending_at_once():
        assert signal.getsignal(signal.SIGTERM) is not before
        with Signals() as stop:
            assert stop.wish() == 0
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_wish(number, code):
    before = signal.getsignal(number)
    with Signals() as stop:
        stop.listen()
        assert stop.wish() == 0
        os.kill(os.getpid(), number)
        assert stop.wish() == code
    assert signal.getsignal(number) is before


def test_sigterm_may_come_twice():
    with Signals() as stop:
        stop.listen()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wish() == 75


def test_a_second_ctrl_c_ends_at_once():
    with Signals() as stop:
        stop.listen()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wish() == 130
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_in_another_thread_signals_are_left_alone():
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def work():
        with Signals() as stop:
            stop.listen()
            found.append((signal.getsignal(signal.SIGTERM), stop.wish()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(before, 0)]
