"""Where the next item stands among all items that a user has not met: NumPy alone, so that any environment can run it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["figures", "gains", "ranks"]

_ROWS = 256


def ranks(users: np.ndarray, items: np.ndarray, targets: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
    """How many unseen items beat or tie with each target, by dot product.

    Args:
        users: a vector a row.
        items: a vector for each item number; row 0 pads and never competes.
        targets: the item that came next.
        histories: items before it, which do not compete; the target does, even where the user met it before.
    """
    found = np.empty(len(targets), dtype=np.int64)
    for start in range(0, len(targets), _ROWS):
        rows = slice(start, start + _ROWS)
        scores = users[rows] @ items.T
        wanted = np.take_along_axis(scores, targets[rows, None], axis=1)
        seen = histories[rows]
        scores[np.repeat(np.arange(len(seen)), [len(one) for one in seen]), np.concatenate(seen)] = -np.inf
        scores[:, 0] = -np.inf
        np.put_along_axis(scores, targets[rows, None], -np.inf, axis=1)
        found[rows] = (scores >= wanted).sum(axis=1)
    return found


def gains(ranks: np.ndarray) -> dict[str, np.ndarray]:
    """NDCG@10 and Hit@10 of each rank, which counts from 0."""
    inside = ranks < 10
    return {"ndcg@10": np.where(inside, 1 / np.log2(ranks + 2.0), 0.0), "hit@10": inside.astype(np.float64)}


def figures(ranks: np.ndarray) -> dict[str, float]:
    """Their means."""
    return {name: float(values.mean()) for name, values in gains(ranks).items()}
