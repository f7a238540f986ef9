"""Routes about users: events at run time, and histories."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import AfterValidator

from allmrec.core.errors import ConfigError
from allmrec.serve.answers import Events, History, UserList
from allmrec.serve.fields import checked_id
from allmrec.serve.problems import PROBLEMS, request_id_of
from allmrec.serve.requests import EventsIn
from allmrec.serve.routes.common import Version, service_of, versioned
from allmrec.serve.served import Served
from allmrec.serve.state import Event
from allmrec.serve.untrained import Step, history_of

__all__ = ["ROUTER"]

ROUTER = APIRouter(responses=PROBLEMS, tags=["users"])


@ROUTER.post("/v1/events", response_model=Events)
async def events(
    request: Request,
    asked: EventsIn,
    call: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            pattern=r'^"?[A-Za-z0-9._-]{1,128}"?$',
            description="Of the call: gives each event without a key one, so that the same call again stores nothing twice.",
        ),
    ] = None,
) -> Any:
    """Store interactions; they are on disk when the answer is there, and the user's next recommendation knows them.

    An event whose key is known already is not stored again, so a call that was cut off can be repeated.
    """
    service = service_of(request)
    if len(asked.events) > service.config.max_rows:
        raise ConfigError(
            f"{len(asked.events)} events in one call; this server takes {service.config.max_rows} at the most."
        )
    rows = [
        Event(
            one.user_id,
            one.item_id,
            int(time.time()) if one.time is None else one.time,
            one.key or _new_key(call, place),
        )
        for place, one in enumerate(asked.events)
    ]
    await service.known([])
    written = await service.stored(service.state.write_events, rows)
    served = service.holder.pick(None, rows[0].user_id)
    unknown = dict.fromkeys(row.item_id for row in rows if row.item_id not in served.dataset.items)
    body = {
        "request_id": request_id_of(request),
        "version": served.version,
        "stored": written.stored,
        "repeated": written.repeated,
        "unknown_items": list(unknown),
    }
    return versioned(body)


@ROUTER.get("/v1/users", response_model=UserList)
async def users(
    request: Request,
    query: Annotated[str, Query(max_length=200, description="How the id begins.")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[int, Query(ge=0, le=10**12, description="The `after` of the last answer.")] = 0,
    version: Version = None,
) -> Any:
    """Users of the training data."""
    service = service_of(request)
    served = service.holder.pick(version)
    found = await service.call(service.fast, lambda: _users(served, query, limit, after))
    body = {"request_id": request_id_of(request), "version": served.version, **found}
    return versioned(body)


@ROUTER.get("/v1/users/{user_id:path}/history", response_model=History)
async def history(
    request: Request,
    user_id: Annotated[str, Path(min_length=1, max_length=512), AfterValidator(checked_id)],
    limit: Annotated[int, Query(ge=1, le=10_000, description="How many of the latest.")] = 1000,
    version: Version = None,
) -> Any:
    """A user's history: what the training data holds, then events."""
    service = service_of(request)
    found, notes = await service.known([user_id])
    if notes:
        # Half a history would look like a whole one.
        found = (await service.stored(service.state.read, [user_id]))[0]
    served = service.holder.pick(version, user_id)
    rows = await asyncio.to_thread(_history, served, user_id, found.get(user_id, []))
    body = {
        "request_id": request_id_of(request),
        "version": served.version,
        "user_id": user_id,
        "length": len(rows),
        "interactions": rows[-limit:],
    }
    return versioned(body)


def _users(served: Served, query: str, limit: int, after: int) -> dict[str, Any]:
    ids = served.dataset.users.ids
    found: list[str] = []
    place = after
    while place < len(ids) and len(found) < limit:
        if ids[place].startswith(query):
            found.append(ids[place])
        place += 1
    return {"users": found, "after": place if place < len(ids) else None}


def _history(served: Served, user_id: str, events: list[Event]) -> list[dict[str, Any]]:
    data = served.dataset
    if user_id not in data.users and not events:
        data.users.number(user_id)
    return [_step(served, step) for step in history_of(data, user_id, events)]


def _step(served: Served, step: Step) -> dict[str, Any]:
    number = served.dataset.items.get(step.item_id)
    title = None if number is None else served.dataset.catalogue.titles[number]
    return {**step._asdict(), "title": title, "known": number is not None}


def _new_key(call: str | None, place: int) -> str:
    """A key for an event that came without one: the same for the same place in the same call, where the call has a key."""
    return f"auto-{uuid.uuid4()}" if call is None else f"call-{call}-{place}"
