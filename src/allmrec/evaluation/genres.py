"""Whether what was said of items names their genres, and whether vectors had a part in it; knows no model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from allmrec.core.errors import DataError
from allmrec.data.catalogue import Catalogue
from allmrec.evaluation.intervals import Estimate, bootstrap_mean, paired_difference

__all__ = ["GenrePrecision", "judge_genres", "named_genres"]


@dataclass(frozen=True)
class GenrePrecision:
    """How right the named genres are, with the right vectors in the prompt and with others'.

    The words of the prompt are the same in both, titles included, so a language model that knows a title is right in
    both. Only the difference tells what the vectors said; where its interval includes 0 they are not shown to have
    said anything.

    Attributes:
        own: mean precision with each user's and item's own vectors.
        shuffled: with vectors that were exchanged.
        difference: own minus shuffled, paired.
        pairs: users and items that were judged.
        silent, silent_shuffled: answers that name no genre of the catalogue; their precision counts as 0.
    """

    own: Estimate
    shuffled: Estimate
    difference: Estimate
    pairs: int
    silent: int
    silent_shuffled: int


def named_genres(text: str, genres: Sequence[str]) -> frozenset[str]:
    """The genres that a text names: whole words, capitals or not, the longer of two names that overlap.

    Returns:
        Names in folded case.
    """
    names = sorted({genre.casefold() for genre in genres if genre}, key=lambda name: (-len(name), name))
    if not names:
        return frozenset()
    pattern = rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)"
    return frozenset(re.findall(pattern, text.casefold()))


def judge_genres(
    own: Sequence[str],
    shuffled: Sequence[str],
    items: Sequence[int],
    catalogue: Catalogue,
    rng: np.random.Generator,
) -> GenrePrecision:
    """Compare what was said of items with their categories.

    An answer's precision is the share of the genres it names that are the item's; one that names none gets 0. Items
    without categories are left out.

    Args:
        own: what was said with the right vectors, one for each user.
        shuffled: the same with exchanged ones.
        items: the items that were spoken of.
        catalogue: holds the categories; all of them together are the genres that can be named.
        rng: for the intervals.

    Raises:
        DataError: none of the items has categories.
    """
    genres = sorted({genre for row in catalogue.categories for genre in row})
    true = [frozenset(genre.casefold() for genre in catalogue.categories[item]) for item in items]
    judged = [n for n, names in enumerate(true) if names]
    if not judged:
        raise DataError("None of these items has categories, so no genre can be right; give a catalogue that has them.")
    precision: list[Float64[np.ndarray, " pairs"]] = []
    silent: list[int] = []
    for texts in (own, shuffled):
        named = [named_genres(text, genres) for text in texts]
        if len(named) != len(items):
            raise ValueError(f"{len(named)} texts came for {len(items)} items; give one for each.")
        values = [len(named[n] & true[n]) / max(1, len(named[n])) for n in judged]
        precision.append(np.asarray(values, dtype=np.float64))
        silent.append(sum(not named[n] for n in judged))
    return GenrePrecision(
        own=bootstrap_mean(precision[0], rng),
        shuffled=bootstrap_mean(precision[1], rng),
        difference=paired_difference(precision[0], precision[1], rng),
        pairs=len(judged),
        silent=silent[0],
        silent_shuffled=silent[1],
    )
