"""Training samples of sequence models, cut and drawn without a loop over users."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int64

from allmrec.core.errors import DataError
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split

__all__ = ["CompetingSampler", "NegativeSampler", "TrainingBatch", "TrainingWindows", "training_windows"]

# How many interactions of the table of seen items are sorted together.
_INTERACTIONS_AT_ONCE = 2_000_000


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Rows of one step. Users and histories as in `SequenceBatch`.

    Attributes:
        users: user numbers.
        histories: item numbers, 0 on the left where a history is short.
        targets: the item after each of them, 0 at padding.
        negatives: items that the user does not train on: one for each position, or a number of them for all of a
            row's positions together. None where the loss needs none.
        competing: items that compete for every position, the targets included, ascending; none: the whole catalogue.
        offsets: for each of them what corrects its score for how likely it was to be drawn.
    """

    users: Int64[np.ndarray, " batch"]
    histories: Int64[np.ndarray, "batch length"]
    targets: Int64[np.ndarray, "batch length"]
    negatives: Int64[np.ndarray, "batch drawn"]
    competing: Int64[np.ndarray, " competing"] | None = None
    offsets: Float32[np.ndarray, " competing"] | None = None

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True, eq=False)
class TrainingWindows:
    """Left-padded pieces of the users' training sequences: at each real position an item and the one that came next.

    Only where a piece ends is kept; rows are cut when they are asked for, so millions of users take little memory.

    Attributes:
        users: whose piece it is.
        ends: how many of the user's pairs of neighbours come up to the piece's last one.
        length: positions of a piece at the most.
        dataset: holds the items.
    """

    users: Int64[np.ndarray, " rows"]
    ends: Int64[np.ndarray, " rows"]
    length: int
    dataset: InteractionDataset

    def __len__(self) -> int:
        return len(self.users)

    def of(self, users: Bool[np.ndarray, " users"]) -> TrainingWindows:
        """The pieces of some users."""
        kept = users[self.users]
        return self if kept.all() else replace(self, users=self.users[kept], ends=self.ends[kept])

    def cut(
        self, rows: Int[np.ndarray, " chosen"]
    ) -> tuple[Int64[np.ndarray, "chosen columns"], Int64[np.ndarray, "chosen columns"]]:
        """Some pieces, as wide as the longest of them.

        Returns:
            Item numbers, 0 on the left where a piece is short; and the item after each of them, 0 where it pads.
        """
        ends = self.ends[rows]
        columns = int(min(self.length, ends.max()))
        pair = ends[:, None] + np.arange(-columns, 0)
        real = pair >= 0
        at = self.dataset.offsets[self.users[rows]][:, None] + np.maximum(pair, 0)
        flat = self.dataset.item_numbers
        return np.where(real, flat[at], 0).astype(np.int64), np.where(real, flat[at + 1], 0).astype(np.int64)


