"""Search over item vectors: exact by brute force, approximate against exact."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core.errors import MissingExtraError
from allmrec.recommend.item_index import ApproximateIndex, ExactIndex, make_index, nearest


def vectors(rows: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows + 1, dim)).astype(np.float32)


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_exact_is_a_sort_of_all_products(rows: int, count: int, seed: int) -> None:
    table = vectors(rows, 3, seed)
    table[1:] = table[1:].round()  # so that ties occur
    query = np.ones((1, 3), dtype=np.float32)
    found, products = ExactIndex(table, np.arange(1, rows + 1)).search(query, count)
    wanted = sorted(range(1, rows + 1), key=lambda item: (-float(table[item].sum()), item))[:count]
    assert found[0].tolist() == wanted
    assert products[0] == pytest.approx([float(table[i].sum()) for i in wanted])


def test_approximate_finds_most_of_the_exact_answer() -> None:
    table, queries = vectors(20_000, 32), vectors(99, 32, 1)
    rows = np.arange(1, 20_001)
    exact, _ = ExactIndex(table, rows).search(queries, 20)
    near, _ = ApproximateIndex(table, rows).search(queries, 20)
    shared = [len(set(a) & set(b)) for a, b in zip(exact.tolist(), near.tolist(), strict=True)]
    assert np.mean(shared) / 20 > 0.9


def test_the_kind_depends_on_the_stated_size() -> None:
    table, rows = vectors(20), np.arange(1, 21)
    assert isinstance(make_index(table, rows, 20), ExactIndex)
    assert isinstance(make_index(table, rows, 19), ApproximateIndex)


def test_without_faiss_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'allmrec\[index\]'"):
        ApproximateIndex(vectors(3), np.arange(1, 4))


@pytest.mark.parametrize("kind", [ExactIndex, ApproximateIndex])
def test_nearest_leaves_out_and_says_how_many_are_left(kind: type[ExactIndex]) -> None:
    table = np.zeros((6, 1), dtype=np.float32)
    table[1:, 0] = [5, 4, 3, 2, 1]
    index = kind(table, np.arange(1, 6))
    queries, exclude = np.ones((2, 1), dtype=np.float32), [np.array([1, 3]), np.array([], dtype=np.int64)]
    assert [found.items.tolist() for found in nearest(index, queries, 2, exclude)] == [[2, 4], [1, 2]]
    assert [found.scores.tolist() for found in nearest(index, queries, 5, exclude)] == [[4, 2, 1], [5, 4, 3, 2, 1]]


@pytest.mark.parametrize("count", [1, 3, 7, 12])
def test_equal_products_come_in_the_order_of_their_numbers(count: int) -> None:
    """Many ties, excluded items among them: as a stable sort of each row gives it."""
    rng = np.random.default_rng(count)
    vectors = rng.integers(0, 3, size=(13, 2)).astype(np.float32)
    queries = rng.integers(-1, 3, size=(40, 2)).astype(np.float32)
    exclude = [rng.choice(np.arange(1, 13), size=size, replace=False) for size in rng.integers(0, 6, size=40)]
    rows = np.array([1, 2, 4, 5, 6, 7, 9, 10, 11, 12])
    for query, seen, found in zip(
        queries, exclude, nearest(ExactIndex(vectors, rows), queries, count, exclude), strict=True
    ):
        able = rows[~np.isin(rows, seen)]
        scores = vectors[able] @ query
        order = np.argsort(-scores, kind="stable")[:count]
        assert found.items.tolist() == able[order].tolist()
        assert found.scores.tolist() == scores[order].tolist()
