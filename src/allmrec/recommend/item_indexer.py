"""Which index a table of item vectors gets: its kind by size, its recall measured when it is made, kept on disk for the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from allmrec.core.errors import NoSpaceError
from allmrec.core.hashing import content_hash
from allmrec.core.locking import held
from allmrec.core.log import logger
from allmrec.core.seeding import numpy_generator
from allmrec.ranking import Query
from allmrec.recommend import kept_index
from allmrec.recommend.approximate_index import ApproximateIndex
from allmrec.recommend.item_index import ExactIndex, ItemIndex
from allmrec.recommend.kept_index import FORMAT, IndexRecord

__all__ = ["ItemIndexer"]

# Queries by which recall is measured, and items in a history that is drawn for want of users.
_QUERIES, _DRAWN = 256, 10

OfQueries = Callable[[Sequence[Query]], Float32[np.ndarray, "queries dim"]]


@dataclass(frozen=True)
class _Made:
    """An index, and the vectors that it is of."""

    vectors: Float32[np.ndarray, "rows dim"]
    index: ItemIndex


class ItemIndexer:
    """Gives the index of a table of item vectors.

    Exact up to `above` items; else approximate, of 4 bits a number above `compressed_above` items. An approximate index is measured
    against the exact search when it is made: more cells are searched until `recall` of the exact answer is found, and where a quarter
    of all cells is not enough the exact search stays. Vectors, index and what was measured are kept in a folder, under a name with the
    vectors' hash, and opened from there by memory map, so that processes of one machine share them.

    Args:
        above, compressed_above, recall: see `RetrieveConfig`.
        count: how many of the best items recall is measured by.
        folder: where to keep indices; None: in memory alone.
        users: gives a sample of those who will ask, by whom recall is measured; where there are none, histories are drawn from
            all items.
    """

    def __init__(
        self,
        above: int = 1_000_000,
        compressed_above: int = 10_000_000,
        recall: float = 0.95,
        count: int = 20,
        folder: Path | None = None,
        users: Callable[[int], Sequence[Query]] = lambda count: (),
    ) -> None:
        self._above, self._compressed_above, self._recall, self._count = above, compressed_above, recall, count
        self._folder, self._users = folder, users

    def is_approximate(self, rows: int) -> bool:
        """Whether a table of so many rows, padding among them, gets an approximate index."""
        return rows - 1 > self._above

    def index_of(
        self, vectors: Float32[np.ndarray, "rows dim"], name: str, of_queries: OfQueries
    ) -> tuple[ItemIndex, Float32[np.ndarray, "rows dim"]]:
        """The index of a table, and the table itself, from the file that processes share where there is one.

        Args:
            vectors: one row an item number; row 0 pads.
            name: of what the vectors are; an index of the same name and other vectors is replaced on disk.
            of_queries: gives the vectors that items are compared with.

        Raises:
            MissingExtraError: faiss is needed and not installed.
            DataError: a vector has a number that is NaN or infinite.
        """
        if not self.is_approximate(len(vectors)):
            return ExactIndex(vectors, np.arange(1, len(vectors))), vectors
        made = self._opened(vectors, name, of_queries)
        return made.index, made.vectors

    def _opened(self, vectors: Float32[np.ndarray, "rows dim"], name: str, of_queries: OfQueries) -> _Made:
        """From disk, or made and kept there."""
        kind = "ivf-sq4" if len(vectors) - 1 > self._compressed_above else "ivf-sq8"
        wanted = IndexRecord(
            format=FORMAT, kind=kind, items=len(vectors) - 1, dim=vectors.shape[1], aim=self._recall, count=self._count
        )
        if self._folder is None:
            return self._made(vectors, name, wanted, of_queries)[0]
        place = self._folder / f"{name}-{content_hash('item index', wanted.model_dump_json(), vectors)[:16]}"
        if (found := self._read(place, vectors, wanted)) is not None:
            return found
        try:
            with held(self._folder, "being given an index", wait=True):
                # Another process may have made it meanwhile.
                if (found := self._read(place, vectors, wanted)) is not None:
                    return found
                made, record = self._made(vectors, name, wanted, of_queries)
                kept_index.write(place, vectors, made.index, record)
                kept_index.remove_others(place, name)
                return self._read(place, vectors, wanted) or made
        except (OSError, NoSpaceError) as error:
            logger.warning(f"The index of {name} is not kept on disk, and is made anew each time: {error}")
            return self._made(vectors, name, wanted, of_queries)[0]

    def _read(self, place: Path, vectors: Float32[np.ndarray, "rows dim"], wanted: IndexRecord) -> _Made | None:
        found = kept_index.read(place, vectors, wanted)
        if found is None:
            return None
        mapped, index, record = found
        logger.info(f"{record.in_words} ({place})")
        return _Made(mapped, index or ExactIndex(mapped, np.arange(1, len(mapped))))

    def _made(
        self, vectors: Float32[np.ndarray, "rows dim"], name: str, wanted: IndexRecord, of_queries: OfQueries
    ) -> tuple[_Made, IndexRecord]:
        index = ApproximateIndex.made(vectors, wanted.kind)
        users = list(self._users(_QUERIES))
        drawn = not users
        if drawn:
            rng = numpy_generator(0, "queries of an index", len(vectors))
            users = [Query(rng.integers(1, len(vectors), _DRAWN)) for _ in range(_QUERIES)]
        recall, enough = index.raise_recall(of_queries(users), self._count, self._recall)
        record = wanted.measured(recall, len(users), drawn)
        (logger.info if enough else logger.warning)(f"{name}: {record.in_words}")
        return _Made(vectors, index if enough else ExactIndex(vectors, np.arange(1, len(vectors)))), record
