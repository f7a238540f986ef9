"""Users by title: those whom two systems treat most differently, and what systems said of some in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int16, Int64

from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split, leave_one_out
from allmrec.evaluation.rank_files import MISS
from allmrec.experiments.tables import Row, Section

__all__ = ["Example", "SaidExample", "examples_of", "said_examples"]

_EACH = 4
_HISTORY = 5


@dataclass(frozen=True)
class Example:
    """A user, and the places that systems gave to their test item.

    Attributes:
        history: titles, the latest last.
        target: title of the test item.
        ranks: by system's title; `missed` where it was not in the answer.
    """

    history: tuple[str, ...]
    target: str
    ranks: tuple[tuple[str, str], ...]


def examples_of(section: Section, dataset: InteractionDataset) -> tuple[str, str, list[Example], list[Example]] | None:
    """Examples of a section: where the best system is far better than the reference, and where it is far worse.

    Args:
        section: whose systems.
        dataset: that is asked about.

    Returns:
        Titles of the best system and of the reference, and users of both kinds; none where there are no two systems.
    """
    reference = section.reference
    if reference is None or reference.ranks is None:
        return None
    figures = [(row.figure("Hit@1", section.groups[0]), row) for row in section.rows if row is not reference]
    others = [(figure.value, row) for figure, row in figures if figure is not None]
    if not others:
        return None
    best = max(others, key=lambda pair: pair[0])[1]
    both = np.flatnonzero(best.answered & reference.answered)
    gain = _places(reference)[both] - _places(best)[both]
    order = np.argsort(-gain, kind="stable")
    split = leave_one_out(dataset)

    def example(place: int) -> Example:
        user, target = int(best.asked.users[place]), int(best.asked.targets[place])
        history = _latest(dataset, split, user)
        ranks = [(row.title, _rank(row, place)) for row in section.rows if row.answered[place]]
        return Example(history, _title(dataset, target), tuple(ranks))

    better = [example(int(both[n])) for n in order[:_EACH] if gain[n] > 0]
    worse = [example(int(both[n])) for n in order[::-1][:_EACH] if gain[n] < 0]
    return best.title, reference.title, better, worse


@dataclass(frozen=True)
class SaidExample:
    """A user, and what systems said of them and of their test item.

    Attributes:
        history: titles, the latest last.
        target: title of the test item.
        genres: of the test item.
        said: by system's title what it said of the item, and of the user.
    """

    history: tuple[str, ...]
    target: str
    genres: str
    said: tuple[tuple[str, str, str], ...]


def said_examples(section: Section, dataset: InteractionDataset) -> list[SaidExample]:
    """The first users of a section whose systems answered in words; they stand in random order. None where systems ranked.

    Args:
        section: whose systems.
        dataset: that was asked about.
    """
    spoken = [(row.title, words) for row in section.rows if (words := row.words) is not None]
    if not spoken:
        return []
    asked, split = section.rows[0].asked, leave_one_out(dataset)
    found = []
    for place, (user, target) in enumerate(zip(asked.users[:_EACH].tolist(), asked.targets.tolist(), strict=False)):
        said = tuple((title, words.of_items[place], words.of_users[place]) for title, words in spoken)
        genres = ", ".join(dataset.catalogue.categories[target])
        found.append(SaidExample(_latest(dataset, split, user), _title(dataset, target), genres, said))
    return found


def _latest(dataset: InteractionDataset, split: Split, user: int) -> tuple[str, ...]:
    """Titles of a user's latest items before the test item."""
    return tuple(_title(dataset, int(item)) for item in split.test_history(user)[-_HISTORY:])


def _places(row: Row) -> Int64[np.ndarray, " users"]:
    """The first seed's places; a miss is one behind the last."""
    ranks = _first(row).astype(np.int64)
    return np.where(ranks == MISS, max(1, int(ranks.max())) + 1, ranks)


def _rank(row: Row, place: int) -> str:
    rank = int(_first(row)[place])
    return "missed" if rank == MISS else str(rank)


def _first(row: Row) -> Int16[np.ndarray, " users"]:
    """The first seed's ranks."""
    if row.ranks is None:
        raise ValueError(f"{row.row} has words and no ranks")
    first: Int16[np.ndarray, " users"] = row.ranks[0]
    return first


def _title(dataset: InteractionDataset, item: int) -> str:
    return dataset.catalogue.titles[item] or f"(no title: {dataset.items.id(item)})"
