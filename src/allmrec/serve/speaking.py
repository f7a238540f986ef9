"""What the language model says of an item or a user, as server-sent events while it decodes."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from allmrec.core.errors import AllmrecError, ConfigError
from allmrec.ranking import Query
from allmrec.recommend.allmrec import ALLMRec
from allmrec.serve.logs import log
from allmrec.serve.requests import ExplainIn
from allmrec.serve.served import Served
from allmrec.serve.service import Service
from allmrec.serve.state import Event
from allmrec.serve.whom import whom

__all__ = ["spoken"]

_NOTE = "The language model's own words. It may be wrong, and what it says is not the cause of a recommendation."


async def spoken(
    service: Service,
    served: Served,
    request: ExplainIn,
    events: Mapping[str, Sequence[Event]],
    notes: Sequence[str],
    request_id: str,
) -> AsyncIterator[str]:
    """Events of the answer: start, piece by piece, then end or error.

    What can be refused is refused now, before the first event. The start's note says what is not as usual: `notes`, and that nothing is
    known of whom it is about.

    Raises:
        ConfigError: nothing that speaks is served.
        UnknownIdError: the user or the item is not known.
        QueueFullError: too many are spoken to.
    """
    speaker = served.speaker
    if speaker is None:
        raise ConfigError("Nothing that speaks is served here: A-LLMRec is not trained in this run.")
    about = await asyncio.to_thread(whom, served, request.user, request.history, events, "fail")
    if request.item_id is not None:
        await asyncio.to_thread(served.dataset.items.number, request.item_id)
    note = " ".join([_NOTE, *notes, *([about.reason[1]] if about.reason else [])])
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[tuple[str | None, BaseException | None]]()
    listening = True

    def give(piece: str | None, error: BaseException | None) -> bool:
        if listening:
            loop.call_soon_threadsafe(queue.put_nowait, (piece, error))
        return listening

    # In the lane before the answer begins, so that a full one is refused with a status of its own.
    service.slow.stream(_pieces(served, speaker, request, about.query), give)

    async def events_of_it() -> AsyncIterator[str]:
        nonlocal listening
        start = time.monotonic()
        until = start + 4 * service.config.deadline_ms / 1000
        try:
            yield _event(
                "start", {"request_id": request_id, "version": served.version, "about": request.about, "note": note}
            )
            while True:
                try:
                    piece, error = await asyncio.wait_for(queue.get(), until - time.monotonic())
                except TimeoutError:
                    yield _event("error", {"detail": "The language model did not come to an end in time."})
                    return
                if error is not None:
                    known = isinstance(error, AllmrecError)
                    log("explanation failed", logging.ERROR, None if known else error, request_id=request_id)
                    yield _event("error", {"detail": str(error) if known else "It failed; the server's log says why."})
                    return
                if piece is None:
                    yield _event("end", {"ms": round(1000 * (time.monotonic() - start), 1)})
                    return
                yield _event("piece", {"text": piece})
        finally:
            listening = False

    return events_of_it()


def _pieces(served: Served, speaker: ALLMRec, request: ExplainIn, query: Query) -> Iterator[str]:
    """What is said; the prompt is built when the lane asks for the first piece."""
    how = served.run.config.answer.explain
    if request.item_id is None:
        yield from speaker.profile(query, config=how)
    else:
        question = how.genres if request.about == "genres" else how.reason
        yield from speaker.explain(query, request.item_id, question, how)


def _event(name: str, data: Mapping[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
