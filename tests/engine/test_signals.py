"""A signal is a wish; a second Ctrl-C is more. test_determinism.py sends them to whole runs."""

import os
import signal
import threading

import pytest

from rootstock.engine.signals import Signals


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_wish(number, code):
    before = signal.getsignal(number)
    with Signals() as stop:
        assert stop.wish() == 0
        os.kill(os.getpid(), number)
        assert stop.wish() == code
    assert signal.getsignal(number) is before


def test_sigterm_may_come_twice():
    with Signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wish() == 75


def test_a_second_ctrl_c_ends_at_once():
    with Signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wish() == 130
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_in_another_thread_signals_are_left_alone():
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def work():
        with Signals() as stop:
            found.append((signal.getsignal(signal.SIGTERM), stop.wish()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(before, 0)]
