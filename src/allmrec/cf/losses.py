"""Losses of collaborative filtering over scores of positives and negatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from allmrec.core.config import Config

__all__ = ["Objective", "binary_cross_entropy", "bpr", "bpr_max", "sampled_softmax", "top1"]

Positive = Float[Tensor, " positions"]
Negatives = Float[Tensor, "positions negatives"]
Scalar = Float[Tensor, ""]


def binary_cross_entropy(
    positive: Float[Tensor, " positions"],
    negative: Float[Tensor, " positions"] | Float[Tensor, "positions negatives"],
) -> Float[Tensor, ""]:
    """Push a positive's score up and a negative's down, each on its own: -log σ(s⁺) - log(1 - σ(s⁻)), averaged.

    SASRec's loss (Kang and McAuley 2018, equation 7) with one negative per positive, and the recommendation loss of
    A-LLMRec's first stage. NCF's (He et al. 2017, equation 7) but for the weight of the negatives, which counts as
    much as the positive's however many there are.

    Args:
        positive: scores of the items that came next; real positions only.
        negative: scores of one or several sampled items at each of these positions.
    """
    return F.softplus(-positive).mean() + F.softplus(negative).mean()


def bpr(positive: Positive, negatives: Negatives) -> Scalar:
    """Bayesian personalised ranking: -log σ(s⁺ - s⁻), averaged over the negatives (Rendle et al., UAI 2009).

    Only differences count, so scores of different users do not compare.
    """
    return F.softplus(negatives - positive.unsqueeze(-1)).mean()


def top1(positive: Positive, negatives: Negatives) -> Scalar:
    """GRU4Rec's first loss: σ(s⁻ - s⁺) + σ(s⁻²), averaged over the negatives (Hidasi et al., ICLR 2016, equation 4).

    The second term holds negatives' scores at 0.
    """
    return (torch.sigmoid(negatives - positive.unsqueeze(-1)) + torch.sigmoid(negatives.square())).mean()


def bpr_max(positive: Positive, negatives: Negatives, regularisation: float = 1.0) -> Scalar:
    """GRU4Rec's second loss: -log Σ_j p_j σ(s⁺ - s⁻_j) + λ Σ_j p_j s⁻_j², p the softmax of the negatives' scores.

    Hidasi and Karatzoglou, CIKM 2018, equation 10. The negatives that score highest count most, so more of them do not
    dilute the gradient, as they do in `bpr`.

    Args:
        positive: scores of the items that came next; real positions only.
        negatives: scores of sampled items at each of these positions.
        regularisation: λ.
    """
    log_weights = F.log_softmax(negatives, dim=-1)
    log_above = F.logsigmoid(positive.unsqueeze(-1) - negatives)
    won = torch.logsumexp(log_weights + log_above, dim=-1)
    return (-won + regularisation * (log_weights.exp() * negatives.square()).sum(-1)).mean()


def sampled_softmax(positive: Positive, negatives: Negatives) -> Scalar:
    """Cross-entropy of the positive among itself and the negatives: NextItNet's loss over a sample of the catalogue.

    Yuan et al., WSDM 2019, section 3.5. The negatives are drawn uniformly, so their scores need no correction but a
    constant, which the paper's full softmax does not have and which changes no gradient between negatives.
    """
    scores = torch.cat([positive.unsqueeze(-1), negatives], dim=-1)
    return (torch.logsumexp(scores, dim=-1) - positive).mean()


_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "binary_cross_entropy": binary_cross_entropy,
    "bpr": bpr,
    "top1": top1,
    "sampled_softmax": sampled_softmax,
}


class Objective(Config):
    """What a backbone is trained for: a score, a loss, and how many sampled items it sees."""

    loss: Literal["binary_cross_entropy", "bpr", "top1", "bpr_max", "sampled_softmax", "softmax"] = Field(
        "binary_cross_entropy",
        description="The loss; `allmrec.cf.losses` has the formulas and the papers. softmax: cross-entropy over the whole "
        "catalogue, or over a sample of it above `exact_below` items.",
    )
    similarity: Literal["dot", "cosine"] = Field(
        "dot", description="What a score is: x · E (the papers'), or the cosine of both (ours)."
    )
    temperature: float = Field(1.0, gt=0, description="Divides the score.")
    exact_below: int = Field(
        200_000,
        ge=1,
        description="Items above which `softmax` sees, beside a batch's targets, `sample` items drawn by popularity and "
        "corrected for it (logQ).",
    )
    sample: int = Field(8192, ge=1, description="Items that such a softmax draws for each batch.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32",
        description="What softmax's products of vectors are computed in; the softmax itself is float32. auto: bfloat16 where "
        "the device is faster at it.",
    )
    negatives: int | None = Field(
        None,
        ge=1,
        description="Items drawn for each training row and shared by its positions; none: one of its own for each "
        "position.",
    )
    regularisation: float = Field(1.0, ge=0, description="Weight of bpr_max's penalty on negatives' scores.")

    def item_side(self, vectors: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """Vectors of items as they enter the dot product: of length 1/√temperature where the score is a cosine. Zeros stay zeros.

        Both sides are divided by the root of the temperature, so that a user's vector and an item's have the same length, as
        stage 2 reads either by the other's scale.
        """
        return self._side(vectors)

    def user_side(self, vectors: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """Vectors of users as they enter the dot product; see `item_side`."""
        return self._side(vectors)

    def _side(self, vectors: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        unit = F.normalize(vectors, dim=-1) if self.similarity == "cosine" else vectors
        return unit if self.temperature == 1 else unit / self.temperature**0.5

    def __call__(self, positive: Positive, negatives: Negatives) -> Scalar:
        """The loss of real positions.

        Args:
            positive: scores of the items that came next.
            negatives: scores of the sampled items at each of these positions.
        """
        if self.loss == "softmax":
            raise ValueError("softmax has no negatives of single positions; see `catalogue_softmax`.")
        if self.loss == "bpr_max":
            return bpr_max(positive, negatives, self.regularisation)
        return _LOSSES[self.loss](positive, negatives)
