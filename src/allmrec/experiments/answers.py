"""What a cell found, user by user: ranks of the test item, or words about genres; and the figures that follow from each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from allmrec.core.errors import DataError
from allmrec.evaluation.metrics import metric_values
from allmrec.evaluation.rank_files import MISS, NOT_ASKED, Kept

__all__ = ["GENRE_QUESTIONS", "RANKED", "Ranks", "Words", "any_named", "genre_metrics", "lost", "metric_names"]

RANKED = ("Hit@1", "NDCG@10", "MRR")

GENRE_QUESTIONS: Mapping[str, str] = {
    "genres of the item": "asked about the test item; right are its own genres",
    "genres of the next item": "asked about the user; right are the genres of the test item, which nobody showed",
    "genres of the history": "asked about the user; right are the genres of more than half of the history",
}


def lost(metric: str) -> str:
    """The name of what a metric loses when histories are shuffled: in order less shuffled."""
    return f"{metric} lost by shuffling"


def genre_metrics(question: str) -> tuple[str, str, str]:
    """Of a question: precision, precision less the base rate, and genres named in an answer."""
    return question, f"{question}, above base rate", f"{question}, named"


def any_named(question: str) -> str:
    """The name of the share of answers to a question that name a genre at all."""
    return f"{question}, any named"


def metric_names(ask: str, order_test: bool) -> list[str]:
    """All figures of a plan's cells, by name.

    Args:
        ask: what systems are asked for, see `Plan`.
        order_test: whether they are asked again with histories shuffled.
    """
    if ask == "genres":
        return [name for question in GENRE_QUESTIONS for name in (*genre_metrics(question), any_named(question))]
    names = list(metric_values(np.ones(1)))
    return [*names, *map(lost, names)] if order_test else names


@dataclass(frozen=True, eq=False)
class Ranks:
    """The target's rank for each user of a protocol.

    Attributes:
        ranks: as `rank_files` stores them.
        shuffled: the same with each history shuffled; none where that was not asked.
    """

    ranks: Kept
    shuffled: Kept | None = None

    @property
    def answered(self) -> Bool[np.ndarray, " users"]:
        """Who was asked."""
        found: Bool[np.ndarray, " users"] = self.ranks != NOT_ASKED
        return found

    @property
    def metrics(self) -> list[str]:
        """Names of what `values` gives."""
        return metric_names("candidates", self.shuffled is not None)

    def values(self, metric: str) -> Float64[np.ndarray, " users"]:
        """A metric of each user; nothing useful where the user was not asked.

        Raises:
            DataError: there is no such metric.
        """
        own = _values(self.ranks)
        if metric in own:
            return own[metric]
        by_lost = {lost(name): name for name in own}
        if self.shuffled is None or metric not in by_lost:
            raise DataError(f"These ranks give no {metric!r}.")
        name = by_lost[metric]
        found: Float64[np.ndarray, " users"] = own[name] - _values(self.shuffled)[name]
        return found


@dataclass(frozen=True, eq=False)
class Words:
    """What a system said of each user of a protocol, and how right it was.

    Attributes:
        scores: a value a user for each metric of `genre_metrics`.
        of_items: what was said of each user's test item.
        of_users: what was said of each user.
    """

    scores: Mapping[str, Float64[np.ndarray, " users"]]
    of_items: Sequence[str]
    of_users: Sequence[str]

    @property
    def answered(self) -> Bool[np.ndarray, " users"]:
        """Everybody was asked."""
        return np.ones(len(self.of_users), dtype=bool)

    @property
    def metrics(self) -> list[str]:
        """Names of what `values` gives."""
        return list(dict(self.scores) | self._any_named)

    @property
    def _any_named(self) -> dict[str, Float64[np.ndarray, " users"]]:
        """Whether each answer names a genre, by metric."""
        counts = {question: self.scores.get(genre_metrics(question)[2]) for question in GENRE_QUESTIONS}
        return {any_named(name): (of > 0).astype(np.float64) for name, of in counts.items() if of is not None}

    def values(self, metric: str) -> Float64[np.ndarray, " users"]:
        """A metric of each user.

        Raises:
            DataError: there is no such metric.
        """
        found = self._any_named | dict(self.scores)
        if metric not in found:
            raise DataError(f"These words give no {metric!r}.")
        return found[metric]


def _values(ranks: Kept) -> dict[str, Float64[np.ndarray, " users"]]:
    return metric_values(np.where(ranks == MISS, np.inf, np.maximum(ranks, 1).astype(np.float64)))
