"""SequenceBatch: histories of different lengths as one array; knows neither losses nor who draws the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int64

from allmrec.core.errors import DataError

__all__ = ["SequenceBatch", "left_pad"]


@dataclass(frozen=True, eq=False)
class SequenceBatch:
    """Left-padded histories with targets and negatives.

    Attributes:
        users: user numbers; -1 for somebody whom the data set does not hold.
        histories: item numbers, oldest first, 0 on the left where a history is short.
        targets: what to predict, at every position or once a row; 0 where there is nothing to predict.
        negatives: items that the user never interacted with, in the shape of targets.

    Raises:
        DataError: the shapes do not fit.
    """

    users: Int64[np.ndarray, " batch"]
    histories: Int64[np.ndarray, "batch length"]
    targets: Int64[np.ndarray, "batch length"] | Int64[np.ndarray, " batch"] | None = None
    negatives: Int64[np.ndarray, "batch length"] | Int64[np.ndarray, " batch"] | None = None

    def __post_init__(self) -> None:
        if self.histories.ndim != 2 or self.users.shape != self.histories.shape[:1]:
            raise DataError(f"A batch has {self.users.shape} users for histories {self.histories.shape}.")
        for name in ("targets", "negatives"):
            array = getattr(self, name)
            if array is not None and array.shape not in (self.histories.shape, self.users.shape):
                raise DataError(
                    f"{name} have shape {array.shape}; expected {self.histories.shape} or {self.users.shape}."
                )

    def __len__(self) -> int:
        """How many rows."""
        return len(self.users)


def left_pad(sequences: Sequence[Int[np.ndarray, " _"]], length: int) -> Int64[np.ndarray, "batch length"]:
    """Put sequences at the right end of rows of one length, 0 before them; the most recent `length` items stay.

    Raises:
        DataError: `length` is not positive.
    """
    if length < 1:
        raise DataError(f"Rows of length {length} hold nothing; expected 1 or more.")
    padded = np.zeros((len(sequences), length), dtype=np.int64)
    kept = [sequence[-length:] for sequence in sequences]
    sizes = np.array([len(sequence) for sequence in kept], dtype=np.int64)
    filled = np.arange(length) >= length - sizes[:, None]
    # Row by row and left to right is the order in which a mask is filled, and the order of the pieces.
    if kept:
        padded[filled] = np.concatenate(kept)
    return padded
