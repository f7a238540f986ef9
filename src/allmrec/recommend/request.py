"""What is asked of a recommender, in ids, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, overload

import numpy as np
from jaxtyping import Int, Int64

from allmrec.core.errors import ConfigError
from allmrec.data.ids import Id, id_text, id_texts
from allmrec.data.interactions import InteractionDataset
from allmrec.ranking import Query

__all__ = [
    "Recommendation",
    "Recommendations",
    "Request",
    "ResolvedRequest",
    "fewer_items",
    "resolve",
    "resolve_users",
]


@dataclass(frozen=True)
class Request:
    """One request for recommendations from the whole catalogue.

    Attributes:
        history: item ids, oldest first, as text or whole numbers, in a list, array, tensor or series; where it is empty,
            popular items come. Or
        user: a user id of the data set, text or a whole number; the whole history is used.
        k: how many items to recommend; fewer come back where fewer may be recommended.
        candidates: how many items are retrieved for the ranker, where that ranks few at a time; at least `k`. None: the
            recommender's own number, or `k` where that is larger.
        allow: item ids that alone may be recommended; None: all.
        deny: item ids that may not be.
        exclude_seen: whether items of the history are left out.
        unknown: what to do with ids of `history`, `allow` and `deny` that the data set does not hold: fail, or leave them
            out and name them in the answer. An unknown user is always an error.
    """

    history: Iterable[Id] | None = None
    user: Id | None = None
    k: int = 10
    candidates: int | None = None
    allow: Iterable[Id] | None = None
    deny: Iterable[Id] = ()
    exclude_seen: bool = True
    unknown: Literal["fail", "skip"] = "fail"

    def __post_init__(self) -> None:
        """Refuse what no data set can answer.

        Raises:
            ConfigError: neither or both of history and user, text in the place of a list, something that is no id, or numbers
                that do not fit.
        """
        if (self.history is None) == (self.user is None):
            raise ConfigError("Give either a history or a user, not both and not neither.")
        for name, what in (("history", "The history"), ("allow", "The allow list"), ("deny", "The deny list")):
            values = getattr(self, name)
            if values is not None:
                object.__setattr__(self, name, tuple(id_texts(_listed(values, name), what)))
        if self.user is not None:
            object.__setattr__(self, "user", id_text(self.user, "user"))
        if self.k < 1:
            raise ConfigError(f"k is {self.k}; at least 1 item can be recommended.")
        if self.candidates is not None and self.candidates < self.k:
            raise ConfigError(
                f"k is {self.k}; it must lie between 1 and the {self.candidates} candidates that are ranked."
            )


def _listed(values: Iterable[Id], name: str) -> Iterable[Id]:
    """Values in a list; only a history has an order that a set would lose."""
    return sorted(values, key=str) if name != "history" and isinstance(values, Set) else values


class Recommendation(NamedTuple):
    """One recommended item, for people and for programs."""

    item_id: str
    title: str | None
    score: float


@dataclass(frozen=True)
class Recommendations(Sequence[Recommendation]):
    """The answer to one request: items, best first.

    Scores never rise from one item to the next. They compare within one answer and not between answers.

    Attributes:
        items: best first.
        skipped: unknown ids that were left out of the request.
        answered_by: name of the system that put them in order, as in tables; "Popularity" where nothing is known of a history,
            "retriever" where the system named none of the items that were retrieved for it; empty where there are none.
        note: a sentence where the answer is another than was asked for: by popularity, fewer than `k` items, or none.
    """

    items: tuple[Recommendation, ...]
    skipped: tuple[str, ...] = ()
    answered_by: str = ""
    note: str = ""

    def __len__(self) -> int:
        """How many items there are."""
        return len(self.items)

    @overload
    def __getitem__(self, place: int) -> Recommendation: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Recommendation, ...]: ...

    def __getitem__(self, place: int | slice) -> Recommendation | tuple[Recommendation, ...]:
        """An item by its place, or several."""
        return self.items[place]


def fewer_items(found: int, wanted: int) -> str:
    """What an answer says that has fewer items than were asked for."""
    return f"{found} of {wanted} items: no other was found that may be recommended."


@dataclass(frozen=True)
class ResolvedRequest:
    """A request in numbers.

    Attributes:
        query: whom for.
        k, candidates: as in the request.
        exclude: item numbers that may not be recommended; one may stand there more than once.
        allow: item numbers that alone may be, ascending; None: all.
        skipped: unknown ids that were left out.
    """

    query: Query
    k: int
    candidates: int | None
    exclude: Int64[np.ndarray, " _excluded"]
    allow: Int64[np.ndarray, " _allowed"] | None
    skipped: tuple[str, ...]

    def possible(self, n_items: int) -> int:
        """How many of `n_items` items may be recommended."""
        items = np.arange(1, n_items + 1) if self.allow is None else self.allow
        return int((~np.isin(items, self.exclude)).sum())


def resolve(dataset: InteractionDataset, request: Request) -> ResolvedRequest:
    """Look a request's ids up.

    Raises:
        UnknownIdError: ids that the data set does not hold; the message counts and names them.
    """
    skipped: list[str] = []

    def numbers(values: Iterable[Id]) -> Int64[np.ndarray, " _known"]:
        ids = id_texts(values)
        if request.unknown == "skip":
            skipped.extend(name for name in ids if name not in dataset.items)
            ids = [name for name in ids if name in dataset.items]
        return np.asarray(dataset.items.numbers(ids), dtype=np.int64)

    if request.user is not None:
        user = dataset.users.number(id_text(request.user, "user"))
        query = Query(dataset.sequence(user), user)
    else:
        query = Query(numbers(request.history or ()))
    seen: Int[np.ndarray, " _seen"] = query.history if request.exclude_seen else query.history[:0]
    exclude = seen.astype(np.int64)
    if denied := tuple(request.deny):
        exclude = np.concatenate([exclude, numbers(denied)])
    allow = None if request.allow is None else np.unique(numbers(request.allow))
    return ResolvedRequest(query, request.k, request.candidates, exclude, allow, tuple(dict.fromkeys(skipped)))


def resolve_users(
    dataset: InteractionDataset, request: Request, users: Iterable[int]
) -> tuple[list[ResolvedRequest], tuple[str, ...]]:
    """The same request for each of many users, whose lists are looked up once.

    Args:
        dataset: knows the users.
        request: what is asked of each; its own history or user does not matter.
        users: user numbers.

    Returns:
        A request for each user, and the unknown ids that were left out of its lists.

    Raises:
        UnknownIdError: `allow` or `deny` holds ids that the data set does not; the message counts and names them.
    """
    lists = resolve(dataset, replace(request, history=(), user=None))

    def of(user: int) -> ResolvedRequest:
        history = dataset.sequence(user)
        exclude = lists.exclude
        if request.exclude_seen:
            exclude = np.concatenate([history.astype(np.int64), exclude])
        return replace(lists, query=Query(history, user), exclude=exclude, skipped=())

    return [of(int(user)) for user in users], lists.skipped
