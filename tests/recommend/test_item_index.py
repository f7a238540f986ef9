"""Search over item vectors: exact by brute force, approximate against exact."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core.errors import DataError
from allmrec.recommend import item_index
from allmrec.recommend.approximate_index import ApproximateIndex
from allmrec.recommend.item_index import ExactIndex, ItemIndex, WithLaterItems, nearest


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


def exact(table: np.ndarray) -> ItemIndex:
    return ExactIndex(table, np.arange(1, len(table)))


def with_later(table: np.ndarray) -> ItemIndex:
    """All but two items in an approximate index, and those two beside it."""
    return WithLaterItems(ApproximateIndex.made(table[:-2]), table[-2:], len(table) - 2)


@pytest.mark.parametrize("made", [exact, ApproximateIndex.made, with_later])
def test_nearest_leaves_out_and_says_how_many_are_left(made: Callable[[np.ndarray], ItemIndex]) -> None:
    table = np.zeros((6, 1), dtype=np.float32)
    table[1:, 0] = [5, 4, 3, 2, 1]
    index = made(table)
    queries, exclude = np.ones((2, 1), dtype=np.float32), [np.array([1, 3]), np.array([], dtype=np.int64)]
    assert [found.items.tolist() for found in nearest(index, queries, 2, exclude)] == [[2, 4], [1, 2]]
    assert [found.scores.tolist() for found in nearest(index, queries, 5, exclude)] == [[4, 2, 1], [5, 4, 3, 2, 1]]


@given(st.integers(1, 20), st.integers(0, 20), st.integers(1, 25), st.data())
def test_later_items_beside_an_index_are_found_as_by_exact_search_over_all(
    known: int, later: int, count: int, data: st.DataObject
) -> None:
    """Ties across the border, and excluded items on both sides, among them numbers that no item has."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    table = rng.integers(-2, 3, size=(known + later + 1, 3)).astype(np.float32)
    queries = rng.integers(-2, 3, size=(4, 3)).astype(np.float32)
    numbers = st.lists(st.integers(1, known + later + 3), unique=True, max_size=known + later)
    exclude = [np.array(data.draw(numbers), dtype=np.int64) for _ in queries]
    beside = WithLaterItems(ExactIndex(table[: known + 1], np.arange(1, known + 1)), table[known + 1 :], known + 1)
    wanted = nearest(ExactIndex(table, np.arange(1, len(table))), queries, count, exclude)
    for one, other in zip(nearest(beside, queries, count, exclude), wanted, strict=True):
        assert one.items.tolist() == other.items.tolist()
        assert one.scores.tolist() == other.scores.tolist()


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


@pytest.mark.parametrize("seed", range(40))
def test_many_blocks_are_one_sort(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Items that rise, fall or lie about, ties within and between blocks, gaps, excluded and unknown items."""
    monkeypatch.setattr(item_index, "_BLOCK", 256)
    rng = np.random.default_rng(seed)
    n, users = int(rng.integers(1, 900)), int(rng.integers(1, 6))
    count = int(rng.choice([1, 3, 20, 100, n, n + 5]))
    table = rng.integers(-2, 3, (n + 1, 3)).astype(np.float32)
    queries = rng.integers(-2, 3, (users, 3)).astype(np.float32)
    if seed % 3 < 2:
        table[1:] = table[1:][np.argsort((1 - 2 * (seed % 3)) * table[1:].sum(axis=1))]
    rows = np.arange(1, n + 1) if seed % 2 else np.union1d(np.flatnonzero(rng.random(n) < 0.7) + 1, [n])
    exclude = [rng.choice(n + 2, size=int(rng.integers(0, min(n, 50) + 1)), replace=False) + 1 for _ in range(users)]
    for query, seen, found in zip(
        queries, exclude, nearest(ExactIndex(table, rows), queries, count, exclude), strict=True
    ):
        able = rows[~np.isin(rows, seen)]
        scores = table[able] @ query
        order = np.argsort(-scores, kind="stable")[:count]
        assert found.items.tolist() == able[order].tolist()
        assert found.scores.tolist() == scores[order].tolist()


def test_memory_does_not_hold_all_products() -> None:
    """Of a million items and 64 queries, all products would take 256 MB."""
    table, queries = np.zeros((1_000_001, 2), dtype=np.float32), np.ones((64, 2), dtype=np.float32)
    index = ExactIndex(table, np.arange(1, 1_000_001))
    taken: list[int] = []
    empty = torch.empty

    def noted(*size: int, dtype: torch.dtype) -> torch.Tensor:
        taken.append(int(np.prod(size)))
        return empty(*size, dtype=dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_index.torch, "empty", noted)
        found, _ = index.search(queries, 5)
    assert found.tolist() == [[1, 2, 3, 4, 5]] * 64
    assert max(taken) <= item_index._BLOCK


@pytest.mark.parametrize("made", [exact, ApproximateIndex.made])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(made: Callable[[np.ndarray], ItemIndex], bad: float) -> None:
    table = vectors(200)
    queries = np.ones((2, 8), dtype=np.float32)
    index = made(table)
    queries[1, 3] = bad
    with pytest.raises(DataError, match=r"Vectors of queries: 1 of 2 have a number that is NaN or infinite.* row 1"):
        index.search(queries, 3)
    table[7, 2] = bad
    with pytest.raises(DataError, match=r"Item vectors: 1 of "):
        made(table)


def test_a_language_model_that_is_being_loaded_changes_nothing() -> None:
    """Loading one sets torch's default type for all threads, and others search meanwhile."""
    rng = np.random.default_rng(0)
    vectors, queries = (rng.standard_normal((n, 8), dtype=np.float32) for n in (40, 3))
    index = ExactIndex(vectors, np.arange(1, 40))
    expected = index.search(queries, 5)
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = index.search(queries, 5)
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
