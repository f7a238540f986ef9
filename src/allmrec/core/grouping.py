"""Rows of similar length together, so that little of a batch is padding."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

__all__ = ["length_groups"]


def length_groups(
    lengths: Int[np.ndarray, " rows"], *, worth: int | None = None, largest: int | None = None
) -> list[Int[np.ndarray, " _rows"]]:
    """Divide rows into groups of similar length, so that short rows need not be as wide as the longest.

    Args:
        lengths: real positions of each row.
        worth: padding positions that a further group must save; none: length alone divides nothing.
        largest: rows in a group at the most; none: any number.

    Returns:
        The row numbers of each group, shorter rows first; together the groups hold each row once.
    """

    def cut(rows: Int[np.ndarray, " part"]) -> list[Int[np.ndarray, " _rows"]]:
        sizes = lengths[rows]
        saved = np.arange(1, len(rows)) * (sizes[-1] - sizes[:-1])
        if worth is None or not len(saved) or saved.max() < worth:
            size = largest or len(rows)
            return [rows[start : start + size] for start in range(0, len(rows), size)]
        at = int(saved.argmax()) + 1
        return cut(rows[:at]) + cut(rows[at:])

    order = np.argsort(lengths, kind="stable")
    return cut(order) if len(order) else []
