"""A recommender: a retriever that finds a few items of the whole catalogue, and a ranker that puts them in order."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
from jaxtyping import Int

from allmrec.core.errors import ConfigError
from allmrec.data.interactions import InteractionDataset
from allmrec.ranking import Query, Ranker, Ranking
from allmrec.recommend.request import (
    Recommendation,
    Recommendations,
    Request,
    ResolvedRequest,
    fewer_items,
    resolve,
)
from allmrec.recommend.retrieve import Retriever
from allmrec.recommend.rounds import rank_in_rounds

__all__ = ["POPULARITY", "Recommender"]

Items = Int[np.ndarray, " _items"]

# What answers where it is not the system that was asked.
POPULARITY, RETRIEVER = "Popularity", "retriever"


class _Found(NamedTuple):
    """What was found for a query: the ranking, what answered, and what was retrieved for it, at most as many."""

    ranking: Ranking
    by: str
    retrieved: Ranking


class Recommender:
    """Recommends from the whole catalogue, for many requests at once.

    Everything that recommends goes through here: the command line, the library, evaluation over the whole catalogue and
    scoring in bulk.

    Args:
        dataset: vocabularies, catalogue and known histories.
        ranker: puts retrieved items in order; None: they stay in the retriever's order, with its scores.
        retriever: finds them.
        candidates: how many are retrieved unless a request says another number.
        prompt_candidates: how many the ranker can take at a time; more go in rounds (`rank_in_rounds`). None: any number.
        name: of the system in a table; None: the ranker's.
        n_known: items up to this number are known to the ranker, later ones are no part of a history; None: all.
        popular: gives what finds the most popular of so many items, which answers where nothing is known of a history; None: the
            recommender answers that too.
    """

    def __init__(
        self,
        dataset: InteractionDataset,
        ranker: Ranker | None,
        retriever: Retriever,
        candidates: int = 20,
        prompt_candidates: int | None = None,
        name: str | None = None,
        n_known: int | None = None,
        popular: Callable[[int], Retriever] | None = None,
    ) -> None:
        self._dataset, self._ranker, self._retriever = dataset, ranker, retriever
        self._candidates, self._prompt_candidates, self._n_known = candidates, prompt_candidates, n_known
        self._popular = popular
        self._name = name or ("" if ranker is None else ranker.name)

    @property
    def name(self) -> str:
        """The system's name as it stands in a table."""
        return self._name

    @property
    def dataset(self) -> InteractionDataset:
        """Vocabularies, catalogue and known histories, new items included."""
        return self._dataset

    def with_dataset(self, dataset: InteractionDataset) -> Recommender:
        """The same recommender where more items stand behind those that it knows; this one stays as it is.

        The new ones can be named in requests. What ranks does not know them, so they are no part of a history and are not
        recommended. A-LLMRec takes items up by itself (`ALLMRec.add_items`).
        """
        other = copy.copy(self)
        other._dataset = dataset
        other._n_known = self._dataset.n_items if self._n_known is None else self._n_known
        return other

    def top(
        self,
        queries: Sequence[Query],
        exclude: Sequence[Items],
        k: int,
        allow: Sequence[Items | None] | None = None,
        candidates: int | None = None,
    ) -> list[Ranking]:
        """The best items of the whole catalogue for each query, in numbers.

        Args:
            queries: whom for.
            exclude: for each, item numbers to leave out.
            k: how many for each; fewer come back where fewer may be recommended.
            allow: for each, item numbers that alone may come, ascending; None: all.
            candidates: how many are retrieved; None: the recommender's own number, or `k` where that is larger.
        """
        return [one.ranking for one in self._found(queries, exclude, k, allow, candidates)]

    def _found(
        self,
        queries: Sequence[Query],
        exclude: Sequence[Items],
        k: int,
        allow: Sequence[Items | None] | None,
        candidates: int | None,
    ) -> list[_Found]:
        """See `top`; with what answered each."""
        if self._n_known is not None and self._n_known < self._dataset.n_items:
            queries = [Query(query.history[query.history <= self._n_known], query.user) for query in queries]
        only: Sequence[Items | None] = [None] * len(queries) if allow is None else allow
        strangers = [number for number, query in enumerate(queries) if not len(query.history)]
        if self._popular is None or not strangers:
            return self._ranked(queries, exclude, k, only, candidates)
        popular = self._popular(self._dataset.n_items).retrieve(
            [queries[n] for n in strangers], k, [exclude[n] for n in strangers], [only[n] for n in strangers]
        )
        found = {n: _Found(ranking, POPULARITY, ranking) for n, ranking in zip(strangers, popular, strict=True)}
        if others := [n for n in range(len(queries)) if n not in found]:
            ranked = self._ranked(
                [queries[n] for n in others],
                [exclude[n] for n in others],
                k,
                [only[n] for n in others],
                candidates,
            )
            found |= dict(zip(others, ranked, strict=True))
        return [found[n] for n in range(len(queries))]

    def _ranked(
        self,
        queries: Sequence[Query],
        exclude: Sequence[Items],
        k: int,
        only: Sequence[Items | None],
        candidates: int | None,
    ) -> list[_Found]:
        """Retrieved, and put in order."""
        count = max(k, self._candidates if candidates is None else candidates)
        retrieved = self._retriever.retrieve(queries, count, exclude, only)
        rankings = list(retrieved)
        # Where nothing is left there is nothing to rank.
        asked = [number for number, found in enumerate(retrieved) if len(found.items)]
        if self._ranker is not None and asked:
            chosen, items = [queries[n] for n in asked], [retrieved[n].items for n in asked]
            if self._prompt_candidates is None:
                ranked = self._ranker.rank(chosen, items)
            else:
                ranked = rank_in_rounds(self._ranker.rank, chosen, items, self._prompt_candidates)
            for number, ranking in zip(asked, ranked, strict=True):
                rankings[number] = ranking
        return [
            _Found(ranking.first(k), self._name, found.first(k))
            for ranking, found in zip(rankings, retrieved, strict=True)
        ]

    @overload
    def recommend(self, requests: Sequence[Request], /) -> list[Recommendations]: ...

    @overload
    def recommend(self, /, **request: Any) -> Recommendations: ...

    def recommend(
        self, requests: Sequence[Request] | None = None, /, **request: Any
    ) -> list[Recommendations] | Recommendations:
        """Recommend from the whole catalogue.

            model.recommend([Request(user="u1"), Request(history=["i1", "i2"], k=5)])
            model.recommend(history=["i1", "i2"], k=5)

        Args:
            requests: answered together, which is much faster than one by one; or
            request: the fields of a single `Request`.

        Returns:
            An answer for each request; or the answer to the single one.

        Raises:
            UnknownIdError: ids that the data set does not hold; the message counts and names them.
            ConfigError: a request that nobody can answer; see `Request`.
        """
        if requests is None:
            return self.answer([resolve(self.dataset, Request(**request))])[0]
        if request:
            raise ConfigError("Give requests, or the fields of a single one, not both.")
        return self.answer([resolve(self.dataset, one) for one in requests])

    def answer(self, requests: Sequence[ResolvedRequest]) -> list[Recommendations]:
        """Answer requests whose ids are looked up already; see `recommend`."""
        answers: dict[int, Recommendations] = {}
        # Requests that differ in how much they ask for are retrieved apart.
        groups: dict[tuple[int, int | None], list[int]] = {}
        for number, one in enumerate(requests):
            groups.setdefault((one.k, one.candidates), []).append(number)
        for (k, candidates), numbers in groups.items():
            chosen = [requests[number] for number in numbers]
            found = self._found(
                [one.query for one in chosen],
                [one.exclude for one in chosen],
                k,
                [one.allow for one in chosen],
                candidates,
            )
            answers |= {n: self._named(one, f) for n, one, f in zip(numbers, chosen, found, strict=True)}
        return [answers[number] for number in range(len(requests))]

    def _named(self, request: ResolvedRequest, found: _Found) -> Recommendations:
        ranking, by, notes = found.ranking, found.by, []
        if by == POPULARITY != self._name:
            notes.append("Nothing is known of a history, so the most popular items come.")
        if not len(ranking.items) and len(found.retrieved.items):
            ranking, by = found.retrieved, RETRIEVER
            notes.append(f"{self._name} named none of the items that were retrieved for it, so they come as retrieved.")
        if not len(ranking.items):
            by = ""
            notes.append("No item is left to recommend: the history and the lists of the request leave none.")
        elif len(ranking.items) < request.k:
            notes.append(fewer_items(len(ranking.items), request.k))
        numbers, titles = ranking.items.tolist(), self._dataset.catalogue.titles
        ids = map(self._dataset.items.id, numbers)
        items = map(Recommendation, ids, [titles[number] for number in numbers], ranking.scores.tolist())
        return Recommendations(tuple(items), request.skipped, by, " ".join(notes))
