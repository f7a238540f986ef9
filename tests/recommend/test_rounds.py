"""Ranking in rounds: worked out by hand, complete, and the best never lost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core.errors import ConfigError
from allmrec.ranking import Query, Ranking, ranking_from_scores
from allmrec.recommend.rounds import rank_in_rounds

QUERY = Query(np.empty(0, dtype=np.int64))


class HigherIsBetter:
    """Prefers the higher number, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __call__(self, queries: Sequence[Query], candidates: Sequence[np.ndarray]) -> list[Ranking]:
        assert len(queries) == len(candidates)
        self.asked += [c.tolist() for c in candidates]
        return [ranking_from_scores(c, c.astype(np.float32)) for c in candidates]


def test_by_hand() -> None:
    rank = HigherIsBetter()
    found = rank_in_rounds(rank, QUERY, np.array([1, 2, 3, 4, 5, 6]), 4)
    # Dealt out in turn: 1 3 5 and 2 4 6. Two of three go on, by place: 5 before 6 as proposed earlier, then 3, 4.
    assert rank.asked == [[1, 3, 5], [2, 4, 6], [5, 6, 3, 4]]
    assert found.items.tolist() == [6, 5, 4, 3, 1, 2]


def test_what_fits_one_prompt_is_one_prompt() -> None:
    rank = HigherIsBetter()
    assert rank_in_rounds(rank, QUERY, np.array([2, 9, 4]), 3).items.tolist() == [9, 4, 2]
    assert rank.asked == [[2, 9, 4]]


@given(st.lists(st.integers(1, 10_000), unique=True, min_size=1, max_size=200), st.integers(2, 30))
def test_complete_and_the_best_is_first(items: list[int], size: int) -> None:
    rank = HigherIsBetter()
    found = rank_in_rounds(rank, QUERY, np.array(items), size).items.tolist()
    assert sorted(found) == sorted(items)
    assert found[0] == max(items)
    assert max(map(len, rank.asked)) <= size


def test_a_prompt_of_one_compares_nothing() -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        rank_in_rounds(HigherIsBetter(), QUERY, np.array([1, 2]), 1)
