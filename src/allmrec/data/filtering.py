"""Which interactions remain: ratings, repeats and k-core; knows only numbers, no ids and no texts."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

__all__ = ["CorePasses", "Repeats", "k_core", "without_repeats"]

Repeats = Literal["keep", "first", "last"]
CorePasses = Literal["one", "all"]


def without_repeats(
    users: Int[np.ndarray, " interactions"], items: Int[np.ndarray, " interactions"], repeats: Repeats
) -> Bool[np.ndarray, " interactions"]:
    """Which interactions stay where a user meets an item again.

    Args:
        users, items: numbers of each interaction, in time order.
        repeats: "keep" all of them, or only the "first" or the "last".
    """
    keep = np.ones(len(users), dtype=bool)
    if repeats == "keep" or len(users) == 0:
        return keep
    pairs = users.astype(np.int64) * (int(items.max()) + 1) + items
    keep[:] = False
    if repeats == "first":
        keep[np.unique(pairs, return_index=True)[1]] = True
    else:
        keep[len(pairs) - 1 - np.unique(pairs[::-1], return_index=True)[1]] = True
    return keep


def k_core(
    users: Int[np.ndarray, " interactions"],
    items: Int[np.ndarray, " interactions"],
    user_core: int,
    item_core: int,
    passes: CorePasses,
    counted: Bool[np.ndarray, " interactions"] | None = None,
) -> Bool[np.ndarray, " interactions"]:
    """Which interactions stay when rare users and items are removed.

    Args:
        users, items: numbers of each interaction.
        user_core, item_core: users and items with fewer interactions are removed; 0 or 1 removes none.
        passes: "one" counts users and items once, both before anything is removed, as the released program does: some
            may fall below the limit by the removal of others. "all" repeats until nobody does.
        counted: which interactions count; the others stay if both their user and their item do.
    """
    keep = np.ones(len(users), dtype=bool)
    counted = keep.copy() if counted is None else counted
    n_users = int(users.max(initial=-1)) + 1
    n_items = int(items.max(initial=-1)) + 1
    while True:
        counting = keep & counted
        frequent_users = np.bincount(users[counting], minlength=n_users) >= user_core
        frequent_items = np.bincount(items[counting], minlength=n_items) >= item_core
        remains: Bool[np.ndarray, " interactions"] = keep & frequent_users[users] & frequent_items[items]
        if passes == "one" or remains.sum() == keep.sum():
            return remains
        keep = remains
