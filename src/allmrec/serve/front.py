"""Takes requests over HTTP and has replicas answer them; where a replica dies before its answer has begun, another is asked."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from allmrec.core.errors import ServerError
from allmrec.serve.config import ServeConfig
from allmrec.serve.guard import checked_length, chosen_id, paced
from allmrec.serve.logs import log
from allmrec.serve.problems import RefusedError, problem_of

__all__ = ["Answering", "Errors", "Front"]

# How many replicas may die over one request; what ends each that tries it must not end them all.
_TRIES = 3
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
        """Let replicas try, one after the other.

        Raises:
            ServerError: none has answered.
        """
        if self.ask is None:
            raise ServerError("The model is still being loaded. Ask again in a few seconds.", 503, 2.0)
        begun = False
        gone = asyncio.create_task(_gone(receive))
        try:
            for _ in range(_TRIES):
                answer, watched = self.ask(scope, body), False
                try:
                    await self._taken(answer)
                    async for messages in answer:
                        for message in messages:
                            begun = True
                            await send(message)
                        if gone.done():
                            # Nobody reads on. What was not begun goes on: a write is not cut off because its client is.
                            answer.cancel()
                            return
                        if not watched:
                            # A stream may be silent for long.
                            gone.add_done_callback(lambda _, answer=answer: answer.cancel())  # type: ignore[misc]  # a default
                            watched = True
                    return
                except self._errors.cancelled:
                    return
                except self._errors.dead as error:
                    log("replica died", logging.WARNING, request_id=dict(scope["headers"])[b"x-request-id"].decode())
                    if begun:
                        raise ServerError("The replica died while its answer was sent.", 503) from error
            raise ServerError(f"{_TRIES} replicas died over this request, one after the other.", 503, 2.0)
        finally:
            gone.cancel()

    async def _taken(self, answer: Answering) -> None:
        """Until a replica has the request.

        Raises:
            ServerError: none took it in time.
        """
        seconds = self._config.deadline_ms / 1000
        try:
            await asyncio.wait_for(answer.__anext__(), seconds)
        except TimeoutError:
            answer.cancel()
            raise ServerError(f"No replica was free within {seconds:g} s. Ask again later.", 503, 2.0) from None
        except self._errors.full:
            raise RefusedError("Too many requests wait for a replica. Ask again later.", 429, 1.0) from None


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
