"""Recommending to people: ids in, ids and titles out, from the whole catalogue; knows not who ranks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from allmrec.core.errors import ConfigError
from allmrec.data.ids import Id, id_text, id_texts
from allmrec.data.interactions import InteractionDataset
from allmrec.ranking import Query, Ranking

__all__ = ["IdRecommender", "Recommendation", "TopOfCatalogue"]


@dataclass(frozen=True)
class Recommendation:
    """One recommended item, for people and for programs."""

    item_id: str
    title: str | None
    score: float


class IdRecommender(ABC):
    """What every system that recommends from the catalogue has in common: the way from ids to items and back.

    Args:
        dataset: vocabularies, catalogue and known histories.
    """

    def __init__(self, dataset: InteractionDataset) -> None:
        self._dataset = dataset

    @property
    def dataset(self) -> InteractionDataset:
        """Vocabularies, catalogue and known histories, new items included."""
        return self._dataset

    @abstractmethod
    def best(self, query: Query, k: int, candidates: int, exclude: Int[np.ndarray, " _seen"]) -> Ranking:
        """The best items of the catalogue but the excluded: at least `k`, of at most `candidates` that are looked at
        closely."""

    def recommend(
        self,
        history: Iterable[Id] | None = None,
        user: Id | None = None,
        k: int = 10,
        candidates: int = 20,
        exclude_seen: bool = True,
        skip_unknown: bool = False,
    ) -> list[Recommendation]:
        """Recommend from the whole catalogue.

        Args:
            history: item ids, oldest first, as text or whole numbers, in a list, array, tensor or series; or
            user: a user id of the data set, text or a whole number; the whole history is used.
            k: how many to return, at most `candidates`.
            candidates: how many are proposed, where proposing and ranking are two steps. A-LLMRec ranks more than a
                prompt holds in rounds (`rank_in_rounds`).
            exclude_seen: leave out what the history holds.
            skip_unknown: leave out of the history what the catalogue does not hold, instead of failing.

        Returns:
            The best first.

        Raises:
            UnknownIdError: ids that the data set does not hold; the message counts and names them.
            ConfigError: neither or both of history and user, or something that is no id, or k above candidates.
        """
        if not 1 <= k <= candidates:
            raise ConfigError(f"k is {k}; it must lie between 1 and the {candidates} candidates that are ranked.")
        query = self.query(history, user, skip_unknown)
        seen = query.history if exclude_seen else np.empty(0, dtype=np.int64)
        ranking = self.best(query, k, candidates, seen)
        return [
            Recommendation(self._dataset.items.id(int(i)), self._dataset.catalogue.titles[int(i)], float(s))
            for i, s in zip(ranking.items[:k], ranking.scores[:k], strict=True)
        ]

    def query(self, history: Iterable[Id] | None = None, user: Id | None = None, skip_unknown: bool = False) -> Query:
        """A query from ids; see `recommend`.

        Raises:
            UnknownIdError: ids that the data set does not hold.
            ConfigError: neither or both of history and user, or something that is no id.
        """
        if (history is None) == (user is None):
            raise ConfigError("Give either a history or a user, not both and not neither.")
        if user is not None:
            number = self._dataset.users.number(id_text(user, "user"))
            return Query(self._dataset.sequence(number), number)
        items, names = self._dataset.items, id_texts(() if history is None else history)
        found = [n for name in names if (n := items.get(name)) is not None] if skip_unknown else items.numbers(names)
        return Query(np.asarray(found, dtype=np.int64))


@runtime_checkable
class _Top(Protocol):
    """Who names the best of the catalogue."""

    def top(self, queries: Sequence[Query], exclude: Sequence[Int[np.ndarray, " _seen"]], k: int) -> list[Ranking]: ...


class TopOfCatalogue(IdRecommender):
    """A system that looks at every item, as a recommender by ids.

    Args:
        dataset: vocabularies, catalogue and known histories.
        system: names the best.
    """

    def __init__(self, dataset: InteractionDataset, system: _Top) -> None:
        super().__init__(dataset)
        self._system = system

    def best(self, query: Query, k: int, candidates: int, exclude: Int[np.ndarray, " _seen"]) -> Ranking:
        return self._system.top([query], [exclude], candidates)[0]
