"""Recommends by collaborative filtering alone, by the dot products x_u · E_i."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from allmrec.cf.backbone import Backbone
from allmrec.core.errors import UnknownIdError
from allmrec.data.batching import SequenceBatch, left_pad
from allmrec.ranking import Query, Ranking, ranking_from_scores

__all__ = ["BackboneRecommender", "query_batch"]


def query_batch(queries: Sequence[Query], length: int) -> SequenceBatch:
    """The queries' histories, left-padded to `length` columns; no targets."""
    return SequenceBatch(
        users=np.array([query.user for query in queries], dtype=np.int64),
        histories=left_pad([query.history for query in queries], length),
    )


class BackboneRecommender:
    """Ranks candidates by a backbone's own scores.

    Args:
        backbone: a trained backbone in evaluation mode.
        name: the system's name as it stands in a table.
        batch_size: histories in a forward pass.
    """

    def __init__(self, backbone: Backbone, name: str = "SASRec", batch_size: int = 256) -> None:
        self._backbone = backbone
        self._name = name
        self._batch_size = batch_size

    @property
    def name(self) -> str:
        """The system's name as it stands in a table."""
        return self._name

    @property
    def backbone(self) -> Backbone:
        """The model whose scores they are."""
        return self._backbone

    @torch.no_grad()
    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _"]]) -> list[Ranking]:
        """Rank each query's own candidates by x_u · E_i.

        Raises:
            ValueError: there are not as many candidate sets as queries.
            UnknownIdError: a candidate is none of the backbone's items.
        """
        if len(queries) != len(candidates):
            raise ValueError(f"{len(queries)} queries came with {len(candidates)} candidate sets; give one for each.")
        vectors = self._backbone.item_vectors()
        rankings = []
        for start in range(0, len(queries), self._batch_size):
            part = candidates[start : start + self._batch_size]
            batch = query_batch(queries[start : start + self._batch_size], self._backbone.max_history)
            rankings += self._rank_batch(self._backbone.user_vectors(batch), vectors, part)
        return rankings

    def _rank_batch(self, users: Tensor, vectors: Tensor, candidates: Sequence[np.ndarray]) -> list[Ranking]:
        """All candidates of a batch in one product, however many each query has."""
        lengths = np.array([len(items) for items in candidates])
        if not lengths.sum():
            return [Ranking(np.asarray(items), np.zeros(0, dtype=np.float32)) for items in candidates]
        flat = np.concatenate([np.asarray(items, dtype=np.int64) for items in candidates])
        if flat.min() < 1 or flat.max() >= len(vectors):
            wrong = int(flat[(flat < 1) | (flat >= len(vectors))][0])
            raise UnknownIdError(f"Candidate {wrong} is no item of {self.name}, which knows 1 to {len(vectors) - 1}.")
        items = torch.as_tensor(flat, device=vectors.device)
        rows = torch.as_tensor(np.repeat(np.arange(len(lengths)), lengths), device=vectors.device)
        scores = (users[rows] * vectors[items]).sum(-1).float().cpu().numpy()
        pieces = np.split(scores, np.cumsum(lengths)[:-1])
        return [ranking_from_scores(np.asarray(i), s) for i, s in zip(candidates, pieces, strict=True)]
