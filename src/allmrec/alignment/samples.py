"""Samples of stage 1: a history, the item that followed and a sampled one."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from allmrec.cf.backbone import Backbone
from allmrec.core.errors import DataError
from allmrec.core.seeding import numpy_generator
from allmrec.data.batching import SequenceBatch
from allmrec.data.splitting import Split

__all__ = ["UserSamples"]


class UserSamples:
    """Training positions of all users, and the frozen CF model's `x_u` at each, computed once when first asked for.

    Args:
        split: gives each user's training prefix; users with fewer than two training items give no sample.
        backbone: a trained backbone in evaluation mode.
        positions: each user's last training item, or every training item with one before it.
        without: users who give no sample; none: all do.

    Raises:
        DataError: there is no sample.
    """

    def __init__(
        self,
        split: Split,
        backbone: Backbone,
        positions: Literal["last", "all"],
        without: Bool[np.ndarray, " users"] | None = None,
    ) -> None:
        self._backbone = backbone
        self._flat = split.dataset.item_numbers
        starts = split.dataset.offsets[:-1].astype(np.int64)
        pairs = np.maximum(split.train_end.astype(np.int64) - 1, 0)
        count = np.minimum(pairs, 1) if positions == "last" else pairs
        if without is not None:
            count = np.where(without, 0, count)
        if not count.any():
            raise DataError(
                "No user has two training items, so stage 1 has no sample; use more data, or withhold fewer targets "
                "(held_out_targets)."
            )
        self.users = np.repeat(np.arange(len(count), dtype=np.int64), count)
        back = np.arange(len(self.users)) - np.repeat(np.cumsum(count) - count, count)
        self._starts = starts[self.users]
        self._ends = self._starts + pairs[self.users] - back
        self.positives = self._flat[self._ends].astype(np.int64)
        device = backbone.item_vectors().device
        self._vectors = torch.zeros(len(self.users), backbone.dim, device=device)
        self._known = np.zeros(len(self.users), dtype=bool)

    def __len__(self) -> int:
        return len(self.users)

    def histories(self, rows: Int[np.ndarray, " rows"]) -> Int[np.ndarray, "rows length"]:
        """The items before each sample's own, left-padded to the backbone's length."""
        at = self._ends[rows][:, None] - np.arange(self._backbone.max_history, 0, -1)
        real = at >= self._starts[rows][:, None]
        return np.where(real, self._flat[np.maximum(at, 0)], 0).astype(np.int64)

    @torch.no_grad()
    def user_vectors(self, rows: Int[np.ndarray, " rows"], batch_size: int = 512) -> Float[Tensor, "rows d"]:
        """`x_u` given each sample's history."""
        missing = rows[~self._known[rows]]
        for start in range(0, len(missing), batch_size):
            part = missing[start : start + batch_size]
            batch = SequenceBatch(self.users[part], self.histories(part))
            self._vectors[torch.from_numpy(part)] = self._backbone.user_vectors(batch)
            self._known[part] = True
        return self._vectors[torch.from_numpy(rows)]

    def order(self, epoch: int, seed: int, limit: int | None) -> Int[np.ndarray, " rows"]:
        """The rows of an epoch in its own order; a new draw each epoch where `limit` leaves some out."""
        return numpy_generator(seed, "alignment", "order", epoch).permutation(len(self))[:limit]
