"""Items with the highest inner product to a query, nearly: cells and rounded numbers by faiss, exact scores of what is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int, Int64

from allmrec.core.errors import MissingExtraError
from allmrec.core.progress import progress_bar
from allmrec.recommend.item_index import ExactIndex, check_item_vectors, check_queries

__all__ = ["ApproximateIndex", "IndexKind", "Recall", "load_faiss", "padded"]

Items = Int[np.ndarray, " _items"]

IndexKind = Literal["ivf-sq8", "ivf-sq4"]

# What faiss calls each kind, and how many more items than wanted are found by rounded numbers before exact ones decide.
_KINDS: dict[IndexKind, tuple[str, int]] = {"ivf-sq8": ("SQ8", 2), "ivf-sq4": ("SQ4", 10)}

# faiss computes with rounded numbers several times as fast where their count is a multiple of this.
_LANES = 16

# Items by which a cell's middle is found, the fewest cells that are searched, and the largest share of them: beyond it the exact
# search takes hardly longer.
_SAMPLED, _FEWEST, _SHARE = 64, 8, 0.25

# Items that are put into the index at a time.
_AT_A_TIME = 100_000


@dataclass(frozen=True)
class Recall:
    """How much of the exact answer an index finds.

    Attributes:
        searched: cells that a query searches.
        cells: of so many.
        found: the share of the exact best that is found, or equals the last of them in its product; the mean over queries.
    """

    searched: int
    cells: int
    found: float


class ApproximateIndex:
    """Inverted lists by faiss (IVF; Jégou et al., 2011): most of the exact answer in a small part of its time.

    Items are put into about √items cells by k-means over directions, and a query searches the cells nearest to it, in rounded
    numbers. What is found is scored anew by the vectors themselves, so that scores are exact and of equal ones the lower number
    comes first. A query that finds fewer items than are wanted and there searches exactly. How much of the exact answer is found
    depends on how far items gather in groups, and is measured (`raise_recall`).

    Args:
        vectors: one row an item number; row 0 pads. Kept; may lie in a file that is mapped into memory.
        index: of faiss, over all rows but the first, in their order, padded by `padded`.
        more: how many times as many items as wanted are scored exactly.
    """

    def __init__(self, vectors: Float32[np.ndarray, "rows dim"], index: Any, more: int = 2) -> None:
        self.vectors, self.faiss_index, self._more = vectors, index, more

    @classmethod
    def made(cls, vectors: Float32[np.ndarray, "rows dim"], kind: IndexKind = "ivf-sq8") -> ApproximateIndex:
        """Index a table of items.

        Args:
            vectors: see the class.
            kind: ivf-sq8: 8 bits a number; ivf-sq4: 4.

        Raises:
            MissingExtraError: faiss is not installed.
            DataError: a vector has a number that is NaN or infinite.
        """
        faiss = load_faiss()
        check_item_vectors(vectors)
        items, dim = len(vectors) - 1, len(padded(vectors[:1])[0])
        cells = max(1, min(items // _SAMPLED, 2 ** round(np.log2(max(1, items)) / 2)))
        index = faiss.index_factory(dim, f"IVF{cells},{_KINDS[kind][0]}", faiss.METRIC_INNER_PRODUCT)
        step = max(1, items // (_SAMPLED * cells))
        index.train(padded(vectors[1::step][: _SAMPLED * cells]))
        with progress_bar("index items", items) as bar:
            for start in range(1, items + 1, _AT_A_TIME):
                part = vectors[start : start + _AT_A_TIME]
                index.add(padded(part))
                bar.advance(len(part))
        return cls.of(vectors, index, kind)

    @classmethod
    def of(cls, vectors: Float32[np.ndarray, "rows dim"], index: Any, kind: IndexKind) -> ApproximateIndex:
        """An index of that kind that faiss has read from a file."""
        index.nprobe = min(_FEWEST, index.nlist)
        return cls(vectors, index, _KINDS[kind][1])

    def search(
        self, queries: Float32[np.ndarray, "queries dim"], count: int, exclude: Sequence[Items] = ()
    ) -> tuple[Int64[np.ndarray, "queries found"], Float32[np.ndarray, "queries found"]]:
        """See `ItemIndex`."""
        check_queries(queries)
        items = len(self.vectors) - 1
        # Cells cannot leave rows out while they are searched, so as many more are found.
        wanted = min(self._more * count + max(map(len, exclude), default=0), items)
        _, found = self.faiss_index.search(padded(queries), wanted)
        rows = np.sort(np.where(found >= 0, found + 1, -1), axis=1)
        for row, seen in zip(rows, exclude, strict=False):
            row[np.isin(row, seen)] = -1
        products = np.stack([self.vectors[row] @ query for row, query in zip(rows, queries, strict=True)])
        products[rows < 0] = -np.inf
        order = np.argsort(-products, axis=1, kind="stable")
        rows, products = np.take_along_axis(rows, order, axis=1), np.take_along_axis(products, order, axis=1)
        for number in np.flatnonzero((rows > 0).sum(axis=1) < min(count, items)):
            seen = np.unique(exclude[int(number)]) if len(exclude) else np.empty(0, dtype=np.int64)
            left = items - int(((seen > 0) & (seen <= items)).sum())
            if (rows[number] > 0).sum() < min(count, left):
                exact, scores = self._exact.search(queries[number : number + 1], min(count, wanted), [seen])
                size = exact.shape[1]
                rows[number], products[number] = -1, -np.inf
                rows[number, :size], products[number, :size] = exact[0], scores[0]
        return rows, products

    def raise_recall(self, queries: Float32[np.ndarray, "queries dim"], count: int, aim: float) -> tuple[Recall, bool]:
        """Search as few cells as find enough of the exact answer, and say how much they find.

        Args:
            queries: a sample of what will be asked.
            count: how many of the best items of each.
            aim: the share of them that is to be found.

        Returns:
            What was measured with the cells that a query searches from now on, and whether it is enough: False where a
            quarter of all cells is not.
        """
        count = min(count, len(self.vectors) - 1)
        _, wanted = self._exact.search(queries, count)
        # Another order of summing may move a product by a little.
        least = wanted[:, -1] - 1e-5 * np.abs(wanted[:, -1]).clip(1e-12)
        cells = self.faiss_index.nlist
        most, searched = max(1, int(_SHARE * cells)), min(_FEWEST, cells)
        while True:
            self.faiss_index.nprobe = searched
            _, products = self.search(queries, count)
            recall = Recall(searched, cells, float((products[:, :count] >= least[:, None]).mean()))
            if recall.found >= aim or searched >= most:
                return recall, recall.found >= aim
            searched = min(2 * searched, most)

    @cached_property
    def _exact(self) -> ExactIndex:
        return ExactIndex(self.vectors, np.arange(1, len(self.vectors)))


def padded(vectors: Float32[np.ndarray, "rows dim"]) -> Float32[np.ndarray, "rows padded"]:
    """With zeros behind, up to a length that faiss is fast with; products stay as they are."""
    behind = -vectors.shape[1] % _LANES
    return np.ascontiguousarray(np.pad(vectors, ((0, 0), (0, behind))), dtype=np.float32)


def load_faiss() -> Any:
    """The module.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss", "index", "An approximate index of a large catalogue") from error
    return faiss
