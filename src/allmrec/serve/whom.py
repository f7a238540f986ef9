"""Whom a request is about, in numbers: a user of the training data or of events, or a history; and what is not known of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from allmrec.core.errors import UnknownIdError
from allmrec.ranking import Query
from allmrec.recommend.request import Request, ResolvedRequest, resolve
from allmrec.serve.requests import RecommendOne
from allmrec.serve.served import Served
from allmrec.serve.state import Event
from allmrec.serve.untrained import history_of

__all__ = ["Whom", "resolved", "whom"]


@dataclass(frozen=True)
class Whom:
    """Whom a request is about.

    Attributes:
        query: the history in numbers.
        skipped: ids of the history that the catalogue does not hold.
        reason: why nothing is known of them, and the same in words; none where something is.
    """

    query: Query
    skipped: tuple[str, ...] = ()
    reason: tuple[str, str] | None = None


def whom(
    served: Served,
    user: str | None,
    history: Sequence[str] | None,
    events: Mapping[str, Sequence[Event]],
    unknown: str = "skip",
) -> Whom:
    """Look somebody up.

    Args:
        served: the version that answers.
        user, history: one of them.
        events: of users, oldest first; what training knows already counts once.
        unknown: skip, or fail.

    Raises:
        UnknownIdError: the user or an item is not known, and those are to fail.
    """
    data = served.dataset
    if user is None:
        ids, number = list(history or ()), -1
        if unknown == "fail":
            return Whom(_query(data.items.numbers(ids), -1), (), None if ids else _EMPTY)
    else:
        found, own, ids = data.users.get(user), events.get(user, ()), list[str]()
        if own:
            ids = [step.item_id for step in history_of(data, user, own)]
        elif found is not None:  # most requests, in a third of the time
            ids = [data.items.id(int(item)) for item in data.sequence(found)]
        if found is None and not ids:
            try:
                data.users.number(user)
            except UnknownIdError as error:
                if unknown == "fail":
                    raise
                return Whom(_query((), -1), (), ("unknown_user", str(error)))
        number = -1 if found is None else found
    known = [data.items.number(name) for name in ids if name in data.items]
    skipped = tuple(dict.fromkeys(name for name in ids if name not in data.items))
    reason = None
    if not known:
        reason = (
            _EMPTY if not ids else ("unknown_items", f"The catalogue holds none of the history's {len(ids)} items.")
        )
    return Whom(_query(known, number), skipped, reason)


_EMPTY = ("empty_history", "The history is empty, so nothing is known of this user.")


def _query(numbers: Iterable[int], user: int) -> Query:
    return Query(np.asarray(list(numbers), dtype=np.int64), user)


def resolved(served: Served, request: RecommendOne, about: Whom) -> ResolvedRequest:
    """A request in numbers.

    Raises:
        ConfigError: numbers that do not fit, or categories where there are none.
        UnknownIdError: an id or a category that is not known, and those are to fail.
    """
    found = resolve(
        served.dataset,
        Request(
            history=(),
            k=request.k,
            candidates=request.candidates,
            allow=request.allow,
            deny=request.deny,
            exclude_seen=request.exclude_seen,
            unknown=request.unknown,
        ),
    )
    exclude = [found.exclude, served.withdrawn]
    if request.exclude_seen:
        exclude.append(about.query.history.astype(np.int64))
    allow = found.allow
    if request.categories is not None:
        of = served.of_categories(request.categories)
        allow = of if allow is None else np.intersect1d(allow, of)
    skipped = tuple(dict.fromkeys([*about.skipped, *found.skipped]))
    return replace(found, query=about.query, exclude=np.concatenate(exclude), allow=allow, skipped=skipped)
