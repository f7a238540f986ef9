"""Items with the highest inner product to a query, exactly or nearly; knows nothing of what the vectors mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int, Int64

from allmrec.core.errors import MissingExtraError

__all__ = ["ApproximateIndex", "ExactIndex", "ItemIndex", "make_index", "nearest"]

# Inner graph of the approximate index: neighbours an item, and how widely it is built and searched. With these, 98 in
# 100 of the exact nearest are found on random vectors (tests/recommend/test_item_index.py holds it above 90).
_NEIGHBOURS, _BUILD, _SEARCH = 32, 200, 256


@runtime_checkable
class ItemIndex(Protocol):
    """Items with the highest inner product to a query."""

    def search(
        self, queries: Float32[np.ndarray, "queries width"], count: int
    ) -> tuple[Int64[np.ndarray, "queries found"], Float32[np.ndarray, "queries found"]]:
        """For each query the `count` best rows and their products, best first; -1 stands where none was found."""
        ...


class ExactIndex:
    """Every product is computed.

    Args:
        vectors: one row an item number; row 0 pads.
        rows: which rows may be found.
    """

    def __init__(self, vectors: Float32[np.ndarray, "rows width"], rows: Int64[np.ndarray, " allowed"]) -> None:
        self._vectors, self._rows = np.ascontiguousarray(vectors[rows]), rows

    def search(
        self, queries: Float32[np.ndarray, "queries width"], count: int
    ) -> tuple[Int64[np.ndarray, "queries found"], Float32[np.ndarray, "queries found"]]:
        count = min(count, len(self._rows))
        products = queries @ self._vectors.T
        # A stable sort of the few best: equal products keep the order of item numbers on every machine.
        if count < len(self._rows):
            threshold = -np.partition(-products, count - 1, axis=1)[:, count - 1 : count]
        else:
            threshold = products.min(axis=1, keepdims=True)
        found = np.empty((len(queries), count), dtype=np.int64)
        for number, row in enumerate(products):
            able = np.flatnonzero(row >= threshold[number])
            found[number] = able[np.argsort(-row[able], kind="stable")][:count]
        return self._rows[found], np.take_along_axis(products, found, axis=1)


class ApproximateIndex:
    """A navigable graph (HNSW; Malkov and Yashunin, 2018) by faiss: most of the exact answer in a fraction of its time.

    Args:
        vectors, rows: as for `ExactIndex`.

    Raises:
        MissingExtraError: faiss is not installed.
    """

    def __init__(self, vectors: Float32[np.ndarray, "rows width"], rows: Int64[np.ndarray, " allowed"]) -> None:
        try:
            import faiss
        except ImportError as error:
            raise MissingExtraError("faiss", "index", "An approximate index of a large catalogue") from error
        self._rows = rows
        self._index = faiss.IndexHNSWFlat(vectors.shape[1], _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = _BUILD
        self._index.add(np.ascontiguousarray(vectors[rows], dtype=np.float32))

    def search(
        self, queries: Float32[np.ndarray, "queries width"], count: int
    ) -> tuple[Int64[np.ndarray, "queries found"], Float32[np.ndarray, "queries found"]]:
        self._index.hnsw.efSearch = max(_SEARCH, 2 * count)
        products, found = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), count)
        return np.where(found >= 0, self._rows[found], -1), products


def make_index(
    vectors: Float32[np.ndarray, "rows width"], rows: Int64[np.ndarray, " allowed"], approximate_above: int
) -> ItemIndex:
    """The exact index, or the approximate one for more items than stated."""
    return (ApproximateIndex if len(rows) > approximate_above else ExactIndex)(vectors, rows)


def nearest(
    index: ItemIndex,
    queries: Float32[np.ndarray, "queries width"],
    count: int,
    exclude: Sequence[Int[np.ndarray, " _seen"]],
) -> list[Int64[np.ndarray, " _found"]]:
    """For each query up to `count` items that it does not exclude, best first; fewer where the index has no more."""
    found = index.search(queries, count + max(map(len, exclude), default=0))[0]
    return [row[(row > 0) & ~np.isin(row, seen)][:count] for row, seen in zip(found, exclude, strict=True)]
