"""Items with the highest inner product to a query, exactly or nearly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int, Int64

from allmrec.core.errors import MissingExtraError
from allmrec.ranking import Ranking

__all__ = ["ApproximateIndex", "ExactIndex", "ItemIndex", "make_index", "nearest"]

Items = Int[np.ndarray, " _items"]

# Inner graph of the approximate index: neighbours an item, and how widely it is built and searched. With these, 98 in
# 100 of the exact nearest are found on random vectors (tests/recommend/test_item_index.py holds it above 90).
_NEIGHBOURS, _BUILD, _SEARCH = 32, 200, 256


@runtime_checkable
class ItemIndex(Protocol):
    """Items with the highest inner product to a query."""

    def search(
        self, queries: Float32[np.ndarray, "queries dim"], count: int, exclude: Sequence[Items] = ()
    ) -> tuple[Int64[np.ndarray, "queries found"], Float32[np.ndarray, "queries found"]]:
        """For each query the best rows and their products, best first; -1 stands where none was found.

        Args:
            queries: their vectors.
            count: how many rows that are not excluded are wanted; some more places may come.
            exclude: for each query, rows to leave out; empty: none for any.
        """
        ...


class ExactIndex:
    """Every product is computed.

    Args:
        vectors: one row an item number; row 0 pads.
        rows: which rows may be found, ascending.
    """

    def __init__(self, vectors: Float32[np.ndarray, "rows dim"], rows: Int64[np.ndarray, " allowed"]) -> None:
        self._vectors, self._rows = np.ascontiguousarray(vectors[rows]), rows
        # The column of each row; one behind the last for what cannot be found, numbers behind the table among it.
        self._columns = np.full(len(vectors) + 1, len(rows))
        self._columns[rows] = np.arange(len(rows))

    def search(
        self, queries: Float32[np.ndarray, "queries dim"], count: int, exclude: Sequence[Items] = ()
    ) -> tuple[Int64[np.ndarray, "queries found"], Float32[np.ndarray, "queries found"]]:
        count = min(count, len(self._rows))
        if not count:
            return np.empty((len(queries), 0), dtype=np.int64), np.empty((len(queries), 0), dtype=np.float32)
        products = queries @ self._vectors.T
        if exclude:
            numbers = np.repeat(np.arange(len(exclude)), [len(items) for items in exclude])
            items = np.concatenate(exclude)
            columns = self._columns[np.minimum(items, len(self._columns) - 1)]
            there = columns < len(self._rows)
            products[numbers[there], columns[there]] = -np.inf
        found = _best(products, count)
        best = np.take_along_axis(products, found, axis=1)
        return np.where(np.isfinite(best), self._rows[found], -1), best


def _best(products: Float32[np.ndarray, "queries rows"], count: int) -> Int64[np.ndarray, "queries count"]:
    """Columns of the greatest products of each row, greatest first; equal ones keep their order on every machine."""
    if count == products.shape[1]:
        return np.argsort(-products, axis=1, kind="stable")
    threshold = torch.from_numpy(products).topk(count, dim=1).values[:, -1:].numpy()
    able = products >= threshold
    # Where several are equal to the least that is wanted, the first of them come.
    surplus = able.sum(axis=1) - count
    for row in np.flatnonzero(surplus):
        equal = np.flatnonzero(products[row] == threshold[row])
        able[row, equal[len(equal) - surplus[row] :]] = False
    columns = np.nonzero(able)[1].reshape(len(products), count)
    order = np.argsort(-np.take_along_axis(products, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


class ApproximateIndex:
    """A navigable graph (HNSW; Malkov and Yashunin, 2018) by faiss: most of the exact answer in a fraction of its time.

    Args:
        vectors, rows: as for `ExactIndex`.

    Raises:
        MissingExtraError: faiss is not installed.
    """

    def __init__(self, vectors: Float32[np.ndarray, "rows dim"], rows: Int64[np.ndarray, " allowed"]) -> None:
        try:
            import faiss
        except ImportError as error:
            raise MissingExtraError("faiss", "index", "An approximate index of a large catalogue") from error
        self._rows = rows
        self._index = faiss.IndexHNSWFlat(vectors.shape[1], _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = _BUILD
        self._index.add(np.ascontiguousarray(vectors[rows], dtype=np.float32))

    def search(
        self, queries: Float32[np.ndarray, "queries dim"], count: int, exclude: Sequence[Items] = ()
    ) -> tuple[Int64[np.ndarray, "queries found"], Float32[np.ndarray, "queries found"]]:
        # The graph cannot leave rows out while it searches, so as many more are found.
        count += max(map(len, exclude), default=0)
        self._index.hnsw.efSearch = max(_SEARCH, 2 * count)
        products, found = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), count)
        rows = np.where(found >= 0, self._rows[found], -1)
        for row, seen in zip(rows, exclude, strict=False):
            row[np.isin(row, seen)] = -1
        return rows, products


def make_index(
    vectors: Float32[np.ndarray, "rows dim"], rows: Int64[np.ndarray, " allowed"], approximate_above: int
) -> ItemIndex:
    """The exact index, or the approximate one for more items than stated."""
    return (ApproximateIndex if len(rows) > approximate_above else ExactIndex)(vectors, rows)


def nearest(
    index: ItemIndex, queries: Float32[np.ndarray, "queries dim"], count: int, exclude: Sequence[Items]
) -> list[Ranking]:
    """For each query up to `count` items that it does not exclude, best first; fewer where the index has no more."""
    rows, products = index.search(queries, count, exclude)
    if (rows[:, :count] > 0).all():
        return list(map(Ranking, rows[:, :count], products[:, :count]))
    rankings = []
    for items, scores in zip(rows, products, strict=True):
        there = items > 0
        rankings.append(Ranking(items[there][:count], scores[there][:count]))
    return rankings
