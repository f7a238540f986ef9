"""Whether what was said names the right genres, and more than others' vectors or popularity would."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

from allmrec.core.errors import DataError
from allmrec.data.catalogue import Catalogue
from allmrec.evaluation.intervals import Estimate, bootstrap_mean, paired_difference

__all__ = [
    "GenreComparison",
    "GenrePrecision",
    "evaluate_genres",
    "frequent_genres",
    "item_genres",
    "majority_genres",
    "named_genres",
]


@dataclass(frozen=True)
class GenrePrecision:
    """How right the genres are that one system names.

    Attributes:
        precision: mean over answers of the share of named genres that are right; 0 where an answer names none.
        base_rate: the same for answers that always name the catalogue's most frequent genres, each as many as this system
            named there.
        above_base_rate: precision minus base rate, paired. Where its interval includes 0, what was said is not shown to
            say anything about this user or item.
        named: genres in an answer, on average.
        silent: answers that name no genre of the catalogue.
    """

    precision: Estimate
    base_rate: Estimate
    above_base_rate: Estimate
    named: float
    silent: int


@dataclass(frozen=True)
class GenreComparison:
    """How right the genres are that several systems name of the same users or items.

    The prompt's words are the same with the right vectors and with exchanged ones, titles included, and a language model
    that knows a title is right in both. Only the difference tells what the vectors said; where its interval includes 0
    they are not shown to have said anything.

    Attributes:
        answers: users or items that were evaluated.
        systems: by name.
        differences: precision of the first system minus that of each other one, paired.
    """

    answers: int
    systems: Mapping[str, GenrePrecision]
    differences: Mapping[str, Estimate]


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


def evaluate_genres(
    texts: Mapping[str, Sequence[str]],
    right: Sequence[frozenset[str]],
    catalogue: Catalogue,
    rng: np.random.Generator,
) -> GenreComparison:
    """Compare the genres that systems name with the right ones.

    Users and items of whom no genre is right are left out.

    Args:
        texts: what each system said, one text for each user or item; the first system is compared with every other.
        right: the genres that count as right for each, in folded case; see `item_genres` and `majority_genres`.
        catalogue: its categories together are the genres that can be named.
        rng: for the intervals.

    Raises:
        DataError: of nobody any genre is right.
    """
    evaluated = [n for n, genres in enumerate(right) if genres]
    if not evaluated:
        raise DataError("None of these items has categories, so no genre can be right; give a catalogue that has them.")
    frequent = frequent_genres(catalogue)
    precision: dict[str, Float64[np.ndarray, " answers"]] = {}
    systems: dict[str, GenrePrecision] = {}
    for name, said in texts.items():
        if len(said) != len(right):
            raise ValueError(f"{len(said)} texts of {name} came for {len(right)} users or items; give one for each.")
        named = [named_genres(said[n], frequent) for n in evaluated]
        own = precision[name] = _shares(named, [right[n] for n in evaluated])
        base = _shares([frozenset(frequent[: len(found)]) for found in named], [right[n] for n in evaluated])
        systems[name] = GenrePrecision(
            precision=bootstrap_mean(own, rng),
            base_rate=bootstrap_mean(base, rng),
            above_base_rate=paired_difference(own, base, rng),
            named=float(np.mean([len(found) for found in named])),
            silent=sum(not found for found in named),
        )
    first, *others = precision
    differences = {name: paired_difference(precision[first], precision[name], rng) for name in others}
    return GenreComparison(len(evaluated), systems, differences)


def _shares(named: Sequence[frozenset[str]], right: Sequence[frozenset[str]]) -> Float64[np.ndarray, " answers"]:
    """The share of right ones among the named."""
    pairs = zip(named, right, strict=True)
    return np.asarray([len(found & true) / max(1, len(found)) for found, true in pairs], dtype=np.float64)
