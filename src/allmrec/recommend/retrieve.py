"""Candidates from the whole catalogue for a batch of queries: by vectors, by another ranker, or every item."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, Protocol, Self, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64
from pydantic import Field
from torch import Tensor

from allmrec.cf.backbone import Backbone, SequenceBackbone
from allmrec.cf.recommender import query_batch
from allmrec.core.config import Config
from allmrec.core.grouping import length_groups
from allmrec.core.seeding import numpy_generator
from allmrec.data.batching import SequenceBatch
from allmrec.ranking import Query, Ranker, Ranking
from allmrec.recommend.item_index import ExactIndex, ItemIndex, WithLaterItems, nearest
from allmrec.recommend.item_indexer import ItemIndexer

__all__ = [
    "AllItems",
    "BackboneRetriever",
    "JointRetriever",
    "RankerRetriever",
    "RetrieveConfig",
    "Retriever",
    "WithNewItems",
    "interleaved",
]

Items = Int[np.ndarray, " _items"]

# Queries whose products with every item are in memory at a time.
_AT_A_TIME = 256

# Histories that the CF model reads in one forward pass.
_IN_A_PASS = 32


class RetrieveConfig(Config):
    """How candidates are retrieved from the whole catalogue (ours; the paper ranks given candidates only)."""

    by: Literal["auto", "towers", "cf"] = Field(
        "auto",
        description="towers: the CF model's and the text tower's scores added (the system `towers`). cf: the CF model's scores; "
        "items that were added after training, which it does not know, are found by joint vectors. auto: towers where they are "
        "trained, else cf.",
    )
    items: int = Field(20, ge=1, description="Items that are retrieved for ranking.")
    max_history: int = Field(
        10, ge=1, description="Latest items of the history that joint vectors of added items are compared with."
    )
    approximate_above: int = Field(
        1_000_000, ge=1, description="Items above which an approximate index takes the place of the exact search."
    )
    compressed_above: int = Field(
        10_000_000,
        ge=1,
        description="Items above which that index has 4 bits a number in place of 8: half of the memory.",
    )
    recall: float = Field(
        0.95,
        ge=0,
        le=1,
        description="Share of the exact best items that the approximate index has to find, by the mean over a sample of users; "
        "where a quarter of its cells does not find it, the search stays exact.",
    )


@runtime_checkable
class Retriever(Protocol):
    """Finds a few items of the whole catalogue for each of many queries."""

    def retrieve(
        self, queries: Sequence[Query], count: int, exclude: Sequence[Items], allow: Sequence[Items | None]
    ) -> list[Ranking]:
        """The most likely items of each query, best first, with the retriever's own scores.

        Args:
            queries: whom for.
            count: how many for each; fewer come back where fewer are left.
            exclude: for each, item numbers to leave out.
            allow: for each, item numbers that alone may be found, ascending; None: all.
        """
        ...


class AllItems:
    """Every item, for a ranker that is cheap enough to rank them all.

    Args:
        n_items: how many items there are.
        seed: of the order in which items are handed over, which decides between equal scores.
    """

    def __init__(self, n_items: int, seed: int = 0) -> None:
        self._order = numpy_generator(seed, "catalogue order").permutation(n_items) + 1

    def retrieve(
        self, queries: Sequence[Query], count: int, exclude: Sequence[Items], allow: Sequence[Items | None]
    ) -> list[Ranking]:
        """All items but the excluded, none above another; `count` does not matter."""
        return [_unscored(_kept(self._order, seen, only)) for seen, only in zip(exclude, allow, strict=True)]


class RankerRetriever:
    """The best items of another ranker, which ranks every item.

    Args:
        ranker: cheap enough to rank them all.
        all_items: all items.
    """

    def __init__(self, ranker: Ranker, all_items: AllItems) -> None:
        self._ranker, self._all_items = ranker, all_items

    def retrieve(
        self, queries: Sequence[Query], count: int, exclude: Sequence[Items], allow: Sequence[Items | None]
    ) -> list[Ranking]:
        """See `Retriever`."""
        items = [found.items for found in self._all_items.retrieve(queries, count, exclude, allow)]
        return [ranking.first(count) for ranking in self._ranker.rank(queries, items)]


class _VectorRetriever:
    """Items with the highest inner product to a query's vector: one matrix product for a batch of queries.

    Args:
        vectors: one row an item number; row 0 pads.
        indexer: gives their index.
        name: of what the vectors are, for an index on disk.
    """

    def __init__(self, vectors: Float32[np.ndarray, "rows dim"], indexer: ItemIndexer | None, name: str) -> None:
        self._vectors, self._indexer, self._name = vectors, indexer or ItemIndexer(), name
        self._later: Float32[np.ndarray, "later dim"] = np.empty((0, vectors.shape[1]), dtype=np.float32)

    def prepared(self) -> Self:
        """Itself, with its index made where that takes long, so that no request waits for it."""
        if self._indexer.is_approximate(len(self._vectors)):
            # From here on the table may lie in a file that processes share.
            _, self._vectors = self._known_index
        return self

    def _beside(self, later: Float32[np.ndarray, "later dim"]) -> Self:
        """The same with items behind those of the table, in the place of any that were beside it; this one stays as it is."""
        _ = self._known_index  # made once for all copies
        other = copy.copy(self)
        other._later = np.ascontiguousarray(later, dtype=np.float32)
        other.__dict__.pop("_index", None)
        return other

    def of_queries(self, queries: Sequence[Query]) -> Float32[np.ndarray, "queries dim"]:
        """The vectors that items are compared with."""
        raise NotImplementedError

    @cached_property
    def _known_index(self) -> tuple[ItemIndex, Float32[np.ndarray, "rows dim"]]:
        return self._indexer.index_of(self._vectors, self._name, self.of_queries)

    @cached_property
    def _index(self) -> ItemIndex:
        known = self._known_index[0]
        return WithLaterItems(known, self._later, len(self._vectors)) if len(self._later) else known

    def retrieve(
        self, queries: Sequence[Query], count: int, exclude: Sequence[Items], allow: Sequence[Items | None]
    ) -> list[Ranking]:
        """See `Retriever`."""
        found: list[Ranking] = []
        for start in range(0, len(queries), _AT_A_TIME):
            part = slice(start, start + _AT_A_TIME)
            found += self._of_batch(self.of_queries(queries[part]), count, exclude[part], allow[part])
        return found

    def _of_batch(
        self,
        vectors: Float32[np.ndarray, "queries dim"],
        count: int,
        exclude: Sequence[Items],
        allow: Sequence[Items | None],
    ) -> list[Ranking]:
        # Queries that share a list of allowed items, which may be none, are searched together.
        groups: dict[bytes | None, list[int]] = {}
        for number, only in enumerate(allow):
            groups.setdefault(None if only is None else np.asarray(only).tobytes(), []).append(number)
        found: dict[int, Ranking] = {}
        for numbers in groups.values():
            only = allow[numbers[0]]
            index = self._index if only is None else self._index_of(only)
            rankings = nearest(index, vectors[numbers], count, [exclude[n] for n in numbers])
            found |= dict(zip(numbers, rankings, strict=True))
        return [found[number] for number in range(len(vectors))]

    def _index_of(self, only: Items) -> ItemIndex:
        numbers: Int64[np.ndarray, " allowed"] = np.asarray(only, dtype=np.int64)
        n_rows = len(self._vectors)
        known = ExactIndex(self._vectors, numbers[(numbers > 0) & (numbers < n_rows)])
        later = numbers[(numbers >= n_rows) & (numbers < n_rows + len(self._later))] - n_rows
        return WithLaterItems(known, self._later, n_rows, later) if len(later) else known


class BackboneRetriever(_VectorRetriever):
    """By the CF model's scores x_u · E_i.

    Args:
        backbone: the CF model. Items that it does not know are no part of a history, and are not found.
        indexer: gives the index of its items; none: exact up to a million items, and kept in memory.
        name: of the model, for an index on disk.
    """

    def __init__(self, backbone: Backbone, indexer: ItemIndexer | None = None, name: str = "backbone") -> None:
        super().__init__(backbone.item_vectors().detach().float().cpu().numpy(), indexer, name)
        self._backbone = backbone
        self.prepared()

    def with_later(self, backbone: Backbone, later: Float[Tensor, "later d"]) -> Self:
        """The same with items that came after it was made; this one stays as it is, and its index is shared.

        Args:
            backbone: the model that knows them too.
            later: their item vectors, in the order of their numbers.
        """
        other = self._beside(later.detach().float().cpu().numpy())
        other._backbone = backbone
        return other

    @torch.no_grad()
    def of_queries(self, queries: Sequence[Query]) -> Float32[np.ndarray, "queries dim"]:
        """x_u of each query."""
        backbone = self._backbone
        batch = query_batch(queries, backbone.max_history)
        if (batch.histories > backbone.n_items).any():
            known = [Query(q.history[q.history <= backbone.n_items], q.user) for q in queries]
            batch = query_batch(known, backbone.max_history)
        # Few rows of like length at a time: little is padding, and what a layer computes stays in the processor's cache.
        groups = length_groups((batch.histories != 0).sum(axis=1), largest=_IN_A_PASS)
        read = backbone.fast_user_vectors if isinstance(backbone, SequenceBackbone) else backbone.user_vectors
        parts = [read(SequenceBatch(batch.users[rows], batch.histories[rows])) for rows in groups]
        vectors = torch.cat(parts).float().cpu().numpy()
        found: Float32[np.ndarray, "queries dim"] = np.empty_like(vectors)
        found[np.concatenate(groups)] = vectors
        return found


class JointRetriever(_VectorRetriever):
    """By similarity of joint vectors to those of the latest items; an empty history finds every item alike.

    Joint vectors differ by little around a value that all share, so their mean is taken out first.

    Args:
        vectors: joint vectors, one row an item number.
        max_history: how many of the latest items are compared with.
        indexer: see `BackboneRetriever`.
        n_known: items up to this number have that mean, so that later ones change nothing of the others; None: all.
    """

    def __init__(
        self,
        vectors: Float32[np.ndarray, "rows joint"],
        max_history: int,
        indexer: ItemIndexer | None = None,
        n_known: int | None = None,
    ) -> None:
        self._mean: Float32[np.ndarray, " joint"] = vectors[1 : None if n_known is None else n_known + 1].mean(axis=0)
        scaled = self._scaled(vectors)
        scaled[0] = 0
        super().__init__(scaled, indexer, "joint")
        self._max_history = max_history
        self.prepared()

    def with_later(self, later: Float[Tensor, "later joint"]) -> Self:
        """The same with items that came after it was made; this one stays as it is, and its index is shared.

        Args:
            later: their joint vectors, in the order of their numbers.
        """
        return self._beside(self._scaled(later.detach().float().cpu().numpy()))

    def _scaled(self, vectors: Float32[np.ndarray, "rows joint"]) -> Float32[np.ndarray, "rows joint"]:
        """Without the mean, each of length 1."""
        centred = vectors - self._mean
        scaled: Float32[np.ndarray, "rows joint"] = centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-12)
        return scaled

    def of_queries(self, queries: Sequence[Query]) -> Float32[np.ndarray, "queries dim"]:
        """The mean over each query's latest items."""
        latest = [query.history[-self._max_history :] for query in queries]
        return np.stack([self._sum_of(items) / max(1, len(items)) for items in latest])

    def _sum_of(self, items: Items) -> Float32[np.ndarray, " joint"]:
        n_rows = len(self._vectors)
        later = items[items >= n_rows]
        found: Float32[np.ndarray, " joint"] = self._vectors[items[items < n_rows]].sum(axis=0)
        return found + self._later[later - n_rows].sum(axis=0) if len(later) else found


