"""Judging by the whole catalogue instead of a few candidates; knows of the systems only how to ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from allmrec.core.errors import DataError
from allmrec.core.seeding import numpy_generator
from allmrec.data.splitting import Split
from allmrec.evaluation.judging import ItemLists, Judge
from allmrec.evaluation.protocol import EvaluationProtocol
from allmrec.ranking import Query, Ranking, Recommender

__all__ = ["CatalogueRecommender", "EveryItem", "judge_catalogue"]


@runtime_checkable
class CatalogueRecommender(Protocol):
    """Anything that can name the best of the whole catalogue, in one stage or two."""

    @property
    def name(self) -> str:
        """The system's name as it stands in a table."""
        ...

    def top(self, queries: Sequence[Query], exclude: Sequence[Int[np.ndarray, " _seen"]], k: int) -> list[Ranking]:
        """The best `k` of all items but the excluded, for each query."""
        ...


class EveryItem:
    """A recommender that is cheap enough to be handed every item as a candidate.

    Args:
        recommender: ranks.
        n_items: how many items there are.
        seed: of the order in which items are handed over, which decides between equal scores.
    """

    def __init__(self, recommender: Recommender, n_items: int, seed: int = 0) -> None:
        self._recommender = recommender
        self._order = numpy_generator(seed, "catalogue order").permutation(n_items) + 1

    @property
    def name(self) -> str:
        return self._recommender.name

    def top(self, queries: Sequence[Query], exclude: Sequence[Int[np.ndarray, " _seen"]], k: int) -> list[Ranking]:
        candidates = [self._order[~np.isin(self._order, seen)] for seen in exclude]
        return [Ranking(r.items[:k], r.scores[:k]) for r in self._recommender.rank(queries, candidates)]


class CatalogueJudge(Judge[CatalogueRecommender]):
    """Hit@k and NDCG@k where every item that the user has not met competes with the target.

    Only the first `max(ks)` places are looked at; MRR too counts a target below them as missed. The target competes even
    where the user met it before. Of the protocol, users and targets count and candidates do not.

    An answer has at most `max(ks)` different items, none of them excluded.
    """

    doing = "Whole catalogue with"
    batch_size = 16

    def places(self, ks: Sequence[int]) -> int:
        return max(ks)

    def setting(self, protocol: EvaluationProtocol, split: Split, k: int) -> tuple[str, int]:
        return f"{len(protocol):,} users, the whole catalogue, first {k} places", split.dataset.n_items

    def given(self, protocol: EvaluationProtocol, queries: Sequence[Query], start: int) -> ItemLists:
        targets = protocol.targets[start : start + len(queries)]
        return [np.setdiff1d(query.history, [target]) for query, target in zip(queries, targets, strict=True)]

    def ask(self, system: CatalogueRecommender, queries: Sequence[Query], given: ItemLists, k: int) -> list[Ranking]:
        return system.top(queries, given, k)

    def check(self, name: str, ranking: Ranking, given: Int[np.ndarray, " _items"], k: int) -> None:
        if len(ranking.items) > k or len(np.unique(ranking.items)) < len(ranking.items):
            raise DataError(f"{name} gave {len(ranking.items)} items; expected at most {k} different ones.")
        if np.isin(ranking.items, given).any():
            raise DataError(f"{name} recommended an item that was to be left out.")


judge_catalogue = CatalogueJudge().judge
