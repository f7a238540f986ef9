"""Ctrl-C at a moment that suits: postponed while something must not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["interrupts_postponed"]


@contextmanager
def interrupts_postponed() -> Iterator[None]:
    """Let a Ctrl-C that arrives inside the block take effect at its end.

    Blocks should be short: the user waits. Outside the main thread, where Python delivers no signals, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[tuple[int, FrameType | None]] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: arrived.append((number, frame)))
    try:
        yield
    finally:
        # None: a handler that C code installed and that Python cannot put back.
        signal.signal(signal.SIGINT, signal.default_int_handler if previous is None else previous)
        if arrived and callable(previous):
            previous(*arrived[0])
