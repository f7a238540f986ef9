"""A user's vector from item vectors alone, for somebody whom a model never saw."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["least_squares", "mean_of_items"]


def mean_of_items(vectors: Float[Tensor, "rows d"], histories: Int[Tensor, "batch length"]) -> Float[Tensor, "batch d"]:
    """The mean of the vectors of a history's items; 0 for an empty one.

    Args:
        vectors: one row per item number, row 0 pads.
        histories: item numbers, 0 pads.
    """
    real = (histories != 0).unsqueeze(-1).to(vectors)
    return (F.embedding(histories, vectors) * real).sum(1) / real.sum(1).clamp(min=1)


def least_squares(
    vectors: Float[Tensor, "rows d"],
    histories: Int[Tensor, "batch length"],
    ridge: float,
    unseen: float = 0.0,
) -> Float[Tensor, "batch d"]:
    """The vector whose products with a history's items come nearest to 1, and with all others nearest to 0.

    Minimises Σ_{i in history} (1 - x · E_i)² + unseen Σ_i (x · E_i)² + ridge ‖x‖², the half-step of alternating least
    squares for implicit feedback (Hu et al., ICDM 2008, equation 4) with item vectors held still. An empty history has
    the vector 0.

    Args:
        vectors: one row per item number, row 0 pads.
        histories: item numbers, 0 pads.
        ridge: weight of the vector's own square; greater than 0, or few items would leave it undetermined.
        unseen: weight of every item of the catalogue as something that was not interacted with; 0 leaves them out.
    """
    real = (histories != 0).unsqueeze(-1).to(vectors)
    known = F.embedding(histories, vectors) * real
    normal = known.transpose(1, 2) @ known + ridge * torch.eye(vectors.shape[1]).to(vectors)
    if unseen:
        normal = normal + unseen * vectors[1:].T @ vectors[1:]
    solved: Tensor = torch.linalg.solve(normal, known.sum(1).unsqueeze(-1))
    return solved.squeeze(-1)
