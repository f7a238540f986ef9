"""What rankers and their evaluation share: queries, candidates, rankings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from allmrec.core.errors import DataError

__all__ = ["Query", "Ranker", "Ranking", "rank_each", "ranking_from_scores"]


@dataclass(frozen=True)
class Query:
    """Whom to recommend to: a history, and the user's number where the user is known.

    Attributes:
        history: item numbers, oldest first; may be empty.
        user: the user's number in the data set, or -1 for somebody the data set does not hold.
    """

    history: Int[np.ndarray, " length"]
    user: int = -1


@dataclass(frozen=True)
class Ranking:
    """Item numbers, best first, each with its score. Scores compare only within one ranking."""

    items: Int[np.ndarray, " candidates"]
    scores: Float[np.ndarray, " candidates"]

    def first(self, k: int) -> Ranking:
        """The best `k` of it."""
        return Ranking(self.items[:k], self.scores[:k])


@runtime_checkable
class Ranker(Protocol):
    """Anything that can put given candidates in order: what every system of the project is at heart."""

    @property
    def name(self) -> str:
        """The system's name as it stands in a table."""
        ...

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """Rank each query's own candidates.

        Args:
            queries: one per row.
            candidates: for each query the item numbers to put in order.

        Returns:
            One Ranking per query, of that query's candidates; empty where the system gave no answer.
        """
        ...


def ranking_from_scores(items: Int[np.ndarray, " candidates"], scores: Float[np.ndarray, " candidates"]) -> Ranking:
    """Order candidates by score, best first; equal scores keep the candidates' order, which the protocol shuffles.

    Raises:
        DataError: a score is NaN, which has no place in an order.
    """
    if np.isnan(scores).any():
        raise DataError(
            f"{int(np.isnan(scores).sum())} of {len(scores)} scores are NaN; expected numbers. The weights have most likely "
            "diverged in training: look into the stage's log.json, and train again with a smaller learning rate."
        )
    order = np.argsort(-scores, kind="stable")
    return Ranking(items=items[order], scores=scores[order])


def rank_each(
    queries: Sequence[Query],
    candidates: Sequence[Int[np.ndarray, " _candidates"]],
    scores: Callable[[Int[np.ndarray, " _length"], Int[np.ndarray, " _candidates"]], Float[np.ndarray, " _candidates"]],
) -> list[Ranking]:
    """Rank each query's candidates by what `scores` gives for its history and them."""
    return [
        ranking_from_scores(items, scores(query.history, items))
        for query, items in zip(queries, candidates, strict=True)
    ]
