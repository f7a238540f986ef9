"""What routes share: the settings, the state, the versions, and two lanes that compute."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from allmrec.core.errors import AllmrecError
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
from allmrec.serve.state import Event, State

__all__ = ["LateError", "Service"]


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
        self.state = State(config.database_url)
        observe = self._observe
        # Cheap requests wait for nobody: what came meanwhile is computed with them.
        self.fast = Lane("cheap systems", 0.0, config.max_batch, config.max_queue, observe)
        self.slow = Lane("language model", config.window_ms / 1000, config.max_batch, config.max_queue, observe)
        self.holder = Holder(config, self.state, self.metrics, self._try_out)
        self.run_number = 0
        self.draining = False
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Load the models and answer a first request with each.

        Raises:
            AllmrecError: a model cannot be loaded.
        """
        run = self.config.run
        try:
            _, _, (self.run_number, named) = await asyncio.to_thread(self.state.read, ())
            if self.config.shared and named:
                run = Path(named)
        except AllmrecError as error:
            log("state not read", logging.ERROR, reason=str(error))
        await self.holder.start(run)

    @property
    def ready(self) -> bool:
        """Whether requests are answered: the models are loaded and each has answered one, and the end has not begun."""
        return self.holder.ready and not self.draining

    async def stop(self) -> None:
        """End once everything that waits is computed."""
        self.draining = True
        for lane in (self.fast, self.slow):
            await asyncio.to_thread(lane.stop, self.config.drain_seconds)
        self.holder.close()
        self.state.close()

    async def known(self, users: Sequence[str]) -> tuple[dict[str, list[Event]], list[str]]:
        """Users' events, with the items up to date; and notes where the database fails, without which requests are answered."""
        try:
            events, items, (number, run) = await asyncio.to_thread(self.state.read, users)
        except AllmrecError as error:
            self.metrics.state_errors.labels("read").inc()
            log("state not read", logging.ERROR, reason=str(error))
            return {}, [f"Answered without events at run time, and with the items last known: {error}"]
        if number > self.run_number and run:
            self.run_number = number
            if self.config.shared:
                self._in_background(self._follow(run))
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
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, run: str) -> None:
        """Take up a run that another process of this server was told to serve; refused ones are logged."""
        try:
            await self.holder.reload(Path(run), "main")
        except RefusedError:
            return

    def reload_in_background(self) -> None:
        """SIGHUP: read the run's folder anew."""
        self._in_background(self._follow(str(self.holder.versions["main"].run.path)))
