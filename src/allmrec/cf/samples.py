"""Training samples of sequence models, cut and drawn without a loop over users; knows no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int, Int64

from allmrec.core.errors import DataError
from allmrec.data.splitting import Split

__all__ = ["NegativeSampler", "TrainingBatch", "TrainingWindows", "length_groups", "training_windows"]


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Rows of one step. Users and histories as in `SequenceBatch`.

    Attributes:
        users: user numbers.
        histories: item numbers, 0 on the left where a history is short.
        targets: the item after each of them, 0 at padding.
        negatives: items that the user does not train on: one for each position, or a number of them for all of a
            row's positions together.
    """

    users: Int64[np.ndarray, " batch"]
    histories: Int64[np.ndarray, "batch length"]
    targets: Int64[np.ndarray, "batch length"]
    negatives: Int64[np.ndarray, "batch drawn"]

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class TrainingWindows:
    """Left-padded pieces of the users' training sequences: at each real position an item and the one that came next.

    Attributes:
        users: whose piece it is.
        inputs: item numbers, 0 pads.
        targets: the item after each input, 0 where the input pads.
    """

    users: Int[np.ndarray, " rows"]
    inputs: Int[np.ndarray, "rows length"]
    targets: Int[np.ndarray, "rows length"]

    def __len__(self) -> int:
        return len(self.users)


def training_windows(split: Split, length: int, windows: Literal["last", "all"]) -> TrainingWindows:
    """Cut every user's training sequence into rows of `length` positions.

    Args:
        split: gives each user's training prefix; users with fewer than two training items give no row.
        length: columns of a row.
        windows: "last" keeps each user's most recent row, as SASRec does; "all" cuts the older part into further rows
            that share nothing, so every position of a long sequence trains exactly once an epoch.

    Raises:
        DataError: no user has two training items.
    """
    starts = split.dataset.offsets[:-1].astype(np.int64)
    pairs = np.maximum(split.train_end.astype(np.int64) - 1, 0)
    rows = -(-pairs // length)
    if windows == "last":
        rows = np.minimum(rows, 1)
    if not rows.any():
        raise DataError("No user has two training items, so there is nothing to learn an order from; use more data.")
    users = np.repeat(np.arange(len(rows), dtype=np.int64), rows)
    # Pieces of one user are counted from the most recent backwards, so only the oldest is short.
    piece = np.arange(len(users)) - np.repeat(np.cumsum(rows) - rows, rows)
    end = pairs[users] - piece * length
    pair = end[:, None] - length + np.arange(length)
    real = pair >= 0
    flat = split.dataset.item_numbers
    at = starts[users][:, None] + np.maximum(pair, 0)
    inputs = np.where(real, flat[at], 0).astype(np.int32)
    targets = np.where(real, flat[np.minimum(at + 1, len(flat) - 1)], 0).astype(np.int32)
    return TrainingWindows(users=users, inputs=inputs, targets=targets)


class NegativeSampler:
    """Draws items that a user has not interacted with *in training*.

    Items that the user touches later stay possible: a sampler that spared them would tell the model about the
    validation and the test. (Candidates of an evaluation are drawn elsewhere and spare everything.)

    Args:
        split: gives each user's training prefix.

    Raises:
        DataError: a user's training items are the whole catalogue.
    """

    def __init__(self, split: Split) -> None:
        dataset = split.dataset
        self._n_items = int(dataset.n_items)
        keys = dataset.user_of_interaction() * (self._n_items + 1) + dataset.item_numbers
        self._seen = np.unique(keys[split.train_mask()])
        per_user = np.bincount(self._seen // (self._n_items + 1), minlength=1)
        if per_user.max() >= self._n_items:
            user = dataset.users.id(int(per_user.argmax()))
            raise DataError(
                f"User {user!r} has all {self._n_items} items among the training items, so no negative is left; "
                "remove that user or widen the catalogue."
            )

    def draw(
        self, users: Int[np.ndarray, " rows"], columns: int, rng: np.random.Generator
    ) -> Int[np.ndarray, "rows columns"]:
        """One independent, uniform draw per row and column; the same item may come twice in a row."""
        drawn = rng.integers(1, self._n_items + 1, size=(len(users), columns))
        base = np.broadcast_to(users[:, None] * (self._n_items + 1), drawn.shape)
        again = np.nonzero(self._contains(base + drawn))
        while len(again[0]):
            drawn[again] = rng.integers(1, self._n_items + 1, size=len(again[0]))
            still = self._contains(base[again] + drawn[again])
            again = (again[0][still], again[1][still])
        return drawn

    def _contains(self, keys: Int[np.ndarray, "..."]) -> np.ndarray:
        """Which user-and-item keys are training interactions."""
        if not len(self._seen):
            return np.zeros(keys.shape, dtype=bool)
        at = np.searchsorted(self._seen, keys)
        return np.asarray(self._seen[np.minimum(at, len(self._seen) - 1)] == keys)


def length_groups(lengths: Int[np.ndarray, " rows"], worth: int) -> list[Int[np.ndarray, " _rows"]]:
    """Divide rows into groups of like length, so that short rows need not be as wide as the longest.

    Args:
        lengths: real positions of each row.
        worth: padding positions that a further group must save.

    Returns:
        The rows of each group, shorter ones first; every row is in one group.
    """

    def cut(rows: Int[np.ndarray, " part"]) -> list[Int[np.ndarray, " _rows"]]:
        sizes = lengths[rows]
        saved = np.arange(1, len(rows)) * (sizes[-1] - sizes[:-1])
        if not len(saved) or saved.max() < worth:
            return [rows]
        at = int(saved.argmax()) + 1
        return cut(rows[:at]) + cut(rows[at:])

    return cut(np.argsort(lengths, kind="stable"))
