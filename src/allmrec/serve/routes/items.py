"""Routes about the catalogue: search, new items, other texts, withdrawing."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import AfterValidator

from allmrec.core.errors import ConfigError
from allmrec.serve.answers import ItemList, ItemsChanged, OneItem
from allmrec.serve.fields import checked_id
from allmrec.serve.problems import PROBLEMS, RefusedError, request_id_of
from allmrec.serve.requests import ItemChange, ItemIn, ItemsIn, ItemText
from allmrec.serve.routes.common import Version, service_of, versioned
from allmrec.serve.served import Served
from allmrec.serve.service import Service
from allmrec.serve.state import StoredItem

__all__ = ["ROUTER"]

# How often a change is tried while others change the same item.
_TRIES = 10
# Seconds that texts in bulk may take to be read; whoever sends them says how long they wait.
_LONG = 600.0

ROUTER = APIRouter(
    responses={**PROBLEMS, 409: PROBLEMS[422] | {"description": "An item that came with the run"}}, tags=["items"]
)
ItemId = Annotated[str, Path(min_length=1, max_length=512, description="The item's id."), AfterValidator(checked_id)]


@ROUTER.get("/v1/items", response_model=ItemList)
async def search(
    request: Request,
    query: Annotated[
        str, Query(max_length=500, description="Words that the title holds, or an id; empty: every item.")
    ] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[int, Query(ge=0, le=10**12, description="The `after` of the last answer.")] = 0,
    version: Version = None,
) -> Any:
    """Search the catalogue by title."""
    service = service_of(request)
    await service.known([])
    served = service.holder.pick(version)
    found = await service.call(service.fast, lambda: served.find(query, limit, after))
    rows = [_item(served, number) for number in found]
    more = found[-1] if len(found) == limit else None
    return versioned({"request_id": request_id_of(request), "version": served.version, "items": rows, "after": more})


@ROUTER.put("/v1/items", response_model=ItemsChanged)
async def put_items(request: Request, asked: ItemsIn) -> Any:
    """Take up new items from their texts alone, all or none; what came before under the same id is replaced.

    They can be recommended, ranked and named in histories as soon as the answer is there.
    """
    service = service_of(request)
    if len(asked.items) > service.config.max_rows:
        raise ConfigError(
            f"{len(asked.items)} items in one call; this server takes {service.config.max_rows} at the most."
        )
    ids = [item.item_id for item in asked.items]
    if len(set(ids)) < len(ids):
        twice = next(name for place, name in enumerate(ids) if name in ids[:place])
        raise ConfigError(f"{twice!r} stands twice among the items; give each once.")
    return await _store(service, [_stored(item) for item in asked.items], request_id_of(request))


@ROUTER.get("/v1/items/{item_id:path}", response_model=OneItem)
async def get_item(request: Request, item_id: ItemId, version: Version = None) -> Any:
    """One item."""
    service = service_of(request)
    await service.known([])
    served = service.holder.pick(version)
    number = await asyncio.to_thread(served.dataset.items.number, item_id)
    return versioned({"request_id": request_id_of(request), "version": served.version, **_item(served, number)})


@ROUTER.put("/v1/items/{item_id:path}", response_model=ItemsChanged)
async def put_item(request: Request, item_id: ItemId, asked: ItemText) -> Any:
    """Take up one new item, or replace its texts."""
    item = ItemIn(item_id=item_id, **asked.model_dump())
    return await _store(service_of(request), [_stored(item)], request_id_of(request))


@ROUTER.patch("/v1/items/{item_id:path}", response_model=ItemsChanged)
async def patch_item(request: Request, item_id: ItemId, asked: ItemChange) -> Any:
    """Change some of an item: texts of one that came after training, `available` of any. What is not named stays."""
    service = service_of(request)
    await service.known([])
    changes = asked.model_dump(exclude_unset=True)
    available = changes.pop("available", None)
    if "categories" in changes:
        changes["categories"] = tuple(changes["categories"] or ())
    for _ in range(_TRIES):
        before = await service.stored(service.state.item, item_id)
        if before is None or not changes:
            break
        after = StoredItem(**{**vars(before), **changes})
        await _encoded(service, [after])
        if await service.stored(service.state.change_item, before, after, available):
            return await _changed(service, 1, request_id_of(request))
    else:
        raise RefusedError(f"Others change {item_id!r} at the same time, again and again. Send it again.", 409)
    if before is None:
        # Raises where nobody knows the item.
        await asyncio.to_thread(service.holder.pick(None).dataset.items.number, item_id)
        if changes:
            raise _trained(item_id)
    if available is not None:
        await service.stored(service.state.withdraw, item_id, not available)
    return await _changed(service, 1, request_id_of(request))


@ROUTER.delete("/v1/items/{item_id:path}", response_model=ItemsChanged)
async def delete_item(request: Request, item_id: ItemId) -> Any:
    """Forget an item that came after training; one that came with a run is not recommended any more."""
    service = service_of(request)
    await service.known([])
    trained = any(_came_with(served, item_id) for served in service.holder.versions.values())
    if not trained and await service.stored(service.state.item, item_id) is None:
        # Raises, as nobody knows the item.
        await asyncio.to_thread(service.holder.pick(None).dataset.items.number, item_id)
    await service.stored(service.state.remove_item, item_id, trained)
    return await _changed(service, 1, request_id_of(request))


async def _store(service: Service, items: list[StoredItem], request_id: str) -> JSONResponse:
    """Encode, store, and take up, in this order: what cannot be taken up is not stored."""
    await service.known([])
    await _encoded(service, items)
    await service.stored(service.state.write_items, items)
    return await _changed(service, len(items), request_id)


async def _encoded(service: Service, items: list[StoredItem]) -> None:
    """Let every version that reads texts read those of items, which are about to be stored.

    Raises:
        RefusedError: an item came with the run that is served.
        ConfigError: no version reads texts.
    """
    main = service.holder.pick(None)
    if (known := next((item.item_id for item in items if _came_with(main, item.item_id)), None)) is not None:
        raise _trained(known)
    able = [served for served in service.holder.versions.values() if served.speaker is not None]
    for served in able or [main]:
        new = [item for item in items if not _came_with(served, item.item_id)]
        if new:
            await service.call(service.encoder, partial(service.holder.encode, served, new, keep=True), _LONG)


async def _changed(service: Service, count: int, request_id: str) -> JSONResponse:
    _, version, _ = await service.stored(service.state.read, [])
    await service.holder.refresh(version, wait=True)
    served = service.holder.pick(None)
    body = {
        "request_id": request_id,
        "version": served.version,
        "changed": count,
        "items": served.dataset.n_items - len(served.withdrawn),
    }
    return versioned(body)


def _came_with(served: Served, item_id: str) -> bool:
    """Whether an item came with the run of a version."""
    number = served.dataset.items.get(item_id)
    return number is not None and number <= served.n_trained


def _trained(item_id: str) -> RefusedError:
    return RefusedError(
        f"{item_id!r} came with the run, and its texts belong to the training. Change them there and train again; whether it is "
        "recommended can be changed here (available).",
        409,
    )


def _stored(item: ItemIn) -> StoredItem:
    return StoredItem(item.item_id, item.title, item.description, tuple(item.categories))


def _item(served: Served, number: int) -> dict[str, Any]:
    data = served.dataset
    return {
        "item_id": data.items.id(number),
        "title": data.catalogue.titles[number],
        "description": data.catalogue.descriptions[number],
        "categories": list(data.catalogue.categories[number]),
        "added": number > served.n_trained,
        "available": number not in served.withdrawn,
    }
