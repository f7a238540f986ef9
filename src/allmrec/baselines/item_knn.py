"""ItemKNN: items that the same users took are alike; knows neither order nor text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int
from pydantic import Field
from scipy import sparse
from torch import Tensor

from allmrec.core.config import Config
from allmrec.core.errors import ArtifactError
from allmrec.data.splitting import Split
from allmrec.ranking import Query, Ranking, ranking_from_scores

__all__ = ["ItemKNN", "ItemKNNConfig", "training_matrix"]

# Rows of the item-by-item product that exist at once before all but the nearest are dropped.
_ROWS = 1024


class ItemKNNConfig(Config):
    """How many neighbours an item has and how far chance is discounted."""

    neighbours: int = Field(200, ge=1, description="Most alike items that are kept for each item.")
    shrinkage: float = Field(10.0, ge=0, description="Added to the cosine's denominator: rare pairs count for less.")
    max_history: int | None = Field(
        None, ge=1, description="Most recent items of the history that count; none: all of them."
    )


class ItemKNN:
    """Ranks by summed similarity between a candidate and the items of the history.

    Item-based top-N recommendation (Deshpande and Karypis, TOIS 2004) with a shrunk cosine over users:

        sim(i, j) = |U_i ∩ U_j| / (√(|U_i| · |U_j|) + shrinkage)        score(i) = Σ_{j in history} sim(i, j)

    U_i are the users who took i in training; taking an item twice counts once. Ours: of each candidate's row the
    `neighbours` highest stay, where the paper keeps the highest of each item of the history; the shrinkage is a later
    habit of the field. The product of the sparse matrix with itself is made in slices, so memory grows with items times
    neighbours and not with items squared: this one scales where `EASE` does not. A-LLMRec has no such row.

    Args:
        similarities: by item number, padding included; row i holds what i is like.
        max_history: see `ItemKNNConfig`.
    """

    name = "ItemKNN"

    def __init__(self, similarities: sparse.csr_array, max_history: int | None = None) -> None:
        self._similarities, self._max_history = similarities, max_history
        # By column: a query adds up the few columns of its history.
        self._columns = similarities.tocsc()

    @classmethod
    def of(cls, split: Split, config: ItemKNNConfig | None = None) -> ItemKNN:
        """Similarity over a split's training part; held-out, validation and test items do not count."""
        config = config or ItemKNNConfig()
        interactions = training_matrix(split)
        norms = np.sqrt(interactions.sum(axis=0))
        columns = interactions.T.tocsr()
        slices = []
        for start in range(0, interactions.shape[1], _ROWS):
            common = sparse.csr_array(columns[start : start + _ROWS] @ interactions).tocoo()
            row, column = common.coords
            other = row + start != column
            row, column, count = row[other], column[other], common.data[other]
            similarity = count / (norms[row + start] * norms[column] + config.shrinkage)
            slices.append(_nearest(row, column, similarity, common.shape, config.neighbours))
        return cls(sparse.csr_array(sparse.vstack(slices)), config.max_history)

    def tensors(self) -> dict[str, Tensor]:
        """The similarities as compressed sparse rows."""
        parts = {name: getattr(self._similarities, name) for name in ("data", "indices", "indptr")}
        return {name: torch.from_numpy(np.asarray(values)) for name, values in parts.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], max_history: int | None = None) -> ItemKNN:
        """What `tensors` gave.

        Raises:
            ArtifactError: a tensor is missing, or they do not fit one another.
        """
        missing = {"data", "indices", "indptr"} - tensors.keys()
        if missing:
            raise ArtifactError(f"These tensors are no ItemKNN: {', '.join(sorted(missing))} missing. Train it again.")
        data, indices, indptr = (tensors[name].numpy() for name in ("data", "indices", "indptr"))
        size = len(indptr) - 1
        try:
            if data.dtype.kind != "f" or data.ndim != 1:
                raise ValueError(f"data is {data.dtype} of shape {data.shape}")
            similarities = sparse.csr_array((data, indices, indptr), shape=(size, size))
            similarities.check_format(full_check=True)
            return cls(similarities, max_history)
        except ValueError as error:
            raise ArtifactError(f"These tensors are no ItemKNN ({error}). Train it again.") from error

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """Rank each query's candidates; an item of the history counts once however often it stands there."""
        rankings = []
        for query, items in zip(queries, candidates, strict=True):
            seen = query.history if self._max_history is None else query.history[-self._max_history :]
            scores = np.asarray(self._columns[:, np.unique(seen)].sum(axis=1))
            rankings.append(ranking_from_scores(items, scores[items]))
        return rankings


def training_matrix(split: Split) -> sparse.csr_array:
    """Users by item numbers (padding included), 1 where a user's training part holds the item."""
    dataset, mask = split.dataset, split.train_mask()
    users, items = dataset.user_of_interaction()[mask], dataset.item_numbers[mask]
    ones = np.ones(len(users), dtype=np.float32)
    interactions = sparse.csr_array((ones, (users, items)), shape=(dataset.n_users, dataset.n_items + 1))
    interactions.data[:] = 1  # pairs that came twice were added up
    return interactions


def _nearest(
    row: np.ndarray, column: np.ndarray, value: np.ndarray, shape: tuple[int, int], count: int
) -> sparse.csr_array:
    """The `count` highest entries of each row; among equal ones the lower item number stays."""
    order = np.lexsort((column, -value, row))
    row, column, value = row[order], column[order], value[order]
    first = np.searchsorted(row, row, side="left")
    kept = np.arange(len(row)) - first < count
    return sparse.csr_array((value[kept].astype(np.float32), (row[kept], column[kept])), shape=shape)
