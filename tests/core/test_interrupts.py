"""Ctrl-C postponed: it comes, but at the block's end."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from allmrec.core.interrupts import interrupts_postponed


def test_an_interrupt_inside_takes_effect_at_the_end() -> None:
    reached = []

    def block() -> None:
        with interrupts_postponed():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("inside")
        reached.append("behind")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert reached == ["inside"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_an_interrupt_nothing_happens_and_errors_pass() -> None:
    with interrupts_postponed():
        pass
    with pytest.raises(ValueError, match="mine"), interrupts_postponed():
        raise ValueError("mine")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_another_thread_it_does_nothing() -> None:
    ran = []

    def work() -> None:
        with interrupts_postponed():
            ran.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ran == [signal.default_int_handler]
