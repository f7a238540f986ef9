"""The approximate index against the exact search: what it finds, and that what it gives is in order and allowed."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core.errors import MissingExtraError
from allmrec.recommend.approximate_index import ApproximateIndex, IndexKind
from allmrec.recommend.item_index import ExactIndex, nearest


def table(rows: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows + 1, dim)).astype(np.float32)


def exact(vectors: np.ndarray) -> ExactIndex:
    return ExactIndex(vectors, np.arange(1, len(vectors)))


def grouped(groups: int, spread: float, dim: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Items around middles, and queries near items."""
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(groups, dim))
    items = (middles[np.arange(20_001) % groups] + spread * rng.normal(size=(20_001, dim))).astype(np.float32)
    return items, (items[1:100] + 0.4 * rng.normal(size=(99, dim))).astype(np.float32)


def share_found(index: ApproximateIndex, vectors: np.ndarray, queries: np.ndarray, count: int = 20) -> float:
    wanted, _ = exact(vectors).search(queries, count)
    found, _ = index.search(queries, count)
    return float(np.mean([len(np.intersect1d(a, b[:count])) / count for a, b in zip(wanted, found, strict=True)]))


@pytest.mark.parametrize("kind", ["ivf-sq8", "ivf-sq4"])
def test_enough_cells_are_searched_for_the_share_that_is_wanted(kind: IndexKind) -> None:
    """Few where items gather in groups, as items do; and the share that is reported is that of a plain count."""
    vectors, queries = grouped(300, 0.4)
    index = ApproximateIndex.made(vectors, kind)
    recall, enough = index.raise_recall(queries, 20, 0.95)
    assert enough
    assert recall.found >= 0.95
    assert recall.found == pytest.approx(share_found(index, vectors, queries), abs=0.005)
    assert recall.searched <= recall.cells / 4
    assert index.faiss_index.nprobe == recall.searched
    # Asked for more, it searches more.
    more, _ = index.raise_recall(queries, 20, 1.0)
    assert more.searched > recall.searched
    assert more.found > recall.found


def test_where_a_quarter_of_the_cells_is_not_enough_it_says_so() -> None:
    """Items that lie about without any structure."""
    vectors, queries = grouped(20_001, 0.0)
    recall, enough = ApproximateIndex.made(vectors).raise_recall(queries, 20, 0.99)
    assert not enough
    assert recall.searched == recall.cells // 4
    assert recall.found < 0.99


def test_a_dimension_for_rarity_costs_no_recall() -> None:
    """As `FusedBackbone` has it: large on the users' side, small on the items'."""
    vectors, queries = grouped(300, 0.4)
    counts = np.random.default_rng(1).pareto(0.8, len(vectors))
    rare = -0.5 * (queries @ vectors.T).std() * np.log1p(counts)
    vectors = np.hstack([vectors, (rare - rare.mean())[:, None] / 64]).astype(np.float32)
    queries = np.hstack([queries, np.full((len(queries), 1), 64)]).astype(np.float32)
    recall, enough = ApproximateIndex.made(vectors).raise_recall(queries, 20, 0.95)
    assert enough
    assert recall.searched <= recall.cells / 4


@given(
    st.integers(1, 400),
    st.integers(1, 5),
    st.sampled_from([1, 3, 20, 500]),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["ivf-sq8", "ivf-sq4"]),
)
def test_what_is_found_is_allowed_in_order_and_as_much_as_there_is(
    rows: int, users: int, count: int, seed: int, kind: IndexKind
) -> None:
    """Ties, exclusions with unknown and repeated numbers, few items: any number of items comes that the exact search has."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, (rows + 1, 3)).astype(np.float32)
    queries = rng.integers(-2, 3, (users, 3)).astype(np.float32)
    exclude = [rng.integers(1, rows + 5, int(rng.integers(0, rows + 5))) for _ in range(users)]
    index = ApproximateIndex.made(vectors, kind)
    wanted = nearest(exact(vectors), queries, count, exclude)
    for query, seen, found, plain in zip(
        queries, exclude, nearest(index, queries, count, exclude), wanted, strict=True
    ):
        assert len(found.items) == len(plain.items) == len(np.unique(found.items))
        assert not np.isin(found.items, seen).any()
        np.testing.assert_allclose(found.scores, vectors[found.items] @ query, rtol=1e-5)
        assert np.lexsort((found.items, -found.scores)).tolist() == list(range(len(found.items)))
        # None is better than the exact one of its place.
        assert (found.scores <= plain.scores + 1e-5).all()


@given(st.integers(1, 200), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_with_every_cell_searched_and_every_item_scored_it_is_the_exact_search(
    rows: int, count: int, seed: int
) -> None:
    vectors, queries = table(rows, 4, seed).round(1), table(3, 4, seed + 1)
    index = ApproximateIndex(vectors, ApproximateIndex.made(vectors).faiss_index, more=rows)
    index.faiss_index.nprobe = index.faiss_index.nlist
    for found, plain in zip(
        nearest(index, queries, count, ()), nearest(exact(vectors), queries, count, ()), strict=True
    ):
        np.testing.assert_allclose(found.scores, plain.scores, rtol=1e-5, atol=1e-5)


def test_without_faiss_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'allmrec\[index\]'"):
        ApproximateIndex.made(table(3))
