"""LLM-SRec's three losses as plain functions of vectors; they know no language model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["distillation", "log_presence", "retrieval", "uniformity"]


def retrieval(
    users: Float[Tensor, "batch dim"],
    items: Float[Tensor, "items dim"],
    targets: Int[Tensor, " batch"],
    competing: Bool[Tensor, "batch items"],
    temperature: float = 1.0,
    log_q: Float[Tensor, " items"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy of each user's target among the items that compete for it, by dot products (LLM-SRec's L_Retrieval).

    Args:
        users: vectors of users.
        items: vectors of items, each once, however many users it competes for.
        targets: for each user the row of the item that came next.
        competing: which items compete for which user; the target always does.
        temperature: what scores are divided by.
        log_q: log of the probability that an item stands among `items`. It is subtracted from the item's score, so that what
            is learned is the softmax over the catalogue and not over what is drawn often (Bengio and Senecal, 2008; Yi et al.,
            RecSys 2019). None: scores as they are.
    """
    scores = users @ items.T / temperature
    if log_q is not None:
        scores = scores - log_q
    return F.cross_entropy(scores.masked_fill(~competing, -torch.inf), targets)


def distillation(students: Float[Tensor, "batch dim"], teachers: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """Mean squared difference of vectors of length 1, over all components (LLM-SRec's L_Distill).

    Args:
        students: what the language model says of each user; brought to length 1.
        teachers: what the CF model says of the same; likewise.
    """
    return F.mse_loss(F.normalize(students, dim=1), F.normalize(teachers, dim=1))


def uniformity(vectors: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """Mean of exp(-2 ‖x − y‖²) over all pairs of vectors of length 1: low where they lie apart (LLM-SRec's L_Uniform).

    Wang and Isola (ICML 2020) take its logarithm; the paper and its program do not. Fewer than two vectors have none: 0.

    Args:
        vectors: one a row; brought to length 1.
    """
    if len(vectors) < 2:
        return vectors.sum() * 0
    unit = F.normalize(vectors, dim=1)
    first, second = torch.triu_indices(len(unit), len(unit), 1, device=unit.device)
    # ‖x − y‖² = 2 − 2 x·y
    return torch.exp(4 * (unit @ unit.T)[first, second] - 4).mean()


def log_presence(
    as_target: Float[Tensor, " items"], rows: int, as_negative: float, drawn: int
) -> Float[Tensor, " items"]:
    """Log of the probability that an item stands in a batch, as a target or as a negative, each draw on its own.

    Args:
        as_target: each item's share of the targets.
        rows: samples in the batch.
        as_negative: the probability that one draw of a negative is the item.
        drawn: negatives drawn for the batch.
    """
    absent = rows * torch.log1p(-as_target.double().clamp(max=1 - 1e-12)) + drawn * torch.log1p(
        torch.tensor(-min(as_negative, 1 - 1e-12), dtype=torch.float64)
    )
    return torch.log(-torch.expm1(absent).clamp(max=-1e-12)).to(as_target.dtype)
