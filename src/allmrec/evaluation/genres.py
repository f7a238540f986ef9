"""Whether what was said names the right genres, and more of them than naming the most frequent ones would."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

from allmrec.core.errors import DataError
from allmrec.data.catalogue import Catalogue

__all__ = [
    "GenreScores",
    "frequent_genres",
    "genre_scores",
    "item_genres",
    "majority_genres",
    "named_genres",
]


@dataclass(frozen=True, eq=False)
class GenreScores:
    """How right the genres are that one system names, answer by answer.

    A language model that knows a title is right about it whatever vectors it reads, and one that always names what is frequent
    is often right. So precision alone says little: compare it with the base rate, and with what is said on exchanged vectors.

    Attributes:
        precision: share of the named genres that are right; 0 where none is named.
        base_rate: the same for an answer that names the catalogue's most frequent genres, as many as this one.
        named: how many genres each answer names.
    """

    precision: Float64[np.ndarray, " answers"]
    base_rate: Float64[np.ndarray, " answers"]
    named: Float64[np.ndarray, " answers"]


def named_genres(text: str, genres: Iterable[str]) -> frozenset[str]:
    """The genres that a text names: whole words, capitals or not, the longer of two names that overlap.

    Returns:
        Names in folded case.
    """
    names = sorted({genre.casefold() for genre in genres if genre}, key=lambda name: (-len(name), name))
    if not names:
        return frozenset()
    pattern = rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)"
    return frozenset(re.findall(pattern, text.casefold()))


def item_genres(items: Iterable[int], catalogue: Catalogue) -> list[frozenset[str]]:
    """Each item's categories in folded case; empty where it has none."""
    return [frozenset(genre.casefold() for genre in catalogue.categories[item] if genre) for item in items]


def majority_genres(histories: Iterable[Int[np.ndarray, " _items"]], catalogue: Catalogue) -> list[frozenset[str]]:
    """For each history the genres of more than half of its items; where there is no such genre, the most frequent ones.

    Items without categories do not count; a history without any other gives the empty set.
    """
    found = []
    for history in histories:
        rows = [row for row in item_genres(history.tolist(), catalogue) if row]
        counts = Counter(genre for row in rows for genre in row)
        needed = min(len(rows) // 2 + 1, max(counts.values(), default=0))
        found.append(frozenset(genre for genre, count in counts.items() if count >= needed))
    return found


def frequent_genres(catalogue: Catalogue) -> list[str]:
    """All genres in folded case, those of the most items first; equally frequent ones by the alphabet."""
    counts = Counter(genre for row in item_genres(range(len(catalogue.categories)), catalogue) for genre in row)
    return sorted(counts, key=lambda genre: (-counts[genre], genre))


def genre_scores(texts: Sequence[str], right: Sequence[frozenset[str]], catalogue: Catalogue) -> GenreScores:
    """Compare the genres that texts name with the right ones.

    Args:
        texts: what a system said, one for each user or item.
        right: the genres that count as right for each, in folded case, at least one; see `item_genres` and `majority_genres`.
        catalogue: its categories together are the genres that can be named.

    Raises:
        DataError: of somebody no genre is right.
        ValueError: there are more or fewer texts than users or items.
    """
    if len(texts) != len(right):
        raise ValueError(f"{len(texts)} texts came for {len(right)} users or items; give one for each.")
    if not all(right):
        raise DataError("Of a user or an item no genre is right; ask only about those whose genres are known.")
    frequent = frequent_genres(catalogue)
    named = [named_genres(text, frequent) for text in texts]
    return GenreScores(
        precision=_shares(named, right),
        base_rate=_shares([frozenset(frequent[: len(found)]) for found in named], right),
        named=np.asarray([len(found) for found in named], dtype=np.float64),
    )


def _shares(named: Sequence[frozenset[str]], right: Sequence[frozenset[str]]) -> Float64[np.ndarray, " answers"]:
    """The share of right ones among the named."""
    pairs = zip(named, right, strict=True)
    return np.asarray([len(found & true) / max(1, len(found)) for found, true in pairs], dtype=np.float64)
