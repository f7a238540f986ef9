"""The baseline that needs no model: what most people took."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int

from allmrec.data.splitting import Split
from allmrec.ranking import Query, Ranking, ranking_from_scores

__all__ = ["Popularity"]


class Popularity:
    """Ranks by training interactions; equally popular candidates keep the order that they are given in.

    Args:
        counts: training interactions by item number, padding included. Items that came later have none.
    """

    name = "Popularity"

    def __init__(self, counts: Int[np.ndarray, " items_and_padding"]) -> None:
        self._counts = counts.astype(np.float64)

    @classmethod
    def of(cls, split: Split) -> Popularity:
        """The counts of a split's training part; held-out, validation and test items do not count."""
        return cls(split.train_counts())

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """Rank each query's candidates; who asks makes no difference."""
        return [ranking_from_scores(items, self._of(items)) for _, items in zip(queries, candidates, strict=True)]

    def _of(self, items: Int[np.ndarray, " candidates"]) -> Float64[np.ndarray, " candidates"]:
        known = items < len(self._counts)
        counts: Float64[np.ndarray, " candidates"] = self._counts[items * known] * known
        return counts
