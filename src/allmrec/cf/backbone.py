"""What a collaborative-filtering model must offer to be given a language model; knows no particular model."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from allmrec.data.batching import SequenceBatch

__all__ = ["Backbone", "SequenceBackbone"]


@runtime_checkable
class Backbone(Protocol):
    """A trained collaborative-filtering model (CF), seen from outside: two tables of vectors.

    The score of item `i` for user `u` is the dot product `x_u · E_i`; whatever another system computes fits as soon as
    it gives these two. Items are numbered from 1; row 0 of the item vectors belongs to the padding.
    """

    @property
    def width(self) -> int:
        """Length `d` of the vectors."""
        ...

    @property
    def max_length(self) -> int:
        """How many of a user's most recent items the model looks at."""
        ...

    @property
    def n_items(self) -> int:
        """Number of items, the padding not counted."""
        ...

    def item_vectors(self) -> Float[Tensor, "rows d"]:
        """`E`, one row per item number (`items + 1` rows; row 0 pads)."""
        ...

    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "batch d"]:
        """`x_u` of each row, given its history. An empty history gives a vector too, never NaN."""
        ...


class SequenceBackbone(nn.Module):
    """Base of the backbones that this project trains itself: a vector after each position of a history.

    A new one implements `item_vectors` and `position_vectors` and enters itself in `allmrec.cf.registry.BACKBONES`.

    Args:
        n_items: number of items, the padding not counted.
        width: length `d` of the vectors.
        max_length: how many of the most recent items are looked at.
    """

    def __init__(self, n_items: int, width: int, max_length: int) -> None:
        super().__init__()
        self.n_items = n_items
        self.width = width
        self.max_length = max_length

    @abstractmethod
    def item_vectors(self) -> Float[Tensor, "rows d"]:
        """`E`, one row per item number (`items + 1` rows; row 0 pads)."""
        raise NotImplementedError

    @abstractmethod
    def position_vectors(
        self, histories: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length d"]:
        """The user's vector after each position; column `t` has seen columns up to `t` and nothing later.

        Args:
            histories: left-padded item numbers, at most `max_length` columns.
            users: the users' numbers, -1 for somebody the data set does not hold; most models ignore them.
        """
        raise NotImplementedError

    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "batch d"]:
        """`x_u`: the vector after the last position of each history."""
        histories = trimmed(np.asarray(batch.histories), self.max_length)
        device = self.item_vectors().device
        items = torch.as_tensor(histories, dtype=torch.long, device=device)
        users = torch.as_tensor(np.asarray(batch.users), dtype=torch.long, device=device)
        return self.position_vectors(items, users)[:, -1]


def trimmed(histories: Int[np.ndarray, "batch length"], length: int) -> Int[np.ndarray, "batch kept"]:
    """The last `length` columns at the most, without the leading columns in which every row is padding."""
    recent = histories[:, -length:]
    used = (recent != 0).any(axis=0)
    # One column stays where nothing is real, so that an empty history still has a last position.
    first = int(used.argmax()) if used.any() else recent.shape[1] - 1
    return recent[:, first:]
