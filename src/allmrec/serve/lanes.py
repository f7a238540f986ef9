"""Lanes: a thread with a bounded queue that computes requests together; it knows nothing of what they are about.

A server has two, so that cheap requests never wait behind the language model. The event loop only hands jobs over.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from allmrec.core.errors import AllmrecError

__all__ = ["Done", "Lane", "QueueFullError"]


class QueueFullError(AllmrecError):
    """As many requests wait as may.

    Args:
        lane: whose queue it is.
        waiting: how many wait.
        seconds: until about when there will be room.
    """

    def __init__(self, lane: str, waiting: int, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(
            f"{waiting} requests wait for the {lane} already, as many as may. Ask again in {seconds:.0f} s."
        )


@dataclass(frozen=True)
class Done:
    """A result and what it took.

    Attributes:
        value: what was computed.
        queue_ms: how long it waited.
        compute_ms: how long it was computed, with the others of its batch.
        batch: how many were computed together.
    """

    value: Any
    queue_ms: float
    compute_ms: float
    batch: int


@dataclass(eq=False)
class _Job:
    key: Hashable
    run: Callable[[list[Any]], Sequence[Any]]
    payload: Any
    future: Future[Done] = field(default_factory=Future)
    begun: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class _Stream:
    """An iterator that is advanced a piece at a time, between batches."""

    pieces: Iterator[str]
    give: Callable[[str | None, BaseException | None], bool]


class Lane:
    """One thread that computes.

    Args:
        name: for messages and metrics.
        window: seconds that the first job of a batch waits for others.
        max_batch: jobs in a batch at the most.
        max_queue: jobs that wait at the most.
        observe: takes the size of each batch.
    """

    def __init__(
        self,
        name: str,
        window: float,
        max_batch: int,
        max_queue: int,
        observe: Callable[[str, int], None] = lambda n, s: None,
    ) -> None:
        self.name = name
        self._window, self._max_batch, self._max_queue, self._observe = window, max_batch, max_queue, observe
        self._jobs: deque[_Job] = deque()
        self._streams: deque[_Stream] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._seconds = 0.0
        self._running = 0
        self._thread = threading.Thread(target=self._work, name=f"allmrec {name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that wait."""
        return len(self._jobs)

    def expected_wait(self) -> float:
        """Seconds until a job that came now would be done, by how long jobs took lately."""
        return (len(self._jobs) + self._running + 1) * self._seconds

    def submit(
        self, key: Hashable, run: Callable[[list[Any]], Sequence[Any]], payload: Any, force: bool = False
    ) -> Future[Done]:
        """Hand a job over; jobs of one key may be computed together.

        Args:
            key: what can share a pass.
            run: computes payloads; a result each, in their order.
            payload: what to compute.
            force: whether to wait however many do.

        Raises:
            QueueFullError: as many wait as may.
        """
        job = _Job(key, run, payload)
        with self._changed:
            if len(self._jobs) >= self._max_queue:
                # Nobody waits for those any more.
                self._jobs = deque(one for one in self._jobs if not one.future.cancelled())
            if self._stopping or (len(self._jobs) >= self._max_queue and not force):
                raise QueueFullError(self.name, len(self._jobs), max(1.0, self.expected_wait()))
            self._jobs.append(job)
            self._changed.notify_all()
        return job.future

    def stream(self, pieces: Iterator[str], give: Callable[[str | None, BaseException | None], bool]) -> None:
        """Advance an iterator between batches.

        Args:
            pieces: what is said.
            give: takes each piece, then None at the end, with the error where one ended it; false: nobody listens any more.

        Raises:
            QueueFullError: too many are being said already.
        """
        with self._changed:
            if self._stopping or len(self._streams) >= max(1, self._max_queue // 8):
                raise QueueFullError(self.name, len(self._streams), max(1.0, self.expected_wait()))
            self._streams.append(_Stream(pieces, give))
            self._changed.notify_all()

    def stop(self, seconds: float) -> None:
        """Take nothing more, finish what waits, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(seconds)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._jobs or self._streams or self._stopping):
                    self._changed.wait()
                if not (self._jobs or self._streams):
                    return
            if self._jobs:
                self._compute(self._gathered())
            if self._streams:
                stream = self._streams.popleft()
                if _advanced(stream):
                    self._streams.append(stream)

    def _gathered(self) -> list[_Job]:
        """The next batch: what waits, and what comes within the window."""
        until = time.monotonic() + self._window
        with self._changed:
            while len(self._jobs) < self._max_batch and not self._stopping and not self._streams:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            taken = [self._jobs.popleft() for _ in range(min(self._max_batch, len(self._jobs)))]
        # Who gave up waiting is not computed for.
        return [job for job in taken if job.future.set_running_or_notify_cancel()]

    def _compute(self, jobs: list[_Job]) -> None:
        groups: dict[Hashable, list[_Job]] = {}
        for job in jobs:
            groups.setdefault(job.key, []).append(job)
        self._running = len(jobs)
        for group in groups.values():
            self._observe(self.name, len(group))
            start = time.monotonic()
            if not _computed(group):
                for job in group:
                    _computed([job], alone=True)
            self._running -= len(group)
            took = (time.monotonic() - start) / len(group)
            self._seconds = took if not self._seconds else 0.8 * self._seconds + 0.2 * took


def _computed(jobs: list[_Job], alone: bool = False) -> bool:
    """Compute jobs together; false where that failed and each is to be tried by itself."""
    start = time.monotonic()
    try:
        values = jobs[0].run([job.payload for job in jobs])
    except Exception as error:  # whatever it is, it is logged and answered, and what is served goes on
        if len(jobs) > 1 and not alone:
            return False
        jobs[0].future.set_exception(error)
        return True
    took = 1000 * (time.monotonic() - start)
    for job, value in zip(jobs, values, strict=True):
        job.future.set_result(Done(value, 1000 * (start - job.begun), took, len(jobs)))
    return True


def _advanced(stream: _Stream) -> bool:
    """Hand the next piece on; false once it is at its end."""
    try:
        piece = next(stream.pieces, None)
    except Exception as error:  # whatever it is, it is logged and answered, and what is served goes on
        stream.give(None, error)
        return False
    goes_on = stream.give(piece, None) and piece is not None
    if not goes_on and hasattr(stream.pieces, "close"):
        stream.pieces.close()
    return goes_on
