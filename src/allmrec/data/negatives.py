"""Items that a user never interacted with, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64

from allmrec.core.errors import DataError
from allmrec.data.interactions import InteractionDataset

__all__ = ["Room", "pooled_negatives", "room_for_negatives", "sample_negatives"]

# Above this share of unusable items, drawing again and again costs more than listing what is free.
_CROWDED = 0.75

# How many rows times items are listed at once.
_CELLS = 2_000_000

# Where the catalogue is too small for what was asked, this share of the users decides how many negatives there are: one
# heavy user among many is left out and takes nothing from the others.
_DECIDING = 0.75


@dataclass(frozen=True, eq=False)
class Room:
    """How many negatives there are for users of whom some may leave fewer unseen items than were asked for.

    Attributes:
        wanted: how many were asked for.
        n: how many every kept user leaves.
        kept: the users who leave so many.
        left_out: how many users leave fewer.
    """

    wanted: int
    n: int
    kept: Int64[np.ndarray, " kept"]
    left_out: int


def room_for_negatives(dataset: InteractionDataset, users: Int[np.ndarray, " users"], wanted: int) -> Room:
    """Find how many negatives can be drawn, at most `wanted`, and for whom.

    Where not all users leave `wanted` items unseen, it is the most that three quarters of those leave who leave any. The
    others are left out. In a catalogue of ordinary size that is `wanted`, and only the heaviest users are left out.

    Args:
        dataset: whose interactions the negatives avoid.
        users: user numbers; the order of those who are kept stays.
        wanted: negatives asked for, 1 or more.

    Raises:
        DataError: there are users, and none of them leaves an item unseen.
    """
    users = np.asarray(users, dtype=np.int64)
    # Where even the longest history leaves enough, nobody needs to look at which items are in it.
    if not len(users) or dataset.n_items - int(dataset.lengths[users].max(initial=0)) >= wanted:
        return Room(wanted, wanted, users, 0)
    left = dataset.n_items - _taken_per_row(dataset, users, np.zeros((len(users), 0), dtype=np.int64))
    if left.min() >= wanted:
        return Room(wanted, wanted, users, 0)
    some = np.sort(left[left > 0])[::-1]
    if not len(some):
        raise DataError(
            f"No user leaves any of the {dataset.n_items} items unseen, so there is no negative to tell a user's items "
            "from. Use a catalogue with more items; `allmrec prepare` keeps items without interactions with --keep-items."
        )
    n = int(min(wanted, some[int(np.ceil(_DECIDING * len(some))) - 1]))
    kept = left >= n
    return Room(wanted, n, users[kept], int(len(users) - kept.sum()))


def sample_negatives(
    dataset: InteractionDataset,
    users: Int[np.ndarray, " rows"],
    n: int,
    rng: np.random.Generator,
    exclude_extra: Int[np.ndarray, "rows extra"] | None = None,
    distinct: bool = True,
) -> Int32[np.ndarray, "rows n"]:
    """Draw `n` items per row, each equally likely among those that the row's user never interacted with.

    That is anywhere: in training, validation or test. The released program forgets the last two (METHOD.md,
    "negatives", a defect). Rows are drawn at once and unusable draws are drawn again, which leaves the distribution of
    drawing one by one without replacement.

    Args:
        dataset: whose interactions to avoid.
        users: user numbers; a user may stand in several rows.
        n: how many per row.
        rng: where randomness comes from.
        exclude_extra: further items to avoid in each row; 0 is none.
        distinct: no item twice within a row. Without it rows may repeat, as is usual for one negative per position.

    Raises:
        DataError: a user leaves too few items.
    """
    users = np.asarray(users, dtype=np.int64)
    if exclude_extra is None:
        exclude_extra = np.zeros((len(users), 0), dtype=np.int64)
    drawn = np.zeros((len(users), n), dtype=np.int32)
    if n == 0 or len(users) == 0:
        return drawn
    taken = _taken_per_row(dataset, users, exclude_extra)
    needed = n if distinct else 1
    short = dataset.n_items - taken < needed
    if short.any():
        row = int(np.argmax(short))
        raise DataError(
            f"User {dataset.users.id(int(users[row]))!r} leaves {dataset.n_items - taken[row]} of {dataset.n_items} "
            f"items unseen; {needed} negatives were asked for. Ask for fewer."
        )
    # Rejection is faster while most draws are good; rows without much room are drawn from a list of what is free.
    crowded = taken + (n if distinct else 0) > _CROWDED * dataset.n_items
    rows = np.flatnonzero(~crowded)
    drawn[rows] = _by_rejection(dataset, users[rows], n, rng, exclude_extra[rows], distinct)
    rows = np.flatnonzero(crowded)
    chunk = max(1, _CELLS // dataset.n_items)
    for part in (rows[start : start + chunk] for start in range(0, len(rows), chunk)):
        drawn[part] = _by_listing(dataset, users[part], n, rng, exclude_extra[part], distinct)
    return drawn


def pooled_negatives(
    dataset: InteractionDataset,
    users: Int[np.ndarray, " rows"],
    n: int,
    pool: int,
    rng: np.random.Generator,
) -> Int32[np.ndarray, "rows n"]:
    """Draw `n` items per row as `sample_negatives` does, but all rows from the same `pool` random items.

    A row's negatives are still uniform over the items that its user never interacted with; rows that share a pool are not
    independent. A row whose user leaves too few items of the pool takes these and draws the rest from the others.

    Args:
        dataset: whose interactions to avoid.
        users: user numbers.
        n: how many per row, distinct.
        pool: items to draw from, at least `n`; at most the catalogue is used.
        rng: where randomness comes from.

    Raises:
        DataError: a user leaves too few items of the catalogue.
    """
    users = np.asarray(users, dtype=np.int64)
    items = rng.choice(dataset.n_items, size=min(pool, dataset.n_items), replace=False).astype(np.int32) + 1
    unusable = _has_interacted(dataset, users, np.broadcast_to(items, (len(users), len(items))))
    order = np.argsort(np.where(unusable, 2.0, rng.random(unusable.shape)), axis=1)
    drawn = np.zeros((len(users), n), dtype=np.int32)
    usable = len(items) - unusable.sum(axis=1)
    enough = usable >= n
    drawn[enough] = items[order[enough, :n]]
    for row in np.flatnonzero(~enough):
        own = items[order[row, : usable[row]]]
        more = sample_negatives(dataset, users[row : row + 1], n - len(own), rng, items[None].astype(np.int64))
        drawn[row] = rng.permutation(np.concatenate([own, more[0]]))
    return drawn


def _by_listing(
    dataset: InteractionDataset,
    users: Int64[np.ndarray, " rows"],
    n: int,
    rng: np.random.Generator,
    exclude_extra: Int[np.ndarray, "rows extra"],
    distinct: bool,
) -> Int32[np.ndarray, "rows n"]:
    """Draw from all items at once, unusable ones last."""
    items = np.broadcast_to(np.arange(1, dataset.n_items + 1), (len(users), dataset.n_items))
    unusable = _has_interacted(dataset, users, items)
    for column in exclude_extra.T:
        unusable |= items == column[:, None]
    # A random key for each item; the n smallest among the usable are a draw without replacement, in random order.
    order = np.argsort(np.where(unusable, 2.0, rng.random(unusable.shape)), axis=1)
    if distinct:
        return (order[:, :n] + 1).astype(np.int32)
    free = dataset.n_items - unusable.sum(axis=1, keepdims=True)
    places = rng.integers(0, free, size=(len(users), n))
    return (np.take_along_axis(order, places, axis=1) + 1).astype(np.int32)


def _by_rejection(
    dataset: InteractionDataset,
    users: Int64[np.ndarray, " rows"],
    n: int,
    rng: np.random.Generator,
    exclude_extra: Int[np.ndarray, "rows extra"],
    distinct: bool,
) -> Int32[np.ndarray, "rows n"]:
    """Draw everywhere, then again where a draw is unusable, until none is."""
    drawn = np.zeros((len(users), n), dtype=np.int32)
    open_rows = np.arange(len(users))
    pending = np.ones((len(users), n), dtype=bool)
    while len(open_rows):
        values = drawn[open_rows]
        values[pending] = rng.integers(1, dataset.n_items + 1, size=int(pending.sum()), dtype=np.int32)
        bad = _has_interacted(dataset, users[open_rows], values)
        for column in exclude_extra[open_rows].T:
            bad |= values == column[:, None]
        if distinct:
            bad |= _repeats(values, pending)
        drawn[open_rows] = values
        again = bad.any(axis=1)
        open_rows, pending = open_rows[again], bad[again]
    return drawn


def _repeats(values: Int32[np.ndarray, "rows n"], pending: Bool[np.ndarray, "rows n"]) -> Bool[np.ndarray, "rows n"]:
    """Where a row repeats an item. Accepted draws stand first, so that only a later draw counts as the repeat."""
    order = np.argsort(values.astype(np.int64) * 2 + pending, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    same = np.zeros_like(pending)
    same[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = np.zeros_like(pending)
    np.put_along_axis(repeated, order, same, axis=1)
    return repeated


def _has_interacted(
    dataset: InteractionDataset, users: Int64[np.ndarray, " rows"], items: Int[np.ndarray, "rows n"]
) -> Bool[np.ndarray, "rows n"]:
    """Whether each row's user interacted with each of its items."""
    if len(dataset.interacted_keys) == 0:
        return np.zeros(items.shape, dtype=bool)
    keys = users[:, None] * (dataset.n_items + 1) + items
    place = np.searchsorted(dataset.interacted_keys, keys)
    found: Bool[np.ndarray, "rows n"] = (
        dataset.interacted_keys[np.minimum(place, len(dataset.interacted_keys) - 1)] == keys
    )
    return found


def _taken_per_row(
    dataset: InteractionDataset, users: Int64[np.ndarray, " rows"], exclude_extra: Int[np.ndarray, "rows extra"]
) -> Int64[np.ndarray, " rows"]:
    """How many different items each row may not draw."""
    width = dataset.n_items + 1
    start = np.searchsorted(dataset.interacted_keys, users * width)
    end = np.searchsorted(dataset.interacted_keys, (users + 1) * width)
    taken = end - start
    if exclude_extra.shape[1]:
        ordered = np.sort(exclude_extra, axis=1)
        new = (ordered >= 1) & (ordered <= dataset.n_items) & ~_has_interacted(dataset, users, ordered)
        new[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
        taken = taken + new.sum(axis=1)
    return taken
