"""Errors as answers: problem details (RFC 9457) with the words of the library's own errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from allmrec.core.errors import (
    AllmrecError,
    ArtifactError,
    ConfigError,
    DataError,
    ModelNotFoundError,
    NoSpaceError,
    ServerError,
    UnknownIdError,
)
from allmrec.core.visible import visible
from allmrec.serve.lanes import QueueFullError

__all__ = ["PROBLEMS", "Problem", "RefusedError", "problem", "problem_of"]

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """Why a request was not answered (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:allmrec:UnknownIdError",
                "title": "An id that is not known",
                "status": 404,
                "detail": "There is no item 'B999' among 1682.",
                "instance": "/v1/recommend",
                "request_id": "0f3c9a1be2d44f10",
            }
        }
    )

    type: str = Field(description="`urn:allmrec:` and the name of the library's error.")
    title: str = Field(description="What kind of error it is.")
    status: int = Field(description="The status of the answer.")
    detail: str = Field(description="What was found, what was expected and what to do, in the library's words.")
    instance: str = Field("", description="The path that was asked.")
    request_id: str = Field("", description="Of the answer; log lines have it too.")
    errors: list[dict[str, str]] = Field([], description="Fields that are wrong: `path` and `message`.")


class RefusedError(ServerError):
    """A request that is refused for what it is, whatever the state of the server; `status` is a 4xx."""


# The first kind that fits counts.
_KINDS: tuple[tuple[type[Exception], int, str], ...] = (
    (UnknownIdError, 404, "An id that is not known"),
    (QueueFullError, 429, "Too many requests wait"),
    (ConfigError, 422, "A request that cannot be answered"),
    (DataError, 422, "Data that cannot be used"),
    (NoSpaceError, 507, "No space is left"),
    (ArtifactError, 409, "Files of a model that cannot be used"),
    (ModelNotFoundError, 409, "A model that is not to be had"),
)
_TITLES = {
    400: "A request that cannot be read",
    401: "No key, or one that is not known",
    403: "Not allowed",
    404: "Not found",
    405: "Another method is expected",
    408: "The request came too slowly",
    409: "At odds with what is there",
    413: "A body that is too large",
    415: "Another kind of body is expected",
    421: "Another host is expected",
    422: "A request that cannot be answered",
    429: "Too many requests",
    500: "A fault of the server",
    503: "Not to be had right now",
    507: "No space is left",
}

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": _TITLES[status], "content": {MEDIA_TYPE: {}}}
    for status in (400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 429, 500, 503, 507)
}


def problem(
    status: int,
    detail: str,
    *,
    kind: str = "ServerError",
    title: str | None = None,
    instance: str = "",
    request_id: str = "",
    errors: Sequence[Mapping[str, str]] = (),
    retry_after: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An answer that says why there is none."""
    body = Problem(
        type=f"urn:allmrec:{kind}",
        title=title or _TITLES.get(status, "An error"),
        status=status,
        detail=visible(detail, lines=True)[:4000],
        instance=visible(instance)[:500],
        request_id=request_id,
        errors=[dict(one) for one in errors],
    )
    sent = dict(headers or {})
    if retry_after is not None:
        sent["Retry-After"] = str(max(1, round(retry_after)))
    if status == 401:
        sent["WWW-Authenticate"] = "Bearer"
    content = body.model_dump(mode="json") if errors else body.model_dump(mode="json", exclude={"errors"})
    return JSONResponse(content, status, sent, MEDIA_TYPE)


def problem_of(error: Exception, instance: str = "", request_id: str = "") -> JSONResponse:
    """The answer that an error gives."""
    named: dict[str, Any] = {"instance": instance, "request_id": request_id}
    if isinstance(error, RequestValidationError):
        return _of_fields(error, named)
    if isinstance(error, HTTPException):
        seconds = 1.0 if error.status_code == 429 else None
        return problem(error.status_code, str(error.detail), retry_after=seconds, headers=error.headers, **named)
    if isinstance(error, ServerError):
        return problem(error.status or 503, str(error), retry_after=error.retry_after, **named)
    for kind, status, title in _KINDS:
        if isinstance(error, kind):
            seconds = error.seconds if isinstance(error, QueueFullError) else None
            name = "ServerError" if kind is QueueFullError else kind.__name__
            return problem(status, str(error), kind=name, title=title, retry_after=seconds, **named)
    if isinstance(error, AllmrecError):
        return problem(500, str(error), kind=type(error).__name__, **named)
    detail = "Something that should not happen did, and the server's log says what. Nothing of the request was kept half done."
    return problem(500, detail, **named)


def _of_fields(error: RequestValidationError, named: dict[str, Any]) -> JSONResponse:
    """Wrong fields, each named by its whole path."""
    found = []
    for one in error.errors()[:20]:
        path = ".".join(_path(one, error.body))
        message = str(one["msg"]).removeprefix("Value error, ")
        if one["type"] == "json_invalid":
            message = f"{message} at character {one['loc'][-1]}: {one.get('ctx', {}).get('error', '')}"
        found.append({"path": visible(path)[:200], "message": visible(message)[:500]})
    unreadable = any(one["type"] == "json_invalid" for one in error.errors())
    detail = "; ".join(f"{one['path']}: {one['message']}" if one["path"] else one["message"] for one in found)
    return problem(400 if unreadable else 422, f"{detail}.", kind="ConfigError", errors=found, **named)


def _path(error: Mapping[str, Any], body: Any) -> list[str]:
    """Where in a request an error is.

    Where one of several kinds of values may stand, pydantic names the kind that was tried in the path too; only what leads on in
    the body, and a field that is missing there, are parts of it.
    """
    start, *parts = error["loc"]
    if start != "body":
        return [str(part) for part in (start, *parts)]
    path, value = [], body
    for place, part in enumerate(parts):
        inside = part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int)
        if inside:
            value = value[part]
        elif error["type"] != "missing" or place < len(parts) - 1:
            continue
        path.append(str(part))
    return path


def request_id_of(request: Request) -> str:
    """The request's id, which the guard gave it."""
    return str(request.scope.get("state", {}).get("request_id", ""))
