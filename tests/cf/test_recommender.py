"""Ranking by a backbone's dot products."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from allmrec.cf import Backbone, BackboneRecommender, SASRec, SASRecConfig
from allmrec.core.errors import UnknownIdError
from allmrec.data import SequenceBatch
from allmrec.ranking import Query, Ranker


class LastItem:
    """Two arrays from elsewhere: a user is the last item's vector, items are the corners of a cube."""

    dim, max_history, n_items = 3, 4, 3

    def item_vectors(self) -> Tensor:
        return torch.cat([torch.zeros(1, 3), torch.eye(3)])

    def user_vectors(self, batch: SequenceBatch) -> Tensor:
        return self.item_vectors()[torch.from_numpy(batch.histories[:, -1])]


def test_it_is_a_recommender_over_any_backbone() -> None:
    assert isinstance(LastItem(), Backbone)
    assert isinstance(SASRec(3, SASRecConfig()), Backbone)
    assert isinstance(BackboneRecommender(LastItem()), Ranker)


def test_candidates_are_ranked_each_within_its_query() -> None:
    queries = [Query(np.array([1, 3])), Query(np.array([2])), Query(np.array([], dtype=np.int64)), Query(np.array([1]))]
    candidates = [np.array([1, 2, 3]), np.array([3, 2]), np.array([2, 1]), np.array([], dtype=np.int64)]
    rankings = BackboneRecommender(LastItem(), "last", batch_size=3).rank(queries, candidates)
    # Equal scores keep the candidates' order.
    assert [ranking.items.tolist() for ranking in rankings] == [[3, 1, 2], [2, 3], [2, 1], []]
    assert rankings[0].scores.tolist() == [1, 0, 0]


def test_batches_do_not_change_scores() -> None:
    model = SASRec(20, SASRecConfig(dim=8, max_history=5)).eval()
    rng = np.random.default_rng(0)
    queries = [Query(rng.integers(1, 21, size)) for size in (0, 1, 3, 9)]
    candidates = [rng.permutation(np.arange(1, 21))[:6] for _ in queries]
    one = BackboneRecommender(model, batch_size=1).rank(queries, candidates)
    all_at_once = BackboneRecommender(model).rank(queries, candidates)
    for left, right in zip(one, all_at_once, strict=True):
        assert left.items.tolist() == right.items.tolist()
        np.testing.assert_allclose(left.scores, right.scores, atol=1e-5)


def test_wrong_candidates_are_refused() -> None:
    recommender = BackboneRecommender(LastItem(), "last")
    with pytest.raises(UnknownIdError, match="Candidate 4 is no item of last, which knows 1 to 3"):
        recommender.rank([Query(np.array([1]))], [np.array([1, 4])])
    with pytest.raises(UnknownIdError, match="Candidate 0"):
        recommender.rank([Query(np.array([1]))], [np.array([0])])
    with pytest.raises(ValueError, match="1 queries came with 0 candidate sets"):
        recommender.rank([Query(np.array([1]))], [])
