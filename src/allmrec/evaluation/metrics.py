"""How good a ranking is, from the place of the one right item.

Everything starts from the target's rank: 1 is first, infinity is a miss. A ranking is an order, so equal scores are
already resolved by whoever made it; the protocol shuffles candidates, so a system that cannot tell them apart gets no
more than chance. An answer that does not contain the target is a miss, an empty answer is one too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int

from allmrec.core.errors import ConfigError
from allmrec.ranking import Ranking

__all__ = ["hit", "metric_values", "ndcg", "reciprocal_rank", "target_rank", "target_ranks"]


def target_rank(ranking: Ranking, target: int) -> float:
    """The target's place in a ranking, counted from 1; infinity where it is missing."""
    places = np.flatnonzero(ranking.items == target)
    return float(places[0]) + 1.0 if len(places) else np.inf


def target_ranks(rankings: Sequence[Ranking], targets: Int[np.ndarray, " users"]) -> Float64[np.ndarray, " users"]:
    """The same for one target per ranking."""
    pairs = zip(rankings, targets.tolist(), strict=True)
    return np.array([target_rank(ranking, target) for ranking, target in pairs], dtype=np.float64)


def hit(ranks: Float64[np.ndarray, " users"], k: int) -> Float64[np.ndarray, " users"]:
    """Hit@k: 1 where the target is among the first k. The paper reports Hit@1."""
    return (ranks <= _checked(k)).astype(np.float64)


def ndcg(ranks: Float64[np.ndarray, " users"], k: int) -> Float64[np.ndarray, " users"]:
    """NDCG@k with one relevant item: 1 / log2(1 + rank) within the first k, else 0; the ideal gain is 1."""
    return np.where(ranks <= _checked(k), 1.0 / np.log2(1.0 + ranks), 0.0)


def reciprocal_rank(ranks: Float64[np.ndarray, " users"]) -> Float64[np.ndarray, " users"]:
    """1 / rank, 0 for a miss; its mean is MRR."""
    reciprocal: Float64[np.ndarray, " users"] = 1.0 / ranks
    return reciprocal


def metric_values(
    ranks: Float64[np.ndarray, " users"], ks: Sequence[int] = (1, 5, 10)
) -> dict[str, Float64[np.ndarray, " users"]]:
    """Every metric's value for every user, by the name that stands in tables. NDCG@1 is Hit@1 and left out."""
    values = {}
    for k in ks:
        values[f"Hit@{k}"] = hit(ranks, k)
        if k > 1:
            values[f"NDCG@{k}"] = ndcg(ranks, k)
    values["MRR"] = reciprocal_rank(ranks)
    return values


def _checked(k: int) -> int:
    if k < 1:
        raise ConfigError(f"A metric at {k} was asked for; expected at least 1.")
    return k
