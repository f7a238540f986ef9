"""What is asked of a recommender, in ids, and what it answers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
from jaxtyping import Int, Int64

from allmrec.core.errors import ConfigError
from allmrec.data.interactions import InteractionDataset
from allmrec.ranking import Query

__all__ = ["Recommendation", "Recommendations", "Request", "ResolvedRequest", "resolve"]


@dataclass(frozen=True)
class Request:
    """One request for recommendations from the whole catalogue.

    Attributes:
        history: item ids, oldest first; may be empty. Or
        user: a user id of the data set, whose whole history is used.
        k: how many items to recommend; fewer come back where fewer may be recommended.
        candidates: how many items are retrieved for the ranker, where that ranks few at a time; at least `k`. None: the
            recommender's own number, or `k` where that is larger.
        allow: item ids that alone may be recommended; None: all.
        deny: item ids that may not be.
        exclude_seen: whether items of the history are left out.
        unknown: what to do with ids of `history`, `allow` and `deny` that the data set does not hold: fail, or leave them
            out and name them in the answer. An unknown user is always an error.
    """

    history: Sequence[str] | None = None
    user: str | None = None
    k: int = 10
    candidates: int | None = None
    allow: Collection[str] | None = None
    deny: Collection[str] = ()
    exclude_seen: bool = True
    unknown: Literal["fail", "skip"] = "fail"

    def __post_init__(self) -> None:
        """Refuse what no data set can answer.

        Raises:
            ConfigError: neither or both of history and user, text in the place of a list, or numbers that do not fit.
        """
        if (self.history is None) == (self.user is None):
            raise ConfigError("Give either a history or a user, not both and not neither.")
        for name in ("history", "allow", "deny"):
            if isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected a list of item ids.")
        if self.k < 1:
            raise ConfigError(f"k is {self.k}; at least 1 item can be recommended.")
        if self.candidates is not None and self.candidates < self.k:
            raise ConfigError(
                f"k is {self.k}; it must lie between 1 and the {self.candidates} candidates that are ranked."
            )


@dataclass(frozen=True)
class Recommendation:
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
    """

    items: tuple[Recommendation, ...]
    skipped: tuple[str, ...] = ()

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


@dataclass(frozen=True)
class ResolvedRequest:
    """A request in numbers.

    Attributes:
        query: whom for.
        k, candidates: as in the request.
        exclude: item numbers that may not be recommended.
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

    def numbers(ids: Collection[str]) -> Int64[np.ndarray, " _known"]:
        if request.unknown == "skip":
            skipped.extend(name for name in ids if name not in dataset.items)
            ids = [name for name in ids if name in dataset.items]
        return np.asarray(dataset.items.numbers(ids), dtype=np.int64)

    if request.user is not None:
        user = dataset.users.number(request.user)
        query = Query(dataset.sequence(user), user)
    else:
        query = Query(numbers(request.history or ()))
    seen: Int[np.ndarray, " _seen"] = query.history if request.exclude_seen else query.history[:0]
    exclude = np.unique(np.concatenate([seen, numbers(request.deny)])).astype(np.int64)
    allow = None if request.allow is None else np.unique(numbers(request.allow))
    return ResolvedRequest(query, request.k, request.candidates, exclude, allow, tuple(dict.fromkeys(skipped)))
