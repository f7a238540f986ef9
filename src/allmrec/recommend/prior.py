"""What the pointer head begins with: plain features of a candidate, and the weights that explain choices best."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["FUSED", "conditional_logit", "fused_features", "standardised"]

# How many features `fused_features` has.
FUSED = 6


def standardised(scores: Float[Tensor, "batch candidates"]) -> Float[Tensor, "batch candidates"]:
    """Each row with mean 0 and deviation 1, so that one weight fits every backbone's scale."""
    centred = scores - scores.mean(dim=-1, keepdim=True)
    return centred / centred.square().mean(dim=-1, keepdim=True).sqrt().clamp_min(1e-6)


def fused_features(
    cf_scores: Float[Tensor, "batch candidates"],
    likeness: Float[Tensor, "batch candidates"],
    counts: Float[Tensor, "batch candidates"],
) -> Float[Tensor, "batch candidates features"]:
    """What late fusion reads beside the CF model's score: similarity, popularity, inverse popularity, and each times inverse popularity.

    Args:
        cf_scores: the CF model's.
        likeness: of the candidates' texts to the history's.
        counts: the candidates' training interactions.
    """
    cold = 1 / (1 + counts)
    plain = [standardised(part) for part in (cf_scores, likeness, counts.log1p())]
    return torch.stack([*plain[1:], standardised(cold), *(cold * part for part in plain)], dim=-1)


def conditional_logit(
    features: Float[Tensor, "choices candidates features"], chosen: Int[Tensor, " choices"], penalty: float
) -> Float[Tensor, " features"]:
    """The weights under which what was chosen is most likely (McFadden 1974): softmax over a row of w · features.

    The logistic regression for one choice among several. It is convex, so there is one answer, and no seed.

    Args:
        features: of every candidate.
        chosen: the chosen candidate's place in each row.
        penalty: weight of the squared weights beside the mean log-loss.

    Returns:
        The weights, in float64.
    """
    rows, chosen = features.double(), chosen.to(features.device)
    with torch.enable_grad():
        weights = torch.zeros(rows.shape[2], dtype=torch.float64, device=rows.device, requires_grad=True)
        optimizer = torch.optim.LBFGS([weights], max_iter=200, tolerance_grad=1e-8, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = torch.nn.functional.cross_entropy(rows @ weights, chosen) + penalty * weights.square().sum()
            value.backward()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]  # torch leaves it without annotations
    return weights.detach()
