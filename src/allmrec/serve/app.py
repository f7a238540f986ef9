"""Puts the application together."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib import metadata

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from allmrec.core.errors import AllmrecError, ServerError
from allmrec.core.memory import reuse_memory
from allmrec.serve import page
from allmrec.serve.config import ServeConfig
from allmrec.serve.describing import describe_keys
from allmrec.serve.guard import Guard
from allmrec.serve.logs import log
from allmrec.serve.problems import problem_of, request_id_of
from allmrec.serve.routes import ask, items, operations, users
from allmrec.serve.service import LateError, Service

__all__ = ["make_app"]

_ABOUT = """A trained run of allmrec behind HTTP.

Every answer has a `request_id`, the `version` of the weights, timings, and which part answered. Errors are problem details
(RFC 9457) with the words of the library's own errors.
"""

_ROUTERS = tuple(module.ROUTER for module in (ask, users, items, operations, page))


def make_app(config: ServeConfig, failed: Callable[[AllmrecError], None] | None = None, waits: bool = False) -> FastAPI:
    """The application. It begins to load its models when it starts, and answers 503 until they are there.

    Args:
        config: its settings.
        failed: takes the error where the models cannot be loaded.
        waits: take no connection before they are there, which other processes take meanwhile.

    Raises:
        ConfigError: the database or the file of keys cannot be used.
    """
    service = Service(config)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        reuse_memory()
        with suppress(ValueError, RuntimeError, NotImplementedError):
            # Only the main thread of a process can.
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.reload_in_background)
        loading = asyncio.create_task(_loaded(service, failed))
        if waits:
            await loading
        yield
        loading.cancel()
        await service.stop()

    app = FastAPI(
        title="allmrec",
        description=_ABOUT,
        version=metadata.version("allmrec"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    for router in _ROUTERS:
        app.include_router(router)
    describe_keys(app, service.keys.asked)
    for kind in (AllmrecError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _problem)
    app.add_middleware(Guard, service=service)
    # The last that is added is the first that a request meets; so a page of another origin can read why it was refused.
    if config.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.cors),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    return app


async def _loaded(service: Service, failed: Callable[[AllmrecError], None] | None) -> None:
    try:
        await service.start()
    except Exception as error:  # whatever it is, the server ends with it; else it would say for ever that it is loading
        known = error if isinstance(error, AllmrecError) else None
        log("not loaded", logging.ERROR, None if known else error, reason=str(error))
        if failed is not None:
            failed(
                known or ServerError(f"The server cannot start: {type(error).__name__}: {error}. Its log says where.")
            )


async def _problem(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, LateError):
        error = HTTPException(
            429,
            f"{error} Ask again later, give more time (deadline_ms, to the limit that GET /v1/model names), or let a cheaper system answer.",
        )
    if isinstance(error, HTTPException) and error.status_code == 405:
        error = HTTPException(405, error.detail, {"Allow": ", ".join(_methods(request.scope["path"]))})
    return problem_of(error, request.url.path, request_id_of(request))


def _methods(path: str) -> list[str]:
    """What may be asked of a path; the framework names the methods of one of its routes only."""
    routes = [route for router in _ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    return sorted({method for route in routes if route.path_regex.match(path) for method in route.methods or ()})
