"""Takes requests over HTTP and has replicas answer them; where one dies, or cannot be reached, before its answer has begun, another is asked."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from allmrec.core.errors import ServerError
from allmrec.serve.config import ServeConfig
from allmrec.serve.guard import checked_length, chosen_id, paced
from allmrec.serve.logs import log
from allmrec.serve.problems import RefusedError, problem_of
from allmrec.serve.replica import BEAT

__all__ = ["TRIES", "Answering", "Errors", "Front"]

# How many replicas may be asked for one request at a time, those that it has ended counted; it must not end them all.
TRIES = 3
# The part of the deadline after which another replica is asked too: behind a cut cable nobody takes a request, or says that it is gone.
_PATIENCE = 0.2
# Seconds without a word from a replica that has a request after which it is held for dead.
_SILENT = 5 * BEAT
# What of a request's scope can be sent to another process.
_SENT = (
    "type",
    "asgi",
    "http_version",
    "method",
    "scheme",
    "path",
    "raw_path",
    "query_string",
    "root_path",
    "client",
    "server",
)


@runtime_checkable
class Answering(Protocol):
    """A replica's answer while it comes."""

    def __anext__(self) -> Awaitable[list[Message]]:
        """The next messages; the first are none, and say that a replica has the request."""

    def __aiter__(self) -> AsyncIterator[list[Message]]:
        """Itself."""

    def cancel(self) -> Any:
        """Nobody waits for it any more."""


@dataclass(frozen=True)
class Errors:
    """What the cluster's errors mean.

    Attributes:
        dead: the replica is gone.
        full: too many wait for a replica.
        cancelled: the answer was cancelled from here.
    """

    dead: tuple[type[Exception], ...]
    full: tuple[type[Exception], ...]
    cancelled: tuple[type[Exception], ...]

    def let_go(self, answer: Answering) -> None:
        """Cancel an answer; where it has failed meanwhile, the cluster says so again, and nobody needs to know."""
        with suppress(*self.dead, *self.full, *self.cancelled):
            answer.cancel()


