"""The app in a process of a Ray cluster: it takes requests as messages of ASGI and gives the answer's messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

from starlette.types import Message

from allmrec.bulk.cluster import imported
from allmrec.core.errors import AllmrecError
from allmrec.serve.config import ServeConfig
from allmrec.serve.logs import logging_as_json

__all__ = ["BEAT", "REFUSED", "Replica"]

# Seconds after which a replica that has a request and nothing to say says that it is there.
BEAT = 1.0

# Stands before the words of an error of ours where Ray gives them on inside a text of its own.
REFUSED = "allmrec cannot serve: "


class Replica:
    """What Ray Serve runs. It is made once the models are loaded and have answered; before, no request comes to it.

    Args:
        settings: a `ServeConfig` as JSON.

    Raises:
        RuntimeError: the models cannot be loaded; the words of the error stand behind `REFUSED`.
    """

    async def __init__(self, settings: str) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        from allmrec.serve.app import make_app

        self._exits = AsyncExitStack()
        self._exits.enter_context(logging_as_json())
        failed: list[AllmrecError] = []
        try:
            self._app = make_app(ServeConfig.model_validate_json(settings), failed.append)
            self._service = self._app.state.service
            self._service.metrics.replicas = self._of_all
            await self._exits.enter_async_context(self._app.router.lifespan_context(self._app))
            while not self._service.ready and not failed:
                await asyncio.sleep(0.05)
        except AllmrecError as error:
            failed.append(error)
        if failed:
            await self._exits.aclose()
            raise RuntimeError(f"{REFUSED}{failed[0]}")

    async def check_health(self) -> None:
        """Ray Serve asks now and then, and replaces a replica that raises.

        One that gets no requests learns here of another run and of items.
        """
        if not self._service.ready:
            raise RuntimeError("The models are not loaded.")
        await self._service.known([])

    async def answer(self, scope: Mapping[str, Any], body: bytes) -> AsyncIterator[list[Message]]:
        """Answer a request.

        Args:
            scope: of ASGI, without what cannot be sent.
            body: the whole of it.

        Yields:
            An empty list once the request is in hand, and each second in which there is nothing; the answer's messages, as many as there
            are at a time.
        """
        messages: asyncio.Queue[Message | None] = asyncio.Queue()
        asked = False

        async def receive() -> Message:
            nonlocal asked
            if asked:
                # Whether the client is still there is known in front, and this call is cancelled where it is not.
                await asyncio.Event().wait()
            asked = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def answering() -> None:
            try:
                await self._app(dict(scope), receive, messages.put)
            finally:
                messages.put_nowait(None)

        yield []
        task = asyncio.create_task(answering())
        try:
            found: list[Message | None] = []
            while None not in found:
                try:
                    found = [await asyncio.wait_for(messages.get(), BEAT)]
                except TimeoutError:
                    yield []
                    continue
                while not messages.empty():
                    found.append(messages.get_nowait())
                if some := [message for message in found if message is not None]:
                    yield some
            await task
        finally:
            task.cancel()

    async def metrics(self) -> tuple[str, str]:
        """This replica's name and its counters."""
        return imported(
            "ray.serve", "A replica"
        ).get_replica_context().replica_id.unique_id, self._service.metrics.own()

    def _of_all(self) -> dict[str, str]:
        serve = imported("ray.serve", "A replica")
        me = serve.get_replica_context()
        found = serve.get_deployment_handle(me.deployment, me.app_name).broadcast("metrics")
        answers = found.results(timeout_s=self._service.config.deadline_ms / 1000, return_exceptions=True)
        # One that dies meanwhile has no lines.
        return dict(answer for answer in answers if not isinstance(answer, BaseException))
