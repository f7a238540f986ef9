"""Routes that answer with what a model computes: recommend, rerank, similar, explain."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from allmrec.core.errors import ConfigError, UnknownIdError
from allmrec.serve.answering import answered, check_limits, gathered, seconds_of, timings
from allmrec.serve.answers import Answer, Answers, Reranked, Similar
from allmrec.serve.problems import PROBLEMS, request_id_of
from allmrec.serve.requests import ExplainIn, RecommendIn, RecommendMany, RecommendOne, RerankIn, SimilarIn
from allmrec.serve.reranking import reranked
from allmrec.serve.routes.common import Version, begun_of, service_of, versioned
from allmrec.serve.served import Served
from allmrec.serve.speaking import spoken

__all__ = ["ROUTER"]

ROUTER = APIRouter(responses=PROBLEMS, tags=["ask"])


@ROUTER.post("/v1/recommend", response_model=Answer | Answers)
async def recommend(request: Request, asked: RecommendIn, version: Version = None) -> Any:
    """Recommend from the whole catalogue, for one request or for many, which are computed together.

    Where the asked system cannot answer (unknown user, empty history, no known item, full queue, deadline) the next cheaper one
    does, and `fallbacks` says which did not and why.
    """
    service, request_id = service_of(request), request_id_of(request)
    many = asked.requests if isinstance(asked, RecommendMany) else [asked]
    check_limits(service, many)
    least = min(seconds_of(service, one.deadline_ms) for one in many)
    events, notes = await service.known([one.user for one in many if one.user is not None], least)

    def served(one: RecommendOne) -> Served:
        return service.holder.pick(version, one.user or "\n".join(one.history or ()))

    found = await gathered([answered(service, served(one), one, events, request_id, begun_of(request)) for one in many])
    for answer in found:
        answer["notes"] = [*notes, *answer["notes"]]
    if isinstance(asked, RecommendOne):
        return versioned(found[0])
    named = {answer["version"] for answer in found}
    return versioned({"request_id": request_id, "version": ", ".join(sorted(named)), "answers": found})


@ROUTER.post("/v1/rerank", response_model=Reranked)
async def rerank(request: Request, asked: RerankIn, version: Version = None) -> Any:
    """Put documents in order for a history, in the shape of Jina's and Cohere's rerankers; Gorse's ranker can call it.

    A text of several lines is a history with an item a line. Documents that are no item of the catalogue are ranked by their text.
    """
    service = service_of(request)
    events, notes = await service.known([], seconds_of(service, asked.deadline_ms))
    key = asked.query if isinstance(asked.query, str) else "\n".join(asked.query)
    served = service.holder.pick(version, asked.user or key)
    found = await reranked(service, served, asked, events, request_id_of(request), begun_of(request))
    found["meta"]["notes"] = [*notes, *found["meta"]["notes"]]
    return versioned(found)


@ROUTER.post("/v1/similar", response_model=Similar)
async def similar(request: Request, asked: SimilarIn, version: Version = None) -> Any:
    """Items whose vectors are most alike."""
    service = service_of(request)
    if asked.k > service.config.max_k:
        raise ConfigError(f"{asked.k} items are asked for; this server gives {service.config.max_k} at the most.")
    await service.known([])
    served = service.holder.pick(version)
    number = await asyncio.to_thread(served.dataset.items.number, asked.item_id)
    done = await service.compute(
        service.fast,
        object(),
        lambda asks: [_similar(served, number, one) for one in asks],
        asked,
        seconds_of(service, None),
    )
    return versioned(
        {
            "request_id": request_id_of(request),
            "version": served.version,
            "item_id": asked.item_id,
            **done.value,
            "timings": timings(done, begun_of(request)),
        }
    )


@ROUTER.post(
    "/v1/explain",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: start, piece (`text`), then end or error.",
            "content": {"text/event-stream": {}},
        }
    },
)
async def explain(request: Request, asked: ExplainIn, version: Version = None) -> Any:
    """Let the language model speak of an item or a user; server-sent events come while it decodes.

    It was not taught to speak of items, and what it says is not the cause of a recommendation.
    """
    service = service_of(request)
    events, notes = await service.known([asked.user] if asked.user is not None else [])
    served = service.holder.pick(version, asked.user or "\n".join(asked.history or ()))
    pieces = await spoken(service, served, asked, events, notes, request_id_of(request))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Allmrec-Version": served.version}
    return StreamingResponse(pieces, media_type="text/event-stream", headers=headers)


def _similar(served: Served, number: int, asked: SimilarIn) -> dict[str, Any]:
    by: str | None = asked.by or next(iter(served.vectors), None)
    if by is None or by not in served.vectors:
        raise ConfigError(
            f"No vectors of the kind {by or 'joint'} are served; served are {', '.join(served.vectors) or 'none'}."
        )
    vectors = served.vectors[by]
    if not vectors[number].any():
        raise UnknownIdError(
            f"{asked.item_id!r} has no vector of the kind {by}: that model does not know it. Ask by joint."
        )
    cosines = vectors @ vectors[number]
    cosines[[0, number, *served.withdrawn.tolist()]] = -np.inf
    order = [int(n) for n in np.argsort(-cosines, kind="stable")[: asked.k] if np.isfinite(cosines[n])]
    data = served.dataset
    items = [
        {
            "item_id": data.items.id(n),
            "title": data.catalogue.titles[n],
            "categories": list(data.catalogue.categories[n]),
            "similarity": float(cosines[n]),
        }
        for n in order
    ]
    return {"by": by, "items": items}
