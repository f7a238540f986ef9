"""Maximal marginal relevance (Carbonell and Goldstein, 1998): items that are good and unlike one another."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

__all__ = ["diversified"]


def diversified(
    scores: Float[np.ndarray, " items"], vectors: Float[np.ndarray, "items dim"], k: int, weight: float
) -> Int64[np.ndarray, " chosen"]:
    """Places of the items that are chosen, in the order in which they are.

    The next item is the one with the greatest (1 − weight) · score − weight · similarity, where scores go from 0 to 1 over
    the items given and similarity is the greatest cosine to an item that was chosen before.

    Args:
        scores: of each item.
        vectors: of length 1, or 0 where an item has none; then it is like no other.
        k: how many to choose.
        weight: 0: by score alone; 1: as unlike as can be, behind the first.
    """
    spread = float(np.ptp(scores)) if len(scores) else 0.0
    relevance = (scores - scores.min()) / spread if spread > 0 else np.zeros(len(scores))
    alike = np.zeros(len(scores))
    left = np.ones(len(scores), dtype=bool)
    chosen: list[int] = []
    while len(chosen) < min(k, len(scores)):
        worth = np.where(left, (1 - weight) * relevance - weight * alike, -np.inf)
        # The first is the best one, whatever the weight.
        best = int(np.argmax(worth if chosen else np.where(left, relevance, -np.inf)))
        chosen.append(best)
        left[best] = False
        similarity = vectors @ vectors[best]
        alike = similarity if len(chosen) == 1 else np.maximum(alike, similarity)
    return np.asarray(chosen, dtype=np.int64)