def training_windows(split: Split, length: int, windows: Literal["last", "all"]) -> TrainingWindows:
    """Divide every user's training sequence into rows of `length` positions.

    Args:
        split: gives each user's training prefix; users with fewer than two training items give no row.
        length: columns of a row.
        windows: "last" keeps each user's most recent row, as SASRec does; "all" cuts the older part into further rows
            that share nothing, so every position of a long sequence trains exactly once an epoch.

    Raises:
        DataError: no user has two training items.
    """
    pairs = np.maximum(split.train_end.astype(np.int64) - 1, 0)
    rows = -(-pairs // length)
    if windows == "last":
        rows = np.minimum(rows, 1)
    if not rows.any():
        raise DataError(
            "No user has two training items, so there is nothing to learn an order from; use more "
            "data, or withhold fewer targets from it (held_out_targets)."
        )
    users = np.repeat(np.arange(len(rows), dtype=np.int64), rows)
    # Pieces of one user are counted from the most recent backwards, so only the oldest is short.
    piece = np.arange(len(users)) - np.repeat(np.cumsum(rows) - rows, rows)
    return TrainingWindows(users, pairs[users] - piece * length, length, split.dataset)


class CompetingSampler:
    """Draws the items that compete in a softmax over part of a catalogue, the batch's targets among them.

    An item stands there if it is one of `size` draws or one of the batch's targets. With q the draws' probabilities
    (training interactions to the power of 3/4) and p the targets' (training interactions), n targets make that

        1 - (1 - q)^size (1 - p)^n

    likely, and minus the logarithm of it corrects the item's score (logQ: Bengio and Senecal 2008; Yi et al., RecSys 2019).

    Args:
        counts: training interactions per item number, row 0 the padding's.
        size: draws for each batch.
    """

    def __init__(self, counts: Int[np.ndarray, " rows"], size: int) -> None:
        known = counts[1:].astype(np.float64)
        smoothed = np.maximum(known, 1.0) ** 0.75
        self._drawn: Float64[np.ndarray, " items"] = smoothed / smoothed.sum()
        self._targets: Float64[np.ndarray, " items"] = known / max(1.0, known.sum())
        self._upto = np.cumsum(self._drawn)
        self._size = size

    def draw(
        self, targets: Int[np.ndarray, " targets"], rng: np.random.Generator
    ) -> tuple[Int64[np.ndarray, " competing"], Float32[np.ndarray, " competing"]]:
        """The items, ascending, and what is added to their scores."""
        drawn = np.searchsorted(self._upto, rng.random(self._size) * self._upto[-1], side="right") + 1
        items = np.unique(np.concatenate([drawn.clip(max=len(self._upto)), targets])).astype(np.int64)
        q, p = self._drawn[items - 1], self._targets[items - 1].clip(max=1 - 1e-9)
        absent = self._size * np.log1p(-q.clip(max=1 - 1e-9)) + len(targets) * np.log1p(-p)
        return items, (-np.log(-np.expm1(absent))).astype(np.float32)


class NegativeSampler:
    """Draws items that a user has not interacted with *in training*.

    Items that the user interacts with later stay possible: a sampler that spared them would tell the model about the
    validation and the test. (Candidates of an evaluation are drawn elsewhere and spare everything.)

    Args:
        split: gives each user's training prefix.

    Attributes:
        without: users whose training items are the whole catalogue, so that nothing can be drawn for them; whoever draws
            leaves them out.

    Raises:
        DataError: every user who trains has the whole catalogue among the training items.
    """

    def __init__(self, split: Split) -> None:
        dataset = split.dataset
        self._n_items = int(dataset.n_items)
        # Keys of one group of users are all smaller than the next group's, so sorted pieces make a sorted whole.
        begun = np.arange(0, dataset.n_interactions, _INTERACTIONS_AT_ONCE)
        edges = {0, dataset.n_users, *(np.searchsorted(dataset.offsets, begun, "right") - 1).tolist()}
        pieces = [self._keys(split, *group) for group in pairwise(sorted(edges))]
        self._seen = np.concatenate([np.empty(0, dtype=np.int64), *pieces])
        per_user = np.diff(np.searchsorted(self._seen, np.arange(dataset.n_users + 1) * (self._n_items + 1)))
        self.without: Bool[np.ndarray, " users"] = per_user >= self._n_items
        if self.without.any() and self.without.sum() == (per_user > 0).sum():
            raise DataError(
                f"Every user who trains has all {self._n_items} items among the training items, so no negative is left; "
                "use a catalogue with more items."
            )

    def _keys(self, split: Split, first: int, last: int) -> Int64[np.ndarray, " pairs"]:
        """Every user-and-item pair of the training of some neighbouring users, once and sorted."""
        offsets, ends = split.dataset.offsets[first : last + 1], split.train_end[first:last]
        lengths = np.diff(offsets)
        place = np.arange(offsets[-1] - offsets[0]) - np.repeat(offsets[:-1] - offsets[0], lengths)
        items = split.dataset.item_numbers[offsets[0] : offsets[-1]][place < np.repeat(ends, lengths)]
        users = np.repeat(np.arange(first, last, dtype=np.int64), np.minimum(ends, lengths))
        keys = users * (self._n_items + 1) + items
        # np.unique fills a hash table where nothing else is asked of it; keys that are nearly in order sort far faster.
        keys.sort()
        distinct: Int64[np.ndarray, " pairs"] = keys[np.diff(keys, prepend=-1) != 0]
        return distinct

    def draw(
        self, users: Int[np.ndarray, " rows"], columns: int, rng: np.random.Generator
    ) -> Int[np.ndarray, "rows columns"]:
        """One independent, uniform draw per row and column; the same item may come twice in a row.

        Raises:
            DataError: a row's user is one of `without`.
        """
        if self.without[users].any():
            raise DataError("A user has the whole catalogue among the training items, so no negative can be drawn.")
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
