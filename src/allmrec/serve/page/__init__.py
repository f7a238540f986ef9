"""The page at `/`: files that ship with the package, and no data in them."""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter
from fastapi.responses import Response
from starlette.exceptions import HTTPException

__all__ = ["ROUTER"]

ROUTER = APIRouter(include_in_schema=False)

_TYPES = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
# Nothing from elsewhere is loaded or run, and no other page shows this one in a frame.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@ROUTER.get("/")
async def page() -> Response:
    """The page."""
    return _file("index.html")


@ROUTER.get("/page/{name}")
async def part(name: str) -> Response:
    """Its style and its script."""
    if name not in ("style.css", "page.js"):
        raise HTTPException(404, "There is no such part of the page.")
    return _file(name)


def _file(name: str) -> Response:
    text = resources.files(__name__).joinpath(name).read_text("utf-8")
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache", "Referrer-Policy": "no-referrer"}
    return Response(text, media_type=_TYPES[name.rpartition(".")[2]], headers=headers)
