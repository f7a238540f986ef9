"""Metrics against fractions worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core.errors import ConfigError
from allmrec.evaluation.metrics import hit, metric_values, ndcg, reciprocal_rank, target_rank, target_ranks
from allmrec.ranking import Ranking, ranking_from_scores

# Five users: first, second, third, seventh, and a miss.
RANKS = np.array([1.0, 2.0, 3.0, 7.0, np.inf])


def ranking(*items: int) -> Ranking:
    return Ranking(np.array(items, dtype=np.int32), -np.arange(len(items), dtype=np.float64))


def test_rank_counts_from_one_and_a_missing_target_is_infinitely_far() -> None:
    assert target_rank(ranking(4, 9, 2), 4) == 1.0
    assert target_rank(ranking(4, 9, 2), 2) == 3.0
    assert target_rank(ranking(4, 9, 2), 5) == math.inf
    assert target_rank(ranking(), 5) == math.inf, "an empty answer is a miss"
    found = target_ranks([ranking(4, 9), ranking(4, 9), ranking(4)], np.array([9, 4, 9]))
    assert found.tolist() == [2.0, 1.0, math.inf]


def test_equal_scores_keep_the_candidates_order() -> None:
    items = np.array([8, 3, 5], dtype=np.int32)
    tied = ranking_from_scores(items, np.zeros(3))
    assert [target_rank(tied, item) for item in (8, 3, 5)] == [1.0, 2.0, 3.0]
    half = ranking_from_scores(items, np.array([0.0, 1.0, 0.0]))
    assert [target_rank(half, item) for item in (3, 8, 5)] == [1.0, 2.0, 3.0]


def test_hit() -> None:
    assert hit(RANKS, 1).mean() == pytest.approx(1 / 5)
    assert hit(RANKS, 2).mean() == pytest.approx(2 / 5)
    assert hit(RANKS, 5).mean() == pytest.approx(3 / 5)
    assert hit(RANKS, 7).mean() == pytest.approx(4 / 5)
    assert hit(RANKS, 1000).mean() == pytest.approx(4 / 5), "a miss is no hit at any k"


def test_ndcg() -> None:
    # log2(1 + 1) = 1, log2(1 + 3) = 2, log2(1 + 7) = 3; only the second user's 1 / log2(3) is irrational.
    assert ndcg(RANKS, 10).tolist() == pytest.approx([1, 1 / math.log2(3), 1 / 2, 1 / 3, 0])
    assert ndcg(RANKS, 3).tolist() == pytest.approx([1, 1 / math.log2(3), 1 / 2, 0, 0])
    assert ndcg(np.array([1.0, 3.0, 7.0, np.inf]), 10).mean() == pytest.approx(11 / 24)
    assert ndcg(RANKS, 1).tolist() == hit(RANKS, 1).tolist()


def test_reciprocal_rank() -> None:
    # 1 + 1/2 + 1/3 + 1/7 + 0 = 83/42
    assert reciprocal_rank(RANKS).mean() == pytest.approx(83 / 210)


def test_metric_values_names_what_stands_in_tables() -> None:
    values = metric_values(RANKS, (1, 5))
    assert list(values) == ["Hit@1", "Hit@5", "NDCG@5", "MRR"]
    assert values["NDCG@5"].tolist() == ndcg(RANKS, 5).tolist()
    assert all(value.shape == RANKS.shape for value in values.values())


@pytest.mark.parametrize("metric", [hit, ndcg])
def test_a_metric_at_zero_is_refused(metric) -> None:
    with pytest.raises(ConfigError, match="expected at least 1"):
        metric(RANKS, 0)


@given(st.lists(st.integers(1, 20) | st.just(math.inf), min_size=1), st.integers(1, 20))
def test_metrics_stay_between_zero_and_one_and_grow_with_k(ranks: list[float], k: int) -> None:
    array = np.array(ranks, dtype=np.float64)
    for metric in (hit, ndcg):
        smaller, larger = metric(array, k), metric(array, k + 1)
        assert np.all((smaller >= 0) & (smaller <= larger) & (larger <= 1))
    assert np.all(hit(array, 1) <= reciprocal_rank(array))
    assert np.all(ndcg(array, k) <= hit(array, k))
