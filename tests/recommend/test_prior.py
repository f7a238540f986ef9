"""What the pointer head begins with: features by hand and as late fusion's, weights against an independent fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import minimize

from allmrec.baselines.fusion import _features
from allmrec.ranking import Query, Ranking, ranking_from_scores
from allmrec.recommend.prior import conditional_logit, fused_features, standardised


def test_the_fused_prior_reads_texts_popularity_and_inverse_popularity() -> None:
    scores, similarity = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    found = fused_features(scores, similarity, torch.tensor([[3.0, 0.0]]))[0]
    # Similarity, popularity, inverse popularity (1/4 and 1), then CF, similarity and popularity times it.
    np.testing.assert_allclose(found[0], [-1, 1, -1, 0.25, -0.25, 0.25], atol=1e-5)
    np.testing.assert_allclose(found[1], [1, -1, 1, -1, 1, -1], atol=1e-5)


def test_the_weights_are_those_of_an_independent_fit() -> None:
    rng = np.random.default_rng(0)
    features, chosen = rng.normal(size=(200, 5, 3)), rng.integers(5, size=200)
    features[np.arange(200), chosen] += np.array([0.8, 0.0, -0.3])

    def loss(weights: np.ndarray) -> float:
        logits = features @ weights
        return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(200), chosen]) + 0.01 * weights @ weights)

    expected = minimize(loss, np.zeros(3), tol=1e-10).x
    found = conditional_logit(torch.from_numpy(features), torch.from_numpy(chosen), 0.01)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_its_features_are_late_fusions() -> None:
    rng = np.random.default_rng(1)
    scores, similarity = rng.normal(size=(2, 1, 6)), rng.normal(size=(2, 1, 6))
    counts, items = rng.integers(0, 30, size=12), np.array([4, 1, 7, 9, 11, 2])

    class Told:
        def __init__(self, values: np.ndarray) -> None:
            self.name, self._values = "told", values

        def rank(self, queries: Sequence[Query], candidates: Sequence[np.ndarray]) -> list[Ranking]:
            return [ranking_from_scores(i, v) for i, v in zip(candidates, self._values[:, 0], strict=True)]

    queries = [Query(np.array([3])), Query(np.array([5]))]
    expected = np.stack(_features({"cf": Told(scores), "text": Told(similarity)}, counts, queries, [items, items]))
    told = [torch.from_numpy(part[:, 0]) for part in (scores, similarity)]
    found = fused_features(told[0], told[1], torch.from_numpy(counts[items]).double().expand(2, -1))
    np.testing.assert_allclose(standardised(told[0]), expected[..., 0], atol=1e-9)
    np.testing.assert_allclose(found, expected[..., 1:], atol=1e-9)
