"""Answers requests for recommendations: whom, with which system, which takes over from it, and what is said of each item."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from allmrec.core.errors import AllmrecError, ConfigError, UnknownIdError
from allmrec.recommend.recommender import POPULARITY
from allmrec.recommend.request import Recommendation, Recommendations, ResolvedRequest, fewer_items
from allmrec.serve.diversity import diversified
from allmrec.serve.lanes import Done, QueueFullError
from allmrec.serve.logs import log
from allmrec.serve.parts import parts_of
from allmrec.serve.requests import RecommendOne
from allmrec.serve.served import Offer, Served
from allmrec.serve.service import LateError, Service
from allmrec.serve.state import Event
from allmrec.serve.whom import Whom, resolved, whom

__all__ = ["Taken", "answered", "check_limits", "first_that_answers", "gathered", "seconds_of", "timings"]

# What is kept of the time that an answer may take for the systems that take over: this share, and so many seconds where half
# of the time is as much.
_KEPT, _KEPT_SECONDS = 0.15, 0.1


@dataclass
class Taken:
    """Who answered, and how it came to that.

    Attributes:
        offer: who did.
        done: what they said.
        fallbacks: who did not.
    """

    offer: Offer
    done: Done
    fallbacks: list[dict[str, str]] = field(default_factory=list)


def check_limits(service: Service, requests: Sequence[RecommendOne]) -> None:
    """Refuse what this server does not answer.

    Raises:
        ConfigError: more requests, or more items, than it allows.
    """
    config = service.config
    # More than may wait would be refused however often they came.
    most = min(config.max_requests, config.max_queue)
    if len(requests) > most:
        raise ConfigError(f"{len(requests)} requests in one call; this server takes {most} at the most.")
    for request in requests:
        most = max(request.k, request.candidates or 0)
        if most > config.max_k:
            raise ConfigError(f"{most} items are asked for; this server gives {config.max_k} at the most.")


async def answered(
    service: Service,
    served: Served,
    request: RecommendOne,
    events: Mapping[str, Sequence[Event]],
    request_id: str,
    start: float,
) -> dict[str, Any]:
    """The answer to one request, as JSON.

    Args:
        service, served: who computes, with which version.
        request: what is asked.
        events: of users, oldest first.
        request_id: of the answer.
        start: when the request came, in seconds of the monotonic clock; its time runs from there.

    Raises:
        UnknownIdError: an id that is not known, where those are to fail.
        ConfigError: a request that nobody can answer.
        QueueFullError: every queue is full.
    """
    offer = served.offer(request.system)
    about, wanted = await asyncio.to_thread(_looked_up, served, request, events)
    seconds = seconds_of(service, request.deadline_ms)
    asked = wanted
    if request.diversity:
        most = max(request.candidates or 0, served.run.config.answer.retrieve.items, 2 * request.k)
        asked = replace(wanted, k=most, candidates=None if request.candidates is None else most)

    def job(of: Offer) -> tuple[Any, Callable[[list[Any]], Sequence[Any]], Any]:
        return ("recommend", id(of)), of.answer, asked

    taken = await first_that_answers(service, served, offer, about, request.fallback, start + seconds, job)
    found: Recommendations = taken.done.value
    scored = found
    if request.diversity:
        vectors = await service.call(service.fast, lambda: served.vectors)
        found = _diverse(served, vectors, found, request, asked.k)
    parts = None
    notes: list[str] = []
    if request.explain:
        numbers = [served.dataset.items.number(item.item_id) for item in found]
        try:
            parts = await service.call(service.fast, lambda: parts_of(served, taken.offer, wanted, numbers, scored))
        except (LateError, QueueFullError) as error:
            notes.append(f"Without parts of the scores: {error}")
    # A system answers by popularity itself where it knows none of a history's items.
    by = served.last if found.answered_by == POPULARITY else taken.offer
    service.metrics.answers.labels(by.part).observe(time.monotonic() - start)
    return {
        "request_id": request_id,
        "version": served.version,
        "label": served.label,
        "system": by.name,
        "part": by.part,
        "answered_by": found.answered_by,
        "note": found.note,
        "items": [
            _item(served, item, None if parts is None else parts[place]) for place, item in enumerate(found.items)
        ],
        "skipped": list(wanted.skipped),
        "fallbacks": taken.fallbacks,
        "notes": notes,
        "timings": timings(taken.done, start),
    }


def seconds_of(service: Service, deadline_ms: float | None) -> float:
    """How long an answer may take: what the request says, and no longer than the server does."""
    return min(deadline_ms or service.config.deadline_ms, service.config.deadline_ms) / 1000


def _looked_up(
    served: Served, request: RecommendOne, events: Mapping[str, Sequence[Event]]
) -> tuple[Whom, ResolvedRequest]:
    about = whom(served, request.user, request.history, events, request.unknown)
    return about, resolved(served, request, about)


async def first_that_answers(
    service: Service,
    served: Served,
    offer: Offer,
    about: Whom,
    fallback: bool,
    until: float,
    job: Callable[[Offer], tuple[Any, Callable[[list[Any]], Sequence[Any]], Any]],
) -> Taken:
    """Ask a system, and those that take over from it in turn.

    Args:
        service, served: who computes, with which version.
        offer: who is asked first.
        about: whom it is about; of whom nothing is known, the last in the chain is asked at once.
        fallback: whether others take over.
        until: when the answer is to be there, in seconds of the monotonic clock.
        job: what is computed with a system: key, function, payload.

    Raises:
        QueueFullError: the last one's queue is full.
        LateError: others may not take over, and the answer did not come in time.
        UnknownIdError: nothing is known of whom it is about, and others may not take over.
        ConfigError: the same of an empty history.
    """
    strange = about.reason or _unknown_to(offer, served, about)
    if strange is not None and not fallback and offer is not served.last:
        kind, words = strange
        words = f"{words} {offer.title} cannot answer, and no other system may (fallback is false)."
        raise ConfigError(words) if kind == "empty_history" else UnknownIdError(words)
    others = served.cheaper(offer.name) if fallback else []
    fallbacks: list[dict[str, str]] = []

    def gave_up(of: Offer, reason: str, detail: str) -> None:
        service.metrics.fallbacks.labels(of.name, reason).inc()
        fallbacks.append({"system": of.name, "reason": reason, "detail": detail})

    order = [offer, *others]
    if about.reason is not None and others:
        for one in order[:-1]:
            gave_up(one, *about.reason)
        order = order[-1:]
    for place, one in enumerate(order):
        if others and about.reason is None and (strange := _unknown_to(one, served, about)):
            gave_up(one, *strange)
            continue
        left = until - time.monotonic()
        is_last = place == len(order) - 1
        # Whoever takes over from a system that took too long has its own share of the time, and a little at least.
        seconds = left if is_last else left - max(_KEPT * left, min(_KEPT_SECONDS, left / 2))
        if is_last and place:
            seconds = max(left, 1.0)
        try:
            lane = service.slow if one.slow else service.fast
            taken = Taken(one, await service.compute(lane, *job(one), seconds), fallbacks)
            if one.slow:
                service.observe_kept()
            return taken
        except (QueueFullError, LateError, AllmrecError) as error:
            if is_last:
                raise
            reason = "queue_full" if isinstance(error, QueueFullError) else "deadline"
            if not isinstance(error, QueueFullError | LateError):
                reason = "failed"
                log("system failed", logging.ERROR, system=one.name, reason=str(error))
            gave_up(one, reason, str(error))
    raise AssertionError


def _unknown_to(offer: Offer, served: Served, about: Whom) -> tuple[str, str] | None:
    """Why a system knows nothing of whom a request is about, though others do; none where it does, or can answer anybody."""
    if offer is served.last or offer.knows(about.query):
        return None
    return "unknown_items", f"{offer.title} knows none of the history's items, which came after its training."


async def gathered(works: Sequence[Awaitable[Any]]) -> list[Any]:
    """Results of several at once; the first error, once all have ended."""
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return list(results)


def timings(done: Done, start: float) -> dict[str, Any]:
    """What an answer took."""
    return {
        "queue_ms": round(done.queue_ms, 3),
        "compute_ms": round(done.compute_ms, 3),
        "total_ms": round(1000 * (time.monotonic() - start), 3),
        "batch": done.batch,
    }


def _diverse(
    served: Served, vectors: Mapping[str, Any], found: Recommendations, request: RecommendOne, looked_for: int
) -> Recommendations:
    if not found.items:
        return found
    if not vectors:
        raise ConfigError("Diversity compares item vectors, and no system that has any is served here.")
    numbers = [served.dataset.items.number(item.item_id) for item in found]
    scores = np.asarray([item.score for item in found], dtype=np.float64)
    rows = next(iter(vectors.values()))[numbers]
    chosen = diversified(scores, rows, request.k, request.diversity)
    # More were looked for than were asked for, and that fewer came than that is no news.
    note = found.note.replace(fewer_items(len(found.items), looked_for), "").strip()
    if len(chosen) < request.k:
        note = f"{note} {fewer_items(len(chosen), request.k)}".strip()
    return replace(found, items=tuple(found.items[int(place)] for place in chosen), note=note)


def _item(served: Served, item: Recommendation, parts: list[dict[str, Any]] | None) -> dict[str, Any]:
    number = served.dataset.items.number(item.item_id)
    row: dict[str, Any] = {
        "item_id": item.item_id,
        "title": item.title,
        "categories": list(served.dataset.catalogue.categories[number]),
        "score": item.score,
        "added": number > served.n_trained,
    }
    return row if parts is None else row | {"parts": parts}
