"""What the pointer head begins with: features by hand, weights against an independent fit."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize

from allmrec.recommend.prior import conditional_logit, fused_features


def test_the_fused_prior_reads_texts_popularity_and_coldness() -> None:
    scores, likeness = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    found = fused_features(scores, likeness, torch.tensor([[3.0, 0.0]]))[0]
    # Likeness, popularity, coldness (1/4 and 1), then CF, likeness and popularity times it.
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
