"""Reranking in the shape of Jina and Cohere: the query is a history, documents are items or texts of items that are new."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from allmrec.core.errors import ConfigError
from allmrec.ranking import Query, Ranking
from allmrec.serve.answering import first_that_answers, seconds_of, timings
from allmrec.serve.lanes import QueueFullError
from allmrec.serve.requests import DocumentIn, RerankIn
from allmrec.serve.served import Offer, Served
from allmrec.serve.service import LateError, Service
from allmrec.serve.state import Event, StoredItem
from allmrec.serve.whom import Whom, whom

__all__ = ["reranked"]

# The share of an answer's time that texts of new items may take to be read.
_FOR_TEXTS = 0.7


# How many ids a note names.
_NAMED = 3


@dataclass(frozen=True)
class _Document:
    """A document of the request.

    Attributes:
        number: of the item that it is; None: it is none.
        texts: title and description of the item that it would be; None: nothing is known of it but an id.
        shown: what of it comes back.
    """

    number: int | None
    texts: tuple[str, str | None] | None
    shown: dict[str, str]


async def reranked(
    service: Service,
    served: Served,
    request: RerankIn,
    events: Mapping[str, Sequence[Event]],
    request_id: str,
    start: float,
) -> dict[str, Any]:
    """The answer as JSON.

    Args:
        service, served: who computes, with which version.
        request: what is asked.
        events: of users, oldest first.
        request_id: of the answer.
        start: when the request came, in seconds of the monotonic clock; its time runs from there.

    Raises:
        ConfigError: too many documents.
        QueueFullError: every queue is full.
        LateError: the documents are texts of new items alone, and they were not read in time.
    """
    if len(request.documents) > service.config.max_documents:
        raise ConfigError(
            f"{len(request.documents)} documents; this server ranks {service.config.max_documents} at a time."
        )
    offer = served.offers.get(request.model or "", served.offer(None))
    about, documents = await asyncio.to_thread(_looked_up, served, request, events)
    until = start + seconds_of(service, request.deadline_ms)
    notes = _unknown(documents)
    version = served
    if new := list(dict.fromkeys(one.texts for one in documents if one.number is None and one.texts is not None)):
        if served.speaker is None:
            notes.append("Nothing that reads texts is served here, so documents that are no item stand last.")
        else:
            # They join the catalogue for this request alone.
            stored = [StoredItem(f"\x00{place}", *texts, ()) for place, texts in enumerate(new)]
            try:
                left = _FOR_TEXTS * (until - time.monotonic())
                work = partial(service.holder.encode, served, stored)
                rows, vectors = await service.call(service.encoder, work, left)
            except (QueueFullError, LateError) as error:
                if not request.fallback or all(one.number is None for one in documents):
                    raise
                notes.append(f"Documents that are no item stand last: {error}")
            else:
                version = await service.call(service.slow, lambda: served.with_items(rows, vectors))
                first = served.dataset.n_items + 1
                numbers = {texts: first + place for place, texts in enumerate(new)}
                documents = [
                    one if one.number is not None or one.texts is None else replace(one, number=numbers[one.texts])
                    for one in documents
                ]
    items = np.asarray(list(dict.fromkeys(one.number for one in documents if one.number is not None)), dtype=np.int64)

    def job(of: Offer) -> tuple[Any, Callable[[list[Any]], Sequence[Any]], Any]:
        one = version.offers[of.name]
        return ("rerank", id(one)), lambda asked: [one.rank(*each) for each in asked], (about.query, items)

    taken = await first_that_answers(service, served, offer, about, request.fallback, until, job)
    service.metrics.answers.labels(taken.offer.part).observe(time.monotonic() - start)
    results, unranked = _results(documents, taken.done.value)
    if request.return_documents:
        for result in results:
            result["document"] = documents[result["index"]].shown
    return {
        "id": request_id,
        "request_id": request_id,
        "version": served.version,
        "model": taken.offer.name,
        "results": results[: request.top_n],
        "usage": {"total_tokens": len(documents)},
        "meta": {
            "label": served.label,
            "system": taken.offer.name,
            "part": taken.offer.part,
            "skipped": list(about.skipped),
            "unranked": unranked,
            "fallbacks": taken.fallbacks,
            "notes": notes,
            "timings": timings(taken.done, start),
        },
    }


def _looked_up(
    served: Served, request: RerankIn, events: Mapping[str, Sequence[Event]]
) -> tuple[Whom, list[_Document]]:
    return _about(served, request, events), [_document(served, one) for one in request.documents]


def _about(served: Served, request: RerankIn, events: Mapping[str, Sequence[Event]]) -> Whom:
    """The history that a query is, and the user's number where one is named who is known."""
    lines = request.query.splitlines() if isinstance(request.query, str) else request.query
    ids: list[str] = []
    for line in lines:
        # Templates of lists begin their lines with a dash or a star.
        text = line.strip()
        plain = text.lstrip("-*• ").strip()
        if text:
            number = _number(served, text) or _number(served, plain)
            ids.append(plain or text if number is None else served.dataset.items.id(number))
    found = whom(served, None, ids, events)
    number = None if request.user is None else served.dataset.users.get(request.user)
    return found if number is None else Whom(Query(found.query.history, number), found.skipped, found.reason)


def _document(served: Served, given: str | DocumentIn) -> _Document:
    if isinstance(given, str):
        return _Document(_number(served, given.strip()), (given, None), {"text": given})
    title = given.text if given.title is None else given.title
    shown = given.model_dump(include={"title", "text"}, exclude_none=True)
    texts = None if title is None else (title, None if given.title is None else given.text)
    if given.id is None:
        return _Document(_number(served, (title or "").strip()), texts, shown)
    number = served.dataset.items.get(given.id)
    known = None if number is None else served.dataset.catalogue.titles[number]
    return _Document(number, texts, shown or {"text": known or given.id})


def _unknown(documents: Sequence[_Document]) -> list[str]:
    """A note of the documents of which nothing is known but an id that is no item's."""
    found = list(dict.fromkeys(one.shown["text"] for one in documents if one.number is None and one.texts is None))
    if not found:
        return []
    named = ", ".join(repr(name) for name in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return [
        f"No item has the id {named}{more}. A document without a title or a text is not ranked then and stands last."
    ]


def _number(served: Served, text: str) -> int | None:
    """The item whose id or title a text is."""
    number = served.dataset.items.get(text)
    return served.titles.get(text.casefold()) if number is None else number


def _results(documents: Sequence[_Document], ranking: Ranking) -> tuple[list[dict[str, Any]], list[int]]:
    """Documents, best first, and those that were not ranked."""
    scores = dict(zip(ranking.items.tolist(), ranking.scores.astype(np.float64).tolist(), strict=True))
    ranked = [n for n, one in enumerate(documents) if one.number in scores]
    unranked = [n for n, one in enumerate(documents) if one.number not in scores]
    logits = np.asarray([scores[documents[n].number or 0] for n in ranked])
    weights = np.exp(logits - logits.max()) if len(logits) else logits
    shares = dict(zip(ranked, (weights / weights.sum()).tolist() if len(logits) else [], strict=True))
    order = sorted(ranked, key=lambda n: -scores[documents[n].number or 0])
    found: list[dict[str, Any]] = [{"index": n, "relevance_score": shares[n]} for n in order]
    return found + [{"index": n, "relevance_score": 0.0} for n in unranked], unranked
