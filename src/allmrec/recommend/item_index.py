"""Items with the highest inner product to a query, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int, Int64
from torch import Tensor

from allmrec.core.errors import DataError
from allmrec.ranking import Ranking

__all__ = ["ExactIndex", "ItemIndex", "WithLaterItems", "check_item_vectors", "check_queries", "nearest"]

Items = Int[np.ndarray, " _items"]

# Products in memory at a time (8 MB, which a processor's cache holds about), and how many are compared together.
_BLOCK, _GROUP = 1 << 21, 64

# What a message says where numbers are none.
_ITEMS = ("Item vectors", "Train the model that they come from again.")
_QUERIES = ("Vectors of queries", "The model that they come from is damaged; train it again.")


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
    """Every product is computed, some columns at a time, and what cannot be among the best is passed over in groups.

    Memory grows with the queries and `count`, not with the items: products of a block are given up before the next.

    Args:
        vectors: one row an item number; row 0 pads. Kept, and not copied where `rows` leaves no gap.
        rows: which rows may be found, ascending.

    Raises:
        DataError: a vector of these has a number that is NaN or infinite.
    """

    def __init__(self, vectors: Float32[np.ndarray, "rows dim"], rows: Int64[np.ndarray, " allowed"]) -> None:
        gapless = len(rows) > 0 and rows[-1] - rows[0] + 1 == len(rows)
        chosen = vectors[rows[0] : rows[-1] + 1] if gapless else vectors[rows]
        self._vectors, self._rows = np.ascontiguousarray(chosen, dtype=np.float32), rows
        check_item_vectors(self._vectors)
        # The column of each row; one behind the last for what cannot be found, numbers behind the table among it.
        self._columns = np.full(len(vectors) + 1, len(rows))
        self._columns[rows] = np.arange(len(rows))

    def search(
        self, queries: Float32[np.ndarray, "queries dim"], count: int, exclude: Sequence[Items] = ()
    ) -> tuple[Int64[np.ndarray, "queries found"], Float32[np.ndarray, "queries found"]]:
        count = min(count, len(self._rows))
        if not count or not len(queries):
            return np.empty((len(queries), 0), dtype=np.int64), np.empty((len(queries), 0), dtype=np.float32)
        check_queries(queries)
        numbers, columns = self._excluded(exclude)
        size = max(_BLOCK // len(queries), 4 * count, _GROUP)
        size += -size % _GROUP
        x = torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float32))
        items = torch.from_numpy(self._vectors)
        # The type is said: while another thread loads a language model, torch's default is that model's.
        buffer = torch.empty(len(x) * min(size, len(items)), dtype=x.dtype)
        best: Float32[np.ndarray, "queries kept"] = np.empty((0, 0), dtype=np.float32)
        found: Int64[np.ndarray, "queries kept"] = np.empty((0, 0), dtype=np.int64)
        for start in range(0, len(items), size):
            block = items[start : start + size]
            products = torch.mm(x, block.T, out=buffer[: len(x) * len(block)].view(len(x), len(block)))
            first, last = np.searchsorted(columns, [start, start + len(block)])
            products.numpy()[numbers[first:last], columns[first:last] - start] = -np.inf
            if start == 0:
                found = _best(products.numpy(), min(count, len(block)))
                best = np.take_along_axis(products.numpy(), found, axis=1)
            else:
                best, found = _merged(best, found, products, start)
        return np.where(np.isfinite(best), self._rows[found], -1), best

    def _excluded(self, exclude: Sequence[Items]) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
        """Queries and columns of what is left out, in the order of columns."""
        if not len(exclude):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        numbers = np.repeat(np.arange(len(exclude)), [len(items) for items in exclude])
        columns = self._columns[np.minimum(np.concatenate(exclude), len(self._columns) - 1)]
        there = columns < len(self._rows)
        numbers, columns = numbers[there], columns[there]
        order = np.argsort(columns, kind="stable")
        return numbers[order], columns[order]


def _merged(
    best: Float32[np.ndarray, "queries count"],
    found: Int64[np.ndarray, "queries count"],
    products: Float32[Tensor, "queries rows"],
    start: int,
) -> tuple[Float32[np.ndarray, "queries count"], Int64[np.ndarray, "queries count"]]:
    """The best of those so far and of a block's products; of equal ones the earlier columns come first.

    Args:
        best, found: products and columns so far, best first.
        products: of the block.
        start: the block's first column.
    """
    count, width = best.shape[1], products.shape[1]
    whole = width - width % _GROUP
    # Most groups hold nothing that is better than the last of the best.
    least = torch.from_numpy(np.ascontiguousarray(best[:, -1:]))
    grouped = products[:, :whole].reshape(len(products), whole // _GROUP, _GROUP)
    rows, groups = np.nonzero((grouped.amax(dim=2) > least).numpy())
    inside, at = np.nonzero((grouped[rows, groups] > least[rows]).numpy())
    rest_rows, rest = np.nonzero((products[:, whole:] > least).numpy())
    rows = np.concatenate([rows[inside], rest_rows])
    columns = np.concatenate([groups[inside] * _GROUP + at, whole + rest])
    if not len(rows):
        return best, found
    more = np.bincount(rows, minlength=len(best))
    able = np.flatnonzero(more)
    if more.max() > 4 * count + _GROUP:
        # Too many for a list of them: the block's own best first.
        columns = _best(products.numpy()[able], min(count, width))
        values = np.take_along_axis(products.numpy()[able], columns, axis=1)
    else:
        order = np.lexsort((columns, rows))
        rows, columns = rows[order], columns[order]
        place = np.arange(len(rows)) - np.repeat(np.cumsum(more) - more, more)
        values = np.full((len(able), int(more.max())), -np.inf, dtype=np.float32)
        listed = np.zeros(values.shape, dtype=np.int64)
        line = np.searchsorted(able, rows)
        values[line, place], listed[line, place] = products.numpy()[rows, columns], columns
        columns = listed
    values = np.concatenate([best[able], values], axis=1)
    columns = np.concatenate([found[able], columns + start], axis=1)
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    best[able], found[able] = np.take_along_axis(values, order, axis=1), np.take_along_axis(columns, order, axis=1)
    return best, found


def check_item_vectors(vectors: Float32[np.ndarray, "rows dim"]) -> None:
    """Refuse a table of items with numbers that are none.

    Raises:
        DataError: there are some.
    """
    _check_finite(vectors, *_ITEMS)


def check_queries(vectors: Float32[np.ndarray, "rows dim"]) -> None:
    """Refuse vectors of queries with numbers that are none.

    Raises:
        DataError: there are some.
    """
    _check_finite(vectors, *_QUERIES)


def _check_finite(vectors: Float32[np.ndarray, "rows dim"], what: str, advice: str) -> None:
    """Refuse NaN and infinite numbers, which no comparison would find.

    Raises:
        DataError: there are some.
    """
    # A sum holds every NaN and infinity, and needs no memory of the table's size.
    bad = np.flatnonzero(~np.isfinite(np.einsum("rd->r", vectors)))
    if len(bad):
        bad = bad[~np.isfinite(vectors[bad]).all(axis=1)]
    if len(bad):
        raise DataError(
            f"{what}: {len(bad):,} of {len(vectors):,} have a number that is NaN or infinite (the first is row {bad[0]}); "
            f"expected finite ones. {advice}"
        )


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


class WithLaterItems:
    """An index, and items that came after it was made, which are scored exactly and merged with what it finds.

    It costs what the later items cost, however many the index has.

    Args:
        index: of the earlier items, whose numbers are lower, so that of equal products they come first.
        later: vectors of the others, one row an item, in the order of their numbers.
        first: the number of the first of them.
        rows: which rows of `later` may be found, ascending; None: all.

    Raises:
        DataError: a vector of these has a number that is NaN or infinite.
    """

    def __init__(
        self,
        index: ItemIndex,
        later: Float32[np.ndarray, "later dim"],
        first: int,
        rows: Int64[np.ndarray, " allowed"] | None = None,
    ) -> None:
        self._index, self._first = index, first
        self._later = ExactIndex(later, np.arange(len(later)) if rows is None else rows)

    def search(
        self, queries: Float32[np.ndarray, "queries dim"], count: int, exclude: Sequence[Items] = ()
    ) -> tuple[Int64[np.ndarray, "queries found"], Float32[np.ndarray, "queries found"]]:
        """See `ItemIndex`."""
        known = self._index.search(queries, count, exclude)
        rows, scores = self._later.search(
            queries, count, [items[items >= self._first] - self._first for items in exclude]
        )
        later = np.where(rows >= 0, rows + self._first, -1), scores
        numbers, products = (np.concatenate(parts, axis=1) for parts in zip(known, later, strict=True))
        order = np.argsort(-products, axis=1, kind="stable")
        return np.take_along_axis(numbers, order, axis=1), np.take_along_axis(products, order, axis=1)


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
