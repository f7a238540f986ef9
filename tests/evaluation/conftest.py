"""A small world to evaluate in, and systems whose answers are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split, leave_one_out
from allmrec.ranking import Query, Ranking, ranking_from_scores


def world(n_users: int = 30, n_items: int = 40, length: int = 6, seed: int = 0) -> Split:
    """Users who took items at random, each item once."""
    rng = np.random.default_rng(seed)
    items = [f"i{n:03d}" for n in range(1, n_items + 1)]
    sequences = {f"u{n}": [items[i] for i in rng.permutation(n_items)[:length]] for n in range(n_users)}
    return leave_one_out(InteractionDataset.from_sequences(sequences, items=items))


class Scored:
    """Ranks by a function of the query and the item number."""

    def __init__(self, name: str, score: Callable[[Query, int], float]) -> None:
        self.name = name
        self._score = score
        self.asked: list[int] = []

    def rank(self, queries: Sequence[Query], candidates: Sequence[np.ndarray]) -> list[Ranking]:
        self.asked.append(len(queries))
        return [
            ranking_from_scores(items, np.array([self._score(query, int(item)) for item in items], dtype=np.float64))
            for query, items in zip(queries, candidates, strict=True)
        ]


@pytest.fixture
def split() -> Split:
    return world()


@pytest.fixture
def oracle(split: Split) -> Scored:
    """Knows every answer."""
    return Scored("Oracle", lambda query, item: float(item == split.test[query.user]))


@pytest.fixture
def fool(split: Split) -> Scored:
    """Knows every answer and puts it last."""
    return Scored("Fool", lambda query, item: -float(item == split.test[query.user]))


@pytest.fixture
def constant() -> Scored:
    """Cannot tell candidates apart."""
    return Scored("Constant", lambda query, item: 0.0)
