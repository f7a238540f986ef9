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
    found = rank_in_rounds(rank, [QUERY], [np.array([1, 2, 3, 4, 5, 6])], 4)[0]
    # Dealt out in turn: 1 3 5 and 2 4 6. Two of three go on, by place: 5 before 6 as proposed earlier, then 3, 4.
    assert rank.asked == [[1, 3, 5], [2, 4, 6], [5, 6, 3, 4]]
    assert found.items.tolist() == [6, 5, 4, 3, 1, 2]


def test_what_fits_one_prompt_is_one_prompt() -> None:
    rank = HigherIsBetter()
    assert rank_in_rounds(rank, [QUERY], [np.array([2, 9, 4])], 3)[0].items.tolist() == [9, 4, 2]
    assert rank.asked == [[2, 9, 4]]


@given(st.lists(st.integers(1, 10_000), unique=True, min_size=1, max_size=200), st.integers(2, 30))
def test_complete_and_the_best_is_first(items: list[int], size: int) -> None:
    rank = HigherIsBetter()
    found = rank_in_rounds(rank, [QUERY], [np.array(items)], size)[0].items.tolist()
    assert sorted(found) == sorted(items)
    assert found[0] == max(items)
    assert max(map(len, rank.asked)) <= size


def test_a_prompt_of_one_compares_nothing() -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        rank_in_rounds(HigherIsBetter(), [QUERY], [np.array([1, 2])], 1)


class ShiftedByPrompt:
    """Prefers the higher number, and adds to a prompt's scores what the prompt's items come to."""

    def __call__(self, queries: Sequence[Query], candidates: Sequence[np.ndarray]) -> list[Ranking]:
        return [ranking_from_scores(c, c.astype(np.float32) - c.sum()) for c in candidates]


@given(st.lists(st.integers(1, 1000), unique=True, min_size=1, max_size=80), st.integers(2, 20))
def test_scores_of_all_prompts_are_on_the_last_ones_scale(items: list[int], size: int) -> None:
    found = rank_in_rounds(ShiftedByPrompt(), [QUERY], [np.array(items)], size)[0]
    assert (np.diff(found.scores) <= 0).all()
    # Whatever a prompt adds to its scores is taken out again: an item is below the best by what it really is below it,
    # or, where the rounds put it behind a worse one, by what that is.
    below = np.maximum.accumulate(found.items[0] - found.items)
    np.testing.assert_allclose(found.scores[0] - found.scores, below, atol=1e-2)


def test_many_queries_are_as_each_alone_and_a_round_asks_once() -> None:
    calls: list[int] = []
    shifted = ShiftedByPrompt()

    def counting(queries: Sequence[Query], candidates: Sequence[np.ndarray]) -> list[Ranking]:
        calls.append(len(candidates))
        return shifted(queries, candidates)

    lists = [np.arange(1, 20), np.arange(5, 8), np.arange(3, 12)]
    together = rank_in_rounds(counting, [QUERY] * 3, lists, 4)
    # 19 and 9 items in 5 and 3 groups; then 10 and 6 in 3 and 2, where a group of 1 keeps it; then what is left.
    assert calls[0] == 5 + 3
    assert calls[-1] == 3
    for items, found in zip(lists, together, strict=True):
        alone = rank_in_rounds(shifted, [QUERY], [items], 4)[0]
        assert found.items.tolist() == alone.items.tolist()
        np.testing.assert_array_equal(found.scores, alone.scores)
