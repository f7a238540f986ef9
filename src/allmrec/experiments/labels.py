"""Places names beside the marks of a drawing, so that none leaves it or lies on another. Knows nothing of what is drawn."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

__all__ = ["HEIGHT", "Box", "labels_beside", "spread", "text_width"]

# Of a line of text, in sizes of its letters: DejaVu Sans, the tallest and widest of the fonts that a page may get.
HEIGHT = 1.2
_NARROW, _WIDE = frozenset("iIjlft.,:;'|!()[]/- "), frozenset("mwMW@%…—")
# What it costs to lie on a mark or on an interval, as way to the own mark.
_ON_MARK, _ON_BAR, _AT_LEFT = 40.0, 12.0, 2.0
_STEP_X, _STEP_Y = 6.0, 3.0


@dataclass(frozen=True)
class Box:
    """A rectangle; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def crosses(self, other: Box) -> bool:
        """Whether they share more than an edge."""
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of it that is nearest to a place."""
        return min(max(x, self.left), self.right), min(max(y, self.top), self.bottom)


def text_width(text: str, size: float) -> float:
    """How wide a text is at most, to a few per cent; fonts differ, so this is of a wide one.

    Args:
        text: of one line.
        size: of its letters.
    """
    return size * sum(map(_letter, text))


def _letter(letter: str) -> float:
    if letter in _NARROW:
        return 0.42
    if letter in _WIDE or unicodedata.east_asian_width(letter) in ("W", "F"):
        return 1.02
    return 0.78 if letter.isupper() or not letter.isascii() else 0.65


def labels_beside(
    marks: Sequence[tuple[float, float]],
    names: Sequence[str],
    area: Box,
    size: float,
    bars: Sequence[Box] = (),
    radius: float = 7.0,
) -> list[Box | None]:
    """A place for each mark's name: near to it, off other marks and intervals where there is room.

    Args:
        marks: their places.
        names: one a mark.
        area: what no name leaves.
        size: of the letters.
        bars: what names had better not lie on.
        radius: of a mark, with some air.

    Returns:
        The box of each name; none where all room is taken. No two cross each other.
    """
    dots = _array([Box(x - radius, y - radius, x + radius, y + radius) for x, y in marks])
    found: list[Box | None] = []
    lying, taken = _array(bars), _array([])
    height = HEIGHT * size
    for (x, y), name in zip(marks, names, strict=True):
        width = text_width(name, size)
        lefts = _places(area.left, area.right - width, _STEP_X, (x + radius, x - radius - width, x - width / 2))
        tops = _places(area.top, area.bottom - height, _STEP_Y, (y - radius - height, y - height / 2, y + radius))
        left, top = (grid.ravel() for grid in np.meshgrid(lefts, tops))
        boxes = np.stack([left, top, left + width, top + height], axis=1)
        boxes = boxes[~_crossing(boxes, taken).any(axis=1)]
        if not len(boxes):
            found.append(None)
            continue
        away = np.hypot(
            x - np.clip(x, boxes[:, 0], boxes[:, 2]),
            y - np.clip(y, boxes[:, 1], boxes[:, 3]),
        )
        cost = away + _ON_MARK * _crossing(boxes, dots).sum(axis=1) + _ON_BAR * _crossing(boxes, lying).sum(axis=1)
        best = Box(*map(float, boxes[np.argmin(cost + _AT_LEFT * (boxes[:, 0] < x))]))
        found.append(best)
        taken = np.concatenate([taken, _array([best])])
    return found


def spread(wanted: Sequence[float], low: float, high: float, step: float) -> list[float]:
    """Places near to the wanted ones, at least a step apart and from low to high; nearer together where they have no room.

    Args:
        wanted: in any order, which the places keep.
        low, high: the first and the last that there may be.
        step: between neighbours.
    """
    if len(wanted) > 1:
        step = min(step, (high - low) / (len(wanted) - 1))
    order = sorted(range(len(wanted)), key=lambda n: wanted[n])
    found, last = [0.0] * len(wanted), low - step
    for number, n in enumerate(order):
        # Whoever comes behind must have room too.
        last = found[n] = min(max(wanted[n], last + step), high - step * (len(order) - 1 - number))
    return found


def _places(low: float, high: float, step: float, wanted: Sequence[float]) -> Float64[np.ndarray, " places"]:
    """Places from low to high, with the wanted ones among them; none where low is above high."""
    if low > high:
        return np.zeros(0)
    return np.unique(np.clip([*np.arange(low, high, step), *wanted], low, high))


def _array(boxes: Sequence[Box]) -> Float64[np.ndarray, "boxes 4"]:
    return np.array([(box.left, box.top, box.right, box.bottom) for box in boxes], dtype=np.float64).reshape(-1, 4)


def _crossing(
    boxes: Float64[np.ndarray, "boxes 4"], others: Float64[np.ndarray, "others 4"]
) -> Bool[np.ndarray, "boxes others"]:
    """Which share more than an edge."""
    mine, theirs = boxes[:, None], others[None]
    crossing: Bool[np.ndarray, "boxes others"] = np.all(
        (mine[..., :2] < theirs[..., 2:]) & (theirs[..., :2] < mine[..., 2:]), axis=2
    )
    return crossing