class Front:
    """An ASGI application.

    Args:
        config: of the server.
        errors: of the cluster.
        life: what begins and ends with the server.

    Attributes:
        ask: has a replica answer a scope and a body; None until there are replicas.
    """

    def __init__(
        self, config: ServeConfig, errors: Errors, life: Callable[[Any], AbstractAsyncContextManager[None]]
    ) -> None:
        self._config, self._errors = config, errors
        self._life = Starlette(lifespan=life)
        self.ask: Callable[[dict[str, Any], bytes], Answering] | None = None
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "lifespan":
            await self._life(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        request_id, path, begun = chosen_id(headers), scope["path"], False

        async def answered(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            if path == "/health/live":
                # This process's own life; whether there are replicas is another question.
                await JSONResponse({"status": "live"}, headers={"X-Request-ID": request_id})(scope, receive, send)
                return
            checked_length(headers, self._config)
            body = await _whole(paced(receive, self._config))
            await self._answered(_sent(scope, headers, request_id), body, receive, answered)
        except Exception as error:  # whatever it is, it is logged and answered, and what is served goes on
            if not isinstance(error, ServerError | HTTPException):
                log("request failed", logging.ERROR, error, request_id=request_id, path=path)
            if begun:
                raise
            answer = problem_of(error, path, request_id)
            answer.headers["X-Request-ID"] = request_id
            await answer(scope, receive, send)

    async def _answered(self, scope: dict[str, Any], body: bytes, receive: Receive, send: Send) -> None:
        """Let replicas try until one has answered.

        Raises:
            ServerError: none has.
        """
        if self.ask is None:
            raise ServerError("The model is still being loaded. Ask again in a few seconds.", 503, 2.0)
        begun, ask = False, self.ask
        lost: tuple[type[Exception], ...] = (TimeoutError, *self._errors.dead)
        tries = _Tries(lambda: ask(scope, body), self._errors, self._config.deadline_ms / 1000, _id_of(scope))
        gone = asyncio.create_task(_gone(receive))
        try:
            while True:
                answer, watched = await self._taken(tries), False
                try:
                    async for messages in _spoken(answer):
                        for message in messages:
                            begun = True
                            await send(message)
                        if not begun:
                            # Nothing has been said but that there is a replica: a write is not cut off because its client is.
                            continue
                        if gone.done():
                            # Nobody reads on.
                            self._errors.let_go(answer)
                            return
                        if not watched:
                            # A stream may be silent for long.
                            gone.add_done_callback(lambda _, answer=answer: self._errors.let_go(answer))  # type: ignore[misc]  # a default
                            watched = True
                    return
                except self._errors.cancelled:
                    return
                except lost as error:
                    # The word goes to nobody where its host is cut off, and cancels it where it is only slow.
                    self._errors.let_go(answer)
                    tries.note_loss(error)
                    if begun:
                        raise ServerError("The replica died while its answer was sent.", 503) from error
        finally:
            gone.cancel()

    async def _taken(self, tries: _Tries) -> Answering:
        """The answer of a replica that has the request.

        Raises:
            ServerError: none took it in time, or too many died.
            RefusedError: too many requests wait.
        """
        # The cluster's own limit counts each replica that is asked, this one each request.
        if self._waiting >= self._config.max_queue:
            raise _too_many()
        self._waiting += 1
        try:
            return await tries.taken()
        finally:
            self._waiting -= 1


class _Tries:
    """Replicas are asked for one request: another one where one dies, and another one too where none takes it soon.

    Args:
        ask: asks a replica; Ray Serve chooses which.
        errors: of the cluster.
        seconds: in which one must take the request.
        request_id: of the request.
    """

    def __init__(self, ask: Callable[[], Answering], errors: Errors, seconds: float, request_id: str) -> None:
        self._ask, self._errors, self._seconds, self._id = ask, errors, seconds, request_id
        self._lost = 0

    async def taken(self) -> Answering:
        """See `Front._taken`."""
        now = asyncio.get_running_loop().time
        end, ask_at = now() + self._seconds, now()
        asked: dict[asyncio.Future[list[Message]], Answering] = {}
        try:
            while now() < end:
                if may_ask := self._lost + len(asked) < TRIES:
                    if now() >= ask_at:
                        answer = self._ask()
                        asked[asyncio.ensure_future(answer.__anext__())] = answer
                        ask_at = now() + _PATIENCE * self._seconds
                        continue
                elif not asked:
                    raise ServerError(f"{self._lost} replicas died over this request, one after the other.", 503, 2.0)
                wait = max(0.0, min(ask_at if may_ask else end, end) - now())
                done, _ = await asyncio.wait(asked, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    try:
                        task.result()
                    except self._errors.dead as error:
                        self.note_loss(error)
                        ask_at = now()
                    except self._errors.full:
                        if len(asked) == 1:
                            raise _too_many() from None
                    else:
                        return asked.pop(task)
                    del asked[task]
            raise ServerError(f"No replica was free within {self._seconds:g} s. Ask again later.", 503, 2.0)
        finally:
            for task, answer in asked.items():
                # Whatever comes of it, it has been seen.
                task.add_done_callback(lambda one: one.cancelled() or one.exception())
                self._errors.let_go(answer)
                task.cancel()

    def note_loss(self, error: Exception) -> None:
        """Count and log that a replica has died, or is not heard any more."""
        self._lost += 1
        what = "replica silent" if isinstance(error, TimeoutError) else "replica died"
        log(what, logging.WARNING, request_id=self._id)


def _too_many() -> RefusedError:
    return RefusedError("Too many requests wait for a replica. Ask again later.", 429, 1.0)


async def _spoken(answer: Answering) -> AsyncIterator[list[Message]]:
    """What a replica says, which is something every second.

    Raises:
        TimeoutError: nothing came for long.
    """
    while True:
        try:
            messages = await asyncio.wait_for(answer.__anext__(), _SILENT)
        except StopAsyncIteration:
            return
        yield messages


def _id_of(scope: Scope) -> str:
    name: bytes = dict(scope["headers"])[b"x-request-id"]
    return name.decode()


def _sent(scope: Scope, headers: dict[str, str], request_id: str) -> dict[str, Any]:
    """A request as it is sent, the same for each try: with its id, and with a key, so that a write is done once."""
    named = [(b"x-request-id", request_id.encode())]
    if "idempotency-key" not in headers:
        named.append((b"idempotency-key", secrets.token_hex(16).encode()))
    kept = [(name, value) for name, value in scope["headers"] if name != b"x-request-id"]
    return {name: scope[name] for name in _SENT if name in scope} | {"headers": kept + named}


async def _whole(receive: Receive) -> bytes:
    """A body.

    Raises:
        HTTPException: it is too long, or too slow.
        ServerError: its client left.
    """
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ServerError("The client left before its request had come.", 499)
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _gone(receive: Receive) -> None:
    """Until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
