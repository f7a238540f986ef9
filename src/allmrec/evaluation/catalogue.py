"""Evaluation over the whole catalogue instead of a few candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from allmrec.core.errors import DataError
from allmrec.data.splitting import Split
from allmrec.evaluation.evaluator import Evaluator, ItemLists
from allmrec.evaluation.protocol import EvaluationProtocol
from allmrec.ranking import Query, Ranking

__all__ = ["CatalogueRecommender", "evaluate_recommenders"]


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


class CatalogueEvaluator(Evaluator[CatalogueRecommender]):
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


evaluate_recommenders = CatalogueEvaluator().evaluate
