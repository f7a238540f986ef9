"""What OpenAPI is told of keys. The guard asks for them before any route, so no route can say so."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

__all__ = ["describe_keys"]

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer KEY`."},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key in a header of its own."},
}
# Whoever asks whether a server lives has no key.
_OPEN = "/health/"


def describe_keys(app: FastAPI, asked: bool) -> None:
    """Have the description of an application name the two ways to send a key.

    Args:
        app: the application; its routes may still be added.
        asked: whether it asks for a key; if not, every route says that it goes without one too.
    """
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = plain()
            schema.setdefault("components", {})["securitySchemes"] = _SCHEMES
            ways: list[dict[str, list[str]]] = [{name: []} for name in _SCHEMES]
            schema["security"] = ways if asked else [{}, *ways]
            for path, operations in schema["paths"].items():
                if path.startswith(_OPEN):
                    for operation in operations.values():
                        operation["security"] = []
        return app.openapi_schema or {}

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI's documentation extends it
