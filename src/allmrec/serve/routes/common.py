"""What routes have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from fastapi import Header, Request
from fastapi.responses import JSONResponse

from allmrec.serve.service import Service

__all__ = ["Version", "begun_of", "service_of", "versioned"]

Version: TypeAlias = Annotated[
    str | None,
    Header(
        alias="X-Allmrec-Version",
        max_length=200,
        description="Which version is to answer, by label or by version; none: by share.",
    ),
]


def service_of(request: Request) -> Service:
    """The server that a request came to."""
    service: Service = request.app.state.service
    return service


def begun_of(request: Request) -> float:
    """When a request came, in seconds of the monotonic clock."""
    begun: float = request.scope["state"]["begun"]
    return begun


def versioned(body: Mapping[str, Any], status: int = 200) -> JSONResponse:
    """An answer with its version in a header too."""
    return JSONResponse(body, status, {"X-Allmrec-Version": str(body["version"])})