class WithNewItems:
    """Retrieves by CF scores, and by joint vectors what came after the CF model was trained.

    They take turns, the first of each, then the second of each, as their scores have no common scale. A history of which the CF
    model knows nothing is compared by joint vectors alone.

    Args:
        cf: by the CF model's scores.
        joint: by joint vectors, those of new items included.
        n_known: items up to this number are known to the CF model.
    """

    def __init__(self, cf: Retriever, joint: Retriever, n_known: int) -> None:
        self._cf, self._joint, self._n_known = cf, joint, n_known

    def retrieve(
        self, queries: Sequence[Query], count: int, exclude: Sequence[Items], allow: Sequence[Items | None]
    ) -> list[Ranking]:
        """See `Retriever`."""
        by_cf, by_joint = (one.retrieve(queries, count, exclude, allow) for one in (self._cf, self._joint))
        found = []
        for query, cf, joint in zip(queries, by_cf, by_joint, strict=True):
            new_alone = len(query.history) > 0 and not (query.history <= self._n_known).any()
            found.append(joint if new_alone else _unscored(interleaved([cf.items, joint.items], count)))
        return found


def interleaved(lists: Sequence[Items], count: int) -> Int64[np.ndarray, " found"]:
    """The first `count` different items, one from each list in turn."""
    taken: dict[int, None] = {}
    for place in range(max(map(len, lists), default=0)):
        for items in lists:
            if place < len(items) and len(taken) < count:
                taken.setdefault(int(items[place]))
    return np.fromiter(taken, dtype=np.int64, count=len(taken))


def _unscored(items: Items) -> Ranking:
    return Ranking(items, np.zeros(len(items), dtype=np.float32))


def _kept(items: Items, seen: Items, only: Items | None) -> Items:
    kept = ~np.isin(items, seen)
    return items[kept if only is None else kept & np.isin(items, only)]
