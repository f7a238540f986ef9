"""Routes for whoever runs the server: health, metrics, what is served, reloading."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from allmrec.core.artifacts import read_json
from allmrec.core.errors import AllmrecError, UnknownIdError
from allmrec.serve.config import LIMITS
from allmrec.serve.problems import PROBLEMS, RefusedError, request_id_of
from allmrec.serve.requests import ReloadIn
from allmrec.serve.routes.common import service_of, versioned
from allmrec.serve.status import Readiness, Reloaded, Reported, ServedModel

__all__ = ["ROUTER"]

ROUTER = APIRouter(responses={status: PROBLEMS[status] for status in (401, 403, 405, 500, 503)}, tags=["operations"])


@ROUTER.head("/health/live", include_in_schema=False)
@ROUTER.get("/health/live")
async def live() -> dict[str, str]:
    """Whether the process lives."""
    return {"status": "live"}


@ROUTER.head("/health/ready", include_in_schema=False)
@ROUTER.get(
    "/health/ready",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "Loading, or about to end"}},
)
async def ready(request: Request) -> Any:
    """Whether a model is loaded and has answered a first request."""
    service = service_of(request)
    if not service.ready:
        return JSONResponse({"status": "stopping" if service.draining else "loading"}, 503)
    versions = {label: one.version for label, one in service.holder.versions.items()}
    return {"status": "ready", "versions": versions}


@ROUTER.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """What Prometheus reads."""
    service = service_of(request)
    for lane in service.lanes:
        service.metrics.waiting.labels(lane.name).set(lane.waiting)
    text = await asyncio.to_thread(service.metrics.text)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@ROUTER.get("/v1/model", response_model=ServedModel, tags=["ask"])
async def model(request: Request) -> Any:
    """Which versions are served, with which systems, and what this server's limits are."""
    service = service_of(request)
    await service.known([])
    versions = [await service.call(service.fast, one.about) for one in service.holder.versions.values()]
    config = service.config
    limits = {name: getattr(config, name) for name in LIMITS}
    body = {
        "request_id": request_id_of(request),
        "version": versions[0]["version"],
        "versions": versions,
        "share": config.share,
        "limits": limits,
    }
    return versioned(body)


@ROUTER.get("/v1/report", response_model=Reported, tags=["ask"], responses={404: PROBLEMS[404]})
async def report(request: Request) -> Any:
    """The run's last evaluation, as `allmrec evaluate` wrote it."""
    service = service_of(request)
    served = service.holder.versions["main"]
    path = served.run.path / "report.json"
    if not path.is_file():
        raise UnknownIdError(f"This run has no report. Make one: allmrec evaluate {served.run.path.name}")
    found = await asyncio.to_thread(read_json, path)
    body = {"request_id": request_id_of(request), "version": served.version, "report": found}
    return Response(json.dumps(body), media_type="application/json", headers={"X-Allmrec-Version": served.version})


@ROUTER.post(
    "/admin/reload",
    response_model=Reloaded,
    responses={**dict.fromkeys((409, 422), PROBLEMS[422]), 415: PROBLEMS[415]},
    tags=["admin"],
)
async def reload(request: Request, asked: ReloadIn) -> Any:
    """Let a newly trained run take over, or refuse it; no request is dropped, and what is in hand ends as it began."""
    service = service_of(request)
    if service.config.shared and asked.label != "main":
        raise RefusedError("With several processes only the main version can be reloaded; start the server again.", 422)
    run = None if asked.run is None else Path(asked.run)
    before, now = await service.holder.reload(run, asked.label)
    if service.config.shared:
        try:
            service.run_number = await service.stored(service.state.serve_run, str(now.run.path.absolute()))
        except AllmrecError as error:
            raise RefusedError(f"Taken here, but the other processes could not be told: {error}", 409) from error
    body = {"request_id": request_id_of(request), "version": now.version, "label": now.label, "before": before}
    return versioned(body)
