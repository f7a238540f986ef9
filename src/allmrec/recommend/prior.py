"""What the pointer head begins with: plain features of a candidate, and the weights that explain choices best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from allmrec.cf.backbone import Backbone

__all__ = ["FUSED", "candidate_scores", "conditional_logit", "counts_of", "fused_features", "standardised"]

# How many features `fused_features` has.
FUSED = 6


@torch.no_grad()
def candidate_scores(
    backbone: Backbone, states: Float[Tensor, "batch d"], candidates: Sequence[Int[np.ndarray, " _candidates"]]
) -> Float[Tensor, "batch candidates"]:
    """The CF model's scores x_u · E_i of each query's candidates.

    An item that the CF model does not know gets the mean of the query's other candidates, which says nothing.

    Args:
        backbone: the CF model.
        states: x_u of each query.
        candidates: as many for each query.
    """
    numbers = np.stack(candidates)
    known = torch.from_numpy(numbers <= backbone.n_items)
    vectors = backbone.item_vectors()
    chosen = vectors[torch.from_numpy(numbers * known.numpy()).to(vectors.device)]
    scores = torch.einsum("bd,bcd->bc", states, chosen)
    if bool(known.all()):
        return scores
    known = known.to(scores.device)
    mean = (scores * known).sum(-1, keepdim=True) / known.sum(-1, keepdim=True).clamp_min(1)
    return torch.where(known, scores, mean)


def counts_of(
    counts: Int[Tensor, " known"], candidates: Sequence[Int[np.ndarray, " _candidates"]]
) -> Int[Tensor, "batch candidates"]:
    """Interactions of each query's candidates; an item behind the counts was added later, and nobody has interacted with it."""
    numbers = torch.from_numpy(np.stack(candidates))
    return torch.where(numbers < len(counts), counts[numbers.clamp_max(len(counts) - 1)], 0)


def standardised(scores: Float[Tensor, "batch candidates"]) -> Float[Tensor, "batch candidates"]:
    """Each row with mean 0 and deviation 1, so that one weight fits every backbone's scale."""
    centred = scores - scores.mean(dim=-1, keepdim=True)
    return centred / centred.square().mean(dim=-1, keepdim=True).sqrt().clamp_min(1e-6)


def fused_features(
    cf_scores: Float[Tensor, "batch candidates"],
    similarity: Float[Tensor, "batch candidates"],
    counts: Float[Tensor, "batch candidates"],
) -> Float[Tensor, "batch candidates features"]:
    """What late fusion reads beside the CF model's score: similarity, popularity, inverse popularity, and each times inverse popularity.

    Args:
        cf_scores: the CF model's.
        similarity: of the candidates' texts to the history's.
        counts: the candidates' training interactions.
    """
    cold = 1 / (1 + counts)
    plain = [standardised(part) for part in (cf_scores, similarity, counts.log1p())]
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
