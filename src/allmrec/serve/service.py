"""What routes share: the settings, the state, the versions, and two lanes that compute."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from allmrec.core.errors import AllmrecError, ConfigError, ServerError
from allmrec.ranking import Query
from allmrec.recommend.request import ResolvedRequest
from allmrec.serve.config import ServeConfig
from allmrec.serve.holder import Holder
from allmrec.serve.keys import Keys
from allmrec.serve.lanes import Done, Lane
from allmrec.serve.logs import log
from allmrec.serve.metrics import Metrics
from allmrec.serve.problems import RefusedError
from allmrec.serve.served import Served
from allmrec.serve.state import CONNECTIONS, Event, State

__all__ = ["LateError", "Service"]

T = TypeVar("T")

# Seconds that an answer waits for events at the most; it can do without them.
_READ = 2.0
# For so long a database that was silent is not asked again, so that not every request waits for it.
_SILENT = 2.0
# What of the state changes nothing.
_READINGS = ("read", "items", "item")
# What waited less for the database says nothing of it.
_PATIENT = 1.0
# After so long a run that was refused is tried again, of which another process says that it is served.
_AGAIN = 60.0


class LateError(AllmrecError):
    """An answer was not there in time."""


class Service:
    """One server process.

    Args:
        config: its settings.

    Raises:
        ConfigError: the database or the file of keys cannot be used.
    """

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.metrics = Metrics()
        self.keys = Keys(config.keys)
        self.state = State(config.database_url, config.name)
        # As many threads as connections: what hangs there takes nobody else's.
        self._asking = ThreadPoolExecutor(CONNECTIONS, "allmrec state")
        self._silent_until = 0.0
        observe = self._observe
        # Cheap requests wait for nobody: what came meanwhile is computed with them.
        self.fast = Lane("cheap systems", 0.0, config.max_batch, config.max_queue, observe)
        self.slow = Lane("language model", config.window_ms / 1000, config.max_batch, config.max_queue, observe)
        # Neither of them waits for texts, which come in bulk.
        self.encoder = Lane("sentence encoder", 0.0, 1, config.max_queue, observe)
        items = partial(self.stored, self.state.items)
        self.holder = Holder(config, items, self.metrics, self._try_out, self.encoder)
        self.run_number = 0
        self.draining = False
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Load the models and answer a first request with each.

        Raises:
            AllmrecError: a model cannot be loaded, or the database is none that can hold the state.
        """
        run = self.config.run
        try:
            _, _, (self.run_number, named) = await self.stored(self.state.read, ())
            if self.config.shared and named:
                run = Path(named)
        except ConfigError:
            raise
        except AllmrecError as error:
            log("state not read", logging.ERROR, reason=str(error))
        await self.holder.start(run)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Everything that computes."""
        return self.fast, self.slow, self.encoder

    @property
    def ready(self) -> bool:
        """Whether requests are answered: the models are loaded and each has answered one, and the end has not begun."""
        return self.holder.ready and not self.draining

    async def stop(self) -> None:
        """End once everything that waits is computed."""
        self.draining = True
        for lane in self.lanes:
            await asyncio.to_thread(lane.stop, self.config.drain_seconds)
        self._asking.shutdown(wait=False, cancel_futures=True)
        self.state.close()

    async def stored(self, work: Callable[..., T], *arguments: Any, seconds: float | None = None) -> T:
        """Ask the database in a thread of its own.

        Args:
            work: a method of `state`.
            arguments: its arguments.
            seconds: how long to wait; none: as long as an answer may take.

        Raises:
            ServerError: it fails, or says nothing for so long; whether a write is stored is then not known.
        """
        try:
            return await self._stored(work, arguments, seconds)
        except ServerError:
            self.metrics.state_errors.labels("read" if work.__name__ in _READINGS else "write").inc()
            raise

    async def _stored(self, work: Callable[..., T], arguments: Sequence[Any], seconds: float | None) -> T:
        if time.monotonic() < self._silent_until:
            raise ServerError(
                f"The state in {self.state.shown} said nothing just now. Nothing was sent to it.", 503, _SILENT
            )
        limit = self.config.deadline_ms / 1000 if seconds is None else seconds
        future = asyncio.get_running_loop().run_in_executor(self._asking, partial(work, *arguments))
        try:
            return await asyncio.wait_for(future, limit)
        except TimeoutError:
            if limit >= _PATIENT:
                self._silent_until = time.monotonic() + _SILENT
            raise ServerError(
                f"The state in {self.state.shown} said nothing for {limit:.3g} s. Whether what was sent is stored is not known; "
                "send it again, events with the same keys.",
                503,
                _SILENT,
            ) from None

    async def known(
        self, users: Sequence[str], seconds: float | None = None
    ) -> tuple[dict[str, list[Event]], list[str]]:
        """Users' events, with the items up to date; and notes where the database fails, without which requests are answered.

        Args:
            users: whose events.
            seconds: how long the whole answer may take; none: as long as the server says.
        """
        whole = self.config.deadline_ms / 1000 if seconds is None else seconds
        try:
            events, items, (number, run) = await self.stored(self.state.read, users, seconds=min(_READ, whole / 4))
        except AllmrecError as error:
            log("state not read", logging.ERROR, reason=str(error))
            return {}, [f"Answered without events at run time, and with the items last known: {error}"]
        if number > self.run_number and run:
            before, self.run_number = self.run_number, number
            if self.config.shared:
                self._in_background(self._follow(run, before))
        notes = []
        try:
            await self.holder.refresh(items)
        except AllmrecError as error:
            log("items not taken up", logging.ERROR, reason=str(error))
            notes.append(f"Answered with the items last known: {error}")
        return events, notes

    async def compute(
        self, lane: Lane, key: Any, run: Callable[[list[Any]], Sequence[Any]], payload: Any, seconds: float
    ) -> Done:
        """Compute in a lane.

        Args:
            lane: where.
            key, run, payload: see `Lane.submit`.
            seconds: how long it may take.

        Raises:
            QueueFullError: the lane is full.
            LateError: it took longer, or is sure to.
        """
        if seconds <= 0 or (lane.waiting and lane.expected_wait() > seconds):
            raise LateError(f"No answer of the {lane.name} is to be expected within {1000 * max(0.0, seconds):.0f} ms.")
        future = lane.submit(key, run, payload)
        self.metrics.waiting.labels(lane.name).set(lane.waiting)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
        except TimeoutError:
            raise LateError(f"No answer of the {lane.name} came within {1000 * seconds:.0f} ms.") from None
        finally:
            self.metrics.waiting.labels(lane.name).set(lane.waiting)

    async def call(self, lane: Lane, work: Callable[[], Any], seconds: float | None = None) -> Any:
        """Compute something by itself in a lane; see `compute`."""
        limit = self.config.deadline_ms / 1000 if seconds is None else seconds
        return (await self.compute(lane, object(), lambda works: [one() for one in works], work, limit)).value

    def observe_kept(self) -> None:
        """Count what the language model read of candidates, and what it keeps of them."""
        for label, served in self.holder.versions.items():
            if served.speaker is not None:
                blocks = served.speaker.ranker.kept_blocks
                for how, count in zip(("read", "kept"), blocks.taken_counts(), strict=True):
                    self.metrics.read.labels(how).inc(count)
                self.metrics.kept_bytes.labels(label).set(blocks.n_bytes)

    def _observe(self, lane: str, size: int) -> None:
        self.metrics.batch.labels(lane).observe(size)

    def _try_out(self, served: Served) -> None:
        """Answer a request with every system that may take over, in the lanes where it will be computed."""
        user = int(served.dataset.lengths.argmax()) if served.dataset.n_users else -1
        history = served.dataset.sequence(user) if user >= 0 else np.arange(1, min(4, served.dataset.n_items + 1))
        query = Query(np.asarray(history, dtype=np.int64), user)
        request = ResolvedRequest(query, 1, None, np.zeros(0, dtype=np.int64), None, ())
        for name in dict.fromkeys((served.default, *served.chain)):
            offer = served.offers[name]
            start = time.monotonic()
            lane = self.slow if offer.slow else self.fast
            lane.submit(object(), offer.answer, request, force=True).result()
            log("tried out", system=name, version=served.version, ms=round(1000 * (time.monotonic() - start), 1))

    def _in_background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log("background work failed", logging.ERROR, task.exception())

    async def _follow(self, run: str, before: int | None = None) -> None:
        """Take up a run that another process of this server was told to serve; refused ones are logged.

        Args:
            run: its folder.
            before: the number of the one that is served, if this one is to be tried again where it is refused.
        """
        number = self.run_number
        try:
            await self.holder.reload(Path(run), "main")
        except RefusedError:
            if before is not None:
                await asyncio.sleep(_AGAIN)
                if self.run_number == number:
                    self.run_number = before  # so that the next request finds that there is another one

    def reload_in_background(self) -> None:
        """SIGHUP: read the run's folder anew."""
        self._in_background(self._follow(str(self.holder.versions["main"].run.path)))
