"""Routes about the catalogue: search, new items, other texts, withdrawing."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import AfterValidator

from allmrec.core.errors import ConfigError
from allmrec.serve.answers import Item, ItemList, ItemsChanged
from allmrec.serve.problems import PROBLEMS, RefusedError, request_id_of
from allmrec.serve.requests import ItemChange, ItemIn, ItemsIn, ItemText, checked_id
from allmrec.serve.routes.common import Version, service_of, versioned
from allmrec.serve.served import Served
from allmrec.serve.service import Service
from allmrec.serve.state import StoredItem

__all__ = ["ROUTER"]

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
    served = service.holder.pick(version, query)
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


@ROUTER.get("/v1/items/{item_id:path}", response_model=Item)
async def get_item(request: Request, item_id: ItemId, version: Version = None) -> Any:
    """One item."""
    service = service_of(request)
    await service.known([])
    served = service.holder.pick(version, item_id)
    number = await asyncio.to_thread(served.dataset.items.number, item_id)
    return JSONResponse(_item(served, number), headers={"X-Allmrec-Version": served.version})


@ROUTER.put("/v1/items/{item_id:path}", response_model=ItemsChanged)
async def put_item(request: Request, item_id: ItemId, asked: ItemText) -> Any:
    """Take up one new item, or replace its texts."""
    item = ItemIn(item_id=item_id, **asked.model_dump())
    return await _store(service_of(request), [_stored(item)], request_id_of(request))


@ROUTER.patch("/v1/items/{item_id:path}", response_model=ItemsChanged)
async def patch_item(request: Request, item_id: ItemId, asked: ItemChange) -> Any:
    """Change some of an item: texts of one that came after training, `available` of any."""
    service = service_of(request)
    await service.known([])
    stored = {one.item_id: one for one in (await asyncio.to_thread(service.state.items))[0]}
    changes = asked.model_dump(exclude_unset=True)
    available = changes.pop("available", None)
    before = stored.get(item_id)
    if before is None:
        # Raises where nobody knows the item.
        served = service.holder.versions["main"]
        await asyncio.to_thread(served.dataset.items.number, item_id)
        if changes:
            raise _trained(item_id)
    elif changes:
        if "categories" in changes:
            changes["categories"] = tuple(changes["categories"] or ())
        await _store(service, [StoredItem(**{**vars(before), **changes})], request_id_of(request))
    if available is not None:
        await asyncio.to_thread(service.state.withdraw, item_id, not available)
    return await _changed(service, 1, request_id_of(request))


@ROUTER.delete("/v1/items/{item_id:path}", response_model=ItemsChanged)
async def delete_item(request: Request, item_id: ItemId) -> Any:
    """Forget an item that came after training; one that came with the run is not recommended any more."""
    service = service_of(request)
    await service.known([])
    stored = {one.item_id for one in (await asyncio.to_thread(service.state.items))[0]}
    if item_id in stored:
        await asyncio.to_thread(service.state.remove_item, item_id)
    else:
        await asyncio.to_thread(service.holder.versions["main"].dataset.items.number, item_id)
        await asyncio.to_thread(service.state.withdraw, item_id, True)
    return await _changed(service, 1, request_id_of(request))


async def _store(service: Service, items: list[StoredItem], request_id: str) -> JSONResponse:
    """Encode, store, and take up, in this order: what cannot be taken up is not stored."""
    await service.known([])
    for served in service.holder.versions.values():
        for item in items:
            number = served.dataset.items.get(item.item_id)
            if number is not None and number <= served.n_trained:
                raise _trained(item.item_id)
        await service.holder.encoded(served, items, keep=True)
    await asyncio.to_thread(service.state.write_items, items)
    return await _changed(service, len(items), request_id)


async def _changed(service: Service, count: int, request_id: str) -> JSONResponse:
    _, _, version = await asyncio.to_thread(service.state.items)
    await service.holder.refresh(version)
    served = service.holder.versions["main"]
    body = {
        "request_id": request_id,
        "version": served.version,
        "changed": count,
        "items": served.dataset.n_items - len(served.withdrawn),
    }
    return versioned(body)


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
