"""Users whom two systems treat most differently, by title."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import leave_one_out
from allmrec.evaluation.rank_files import MISS
from allmrec.experiments.tables import Row, Section

__all__ = ["Example", "examples_of"]

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
    if reference is None:
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
        history = [_title(dataset, int(item)) for item in split.test_history(user)[-_HISTORY:]]
        ranks = [(row.title, _rank(row, place)) for row in section.rows if row.answered[place]]
        return Example(tuple(history), _title(dataset, target), tuple(ranks))

    better = [example(int(both[n])) for n in order[:_EACH] if gain[n] > 0]
    worse = [example(int(both[n])) for n in order[::-1][:_EACH] if gain[n] < 0]
    return best.title, reference.title, better, worse


def _places(row: Row) -> np.ndarray:
    """The first seed's places; a miss is one behind the last."""
    ranks = row.cells[0].ranks.astype(np.int64)
    return np.where(ranks == MISS, max(1, int(ranks.max())) + 1, ranks)


def _rank(row: Row, place: int) -> str:
    rank = int(row.cells[0].ranks[place])
    return "missed" if rank == MISS else str(rank)


def _title(dataset: InteractionDataset, item: int) -> str:
    return dataset.catalogue.titles[item] or f"(no title: {dataset.items.id(item)})"
