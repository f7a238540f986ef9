"""Losses of collaborative filtering over scores of positives and negatives; knows no model and no sampling."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["binary_cross_entropy"]


def binary_cross_entropy(
    positive: Float[Tensor, " positions"], negative: Float[Tensor, " positions"]
) -> Float[Tensor, ""]:
    """Push a positive's score up and a negative's down, each on its own: -log σ(s⁺) - log(1 - σ(s⁻)), averaged.

    SASRec's loss (Kang and McAuley 2018, equation 7) with one negative per positive, and the recommendation loss of
    A-LLMRec's first stage.

    Args:
        positive: scores of the items that came next; real positions only.
        negative: scores of one sampled item at each of these positions.
    """
    return F.softplus(-positive).mean() + F.softplus(negative).mean()
