"""Processor seconds and memory of a program with every process that it starts, looked at from outside."""

from __future__ import annotations

import threading
from contextlib import suppress

import psutil

__all__ = ["Watch"]

# Seconds between two looks; what a process did after the last look at it is not counted.
_EVERY = 0.5


class Watch:
    """Looks at a process and its descendants for the length of a block.

    Args:
        pid: of the process.

    Attributes:
        cpu_seconds: of all of them within the block.
        peak_mb: the most memory of all at one look, in megabytes; what several share counts once (PSS, so Linux alone).
        others: processor seconds of everything else on the machine within the block.
    """

    def __init__(self, pid: int) -> None:
        self._root, self._stop = psutil.Process(pid), threading.Event()
        self._spent: dict[int, float] = {}
        self._thread = threading.Thread(target=self._looking, daemon=True)
        self._before, self._all_before = 0.0, 0.0
        self.peak_mb, self.others = 0.0, 0.0

    @property
    def cpu_seconds(self) -> float:
        """See the class."""
        return sum(self._spent.values()) - self._before

    def __enter__(self) -> Watch:
        self._look()
        self._before, self._all_before = sum(self._spent.values()), _busy()
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
        self.others = max(0.0, _busy() - self._all_before - self.cpu_seconds)

    def _looking(self) -> None:
        while not self._stop.wait(_EVERY):
            self._look()

    def _look(self) -> None:
        memory = 0
        with suppress(psutil.NoSuchProcess):
            for one in [self._root, *self._root.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
                    times = one.cpu_times()
                    self._spent[one.pid] = times.user + times.system
                    memory += one.memory_full_info().pss
        self.peak_mb = max(self.peak_mb, memory / 1e6)


def _busy() -> float:
    """Processor seconds that were spent on this machine since it started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)
