"""What every request passes before any route: its id, host, key, size and pace; behind it, metrics and the log."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from allmrec.core.errors import AllmrecError, ServerError
from allmrec.serve.config import ServeConfig
from allmrec.serve.fields import has_control
from allmrec.serve.keys import Role
from allmrec.serve.logs import log
from allmrec.serve.problems import RefusedError, problem_of
from allmrec.serve.service import Service

__all__ = ["Guard", "checked_length", "chosen_id", "paced"]

# What a request id from outside may look like; any other is replaced.
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# What anybody may see: the page without any data, and whether the server lives.
_PUBLIC = ("/health/", "/page/", "/openapi.json", "/docs")
_WRITES = frozenset({"PUT", "PATCH", "DELETE"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class Guard:
    """An ASGI application around another.

    Args:
        app: the other.
        service: settings, keys and metrics.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                return
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        request_id = chosen_id(headers)
        start, status, begun = time.monotonic(), 500, False
        scope.setdefault("state", {}).update(request_id=request_id, begun=start)

        async def answered(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            self._check(scope, headers)
            await self._app(scope, paced(receive, self._service.config), answered)
        except Exception as error:  # whatever it is, it is logged and answered, and what is served goes on
            known = isinstance(error, ServerError | HTTPException)
            if not known:
                # A path may name a user.
                named = {"path": scope["path"]} if self._service.config.log_users else {}
                log("request failed", logging.ERROR, error, request_id=request_id, method=scope["method"], **named)
            if begun:
                raise
            await problem_of(error, scope["path"], request_id)(scope, receive, answered)
        finally:
            seconds = time.monotonic() - start
            route = getattr(scope.get("route"), "path", "other")
            metrics = self._service.metrics
            metrics.requests.labels(route, str(status)).inc()
            metrics.seconds.labels(route).observe(seconds)
            fields = {"route": route, "path": scope["path"]} if self._service.config.log_users else {"route": route}
            if not route.startswith(("/health", "/metrics")):
                ms = round(1000 * seconds, 1)
                log("request", request_id=request_id, method=scope["method"], status=status, ms=ms, **fields)

    def _check(self, scope: Scope, headers: Mapping[str, str]) -> None:
        """Refuse by host, key, size and kind of body.

        Raises:
            RefusedError: why.
        """
        config, path = self._service.config, scope["path"]
        host = headers.get("host", "").rpartition("]")[0].lstrip("[") or headers.get("host", "").partition(":")[0]
        if config.allowed_hosts and host.lower() not in config.allowed_hosts:
            raise RefusedError(
                "The server does not answer under this host's name. Name it when the server is started: --allow-host NAME.",
                421,
            )
        checked_length(headers, config)
        if has_control(path):
            # A route's pattern would leave a line end at the end aside, and mean another item.
            raise RefusedError("The path holds a control character, such as a line end, which no id has.", 404)
        if path == "/" or path.startswith(_PUBLIC) or scope["method"] == "OPTIONS":
            return
        self._check_key(scope["method"], path, headers)
        if scope["method"] in _WITH_BODY:
            _check_kind(headers)
        if not self._service.holder.ready and path != "/metrics":
            raise ServerError("The model is still being loaded. Ask again in a few seconds.", 503, 2.0)

    def _check_key(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        keys, role = self._service.keys, _role(method, path)
        try:
            keys.refresh()
        except AllmrecError as error:
            log("keys not read", logging.ERROR, reason=str(error))
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = key.strip() if scheme.lower() == "bearer" and key else headers.get("x-api-key")
        if keys.may(given, role):
            return
        if not keys.asked:
            raise RefusedError(
                "This server was started without API keys, so nobody may do this over HTTP. Start it with --keys FILE; SIGHUP "
                "reloads the run without a key.",
                403,
            )
        if keys.name(given) is None:
            raise RefusedError("An API key is needed, and none that is known came: Authorization: Bearer KEY.", 401)
        raise RefusedError(f"This key may not do that: it lacks the role {role!r}.", 403)


def checked_length(headers: Mapping[str, str], config: ServeConfig) -> None:
    """Refuse a body that says that it is too long.

    Raises:
        RefusedError: 413.
    """
    length = headers.get("content-length", "0")
    if length.isdigit() and int(length) > config.max_body:
        raise RefusedError(
            f"The body has {int(length):,} bytes; this server takes {config.max_body:,}. Send it in parts.", 413
        )


def _check_kind(headers: Mapping[str, str]) -> None:
    """Refuse a body that does not say that it is JSON: any page in a browser may send such a one to a server of this machine.

    Raises:
        RefusedError: 415.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    if kind == "application/json" or kind.endswith("+json") or (not kind and empty):
        return
    said = f"is said to be {kind}" if kind else "does not say what it is"
    raise RefusedError(f"The body {said}; expected is JSON. Send the header Content-Type: application/json.", 415)


def paced(receive: Receive, config: ServeConfig) -> Receive:
    """A body that is not longer, and takes no longer, than it may; else there is an HTTPException."""
    until: float | None = None
    size, ended = 0, False

    async def received() -> Message:
        nonlocal size, ended, until
        if ended:
            return await receive()
        if until is None:
            until = time.monotonic() + config.read_seconds
        try:
            message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
        except TimeoutError:
            # Of a kind that a framework passes on which reads a body for a route.
            raise HTTPException(
                408, f"The body did not come within {config.read_seconds:g} s; {size:,} bytes of it did."
            ) from None
        size += len(message.get("body", b""))
        ended = not message.get("more_body", False)
        if size > config.max_body:
            raise HTTPException(413, f"The body has more than the {config.max_body:,} bytes that this server takes.")
        return message

    return received


def chosen_id(headers: Mapping[str, str]) -> str:
    """A request's id: the one that came where it can be one, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _ID.fullmatch(given) else secrets.token_hex(8)


def _role(method: str, path: str) -> Role:
    if path.startswith("/admin"):
        return "admin"
    return "write" if method in _WRITES or path == "/v1/events" else "read"
