"""Texts as token numbers, kept flat: tokenised once, padded only when a batch is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

__all__ = ["TokenisedTexts"]


@dataclass(frozen=True)
class TokenisedTexts:
    """Token numbers of many texts, one after another.

    Attributes:
        ids: all tokens, special tokens included.
        offsets: text `i` is `ids[offsets[i]:offsets[i + 1]]`; an absent text has no token at all.
        padding: the number that fills a batch up.
    """

    ids: Int[np.ndarray, " tokens"]
    offsets: Int[np.ndarray, " texts_and_1"]
    padding: int = 0

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], padding: int = 0) -> TokenisedTexts:
        """Put rows of token numbers one after another."""
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        flat = np.fromiter((token for row in rows for token in row), dtype=np.int32, count=int(offsets[-1]))
        return cls(ids=flat, offsets=offsets, padding=padding)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int[np.ndarray, " texts"]:
        """Tokens of each text; 0 where there is none."""
        return np.diff(self.offsets)

    def batch(
        self, rows: Int[np.ndarray, " rows"]
    ) -> tuple[Int[np.ndarray, "rows longest"], Bool[np.ndarray, "rows longest"]]:
        """The chosen texts padded on the right to the longest of them, and where the real tokens are."""
        lengths = self.lengths[rows]
        column = np.arange(max(1, int(lengths.max(initial=0))))
        real = column < lengths[:, None]
        at = np.where(real, self.offsets[:-1][rows][:, None] + column, 0)
        ids = np.where(real, self.ids[at] if len(self.ids) else 0, self.padding)
        return ids.astype(np.int64), real
