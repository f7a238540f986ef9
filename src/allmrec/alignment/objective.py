"""Stage 1's objective, each row of the method's table a named term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from allmrec.alignment.autoencoders import Autoencoder
from allmrec.cf.losses import binary_cross_entropy
from allmrec.core.config import Config
from allmrec.core.training import TrainingConfig

__all__ = ["AlignConfig", "ItemSide", "alignment_terms"]


class AlignConfig(Config):
    """Stage 1: the objective's weights and variants, its samples and its training. The defaults are the paper's."""

    joint_dim: int = Field(128, ge=1, description="Length d' of a joint vector.")
    matching_weight: float = Field(1.0, ge=0, description="Weight of MSE(e, q); 0 leaves the term out.")
    item_reconstruction_weight: float = Field(0.5, ge=0, description="Alpha, weight of MSE(E, Ê); 0 leaves it out.")
    text_reconstruction_weight: float = Field(
        0.5,
        ge=0,
        description="Beta, weight of MSE(Q, Q̂): 0.5 for Movies and Games, 0.2 for Beauty and Toys in the paper.",
    )
    recommendation_weight: float = Field(1.0, ge=0, description="Weight of the recommendation loss; 0 leaves it out.")
    reconstructed: Literal["positive", "both"] = Field(
        "positive", description="Items that matching and reconstruction see: the positive, or the negative as well."
    )
    text_target: Literal["attached", "detached"] = Field(
        "detached",
        description="Whether the text reconstruction's gradient reaches its target Q as well. The paper does not say; "
        "attached, a tuned encoder makes the loss small by giving every text the same vector.",
    )
    recommendation_score: Literal["sum", "mean"] = Field(
        "sum", description="x · Ê as a dot product, or its mean over the d dimensions."
    )
    positions: Literal["last", "all"] = Field(
        "last", description="Samples of a user: the last training item, or every one that has an item before it."
    )
    samples_per_epoch: int | None = Field(None, ge=1, description="Samples drawn for an epoch; none: all of them.")
    watch: Literal["matching", "recommendation"] = Field(
        "matching", description="Which validation figure decides about the best weights: retrieval or recommendation."
    )
    validation_items: int = Field(1000, ge=2, description="Items with a text drawn to measure matching, at the most.")
    validation_users: int = Field(1000, ge=1, description="Users drawn to measure recommendation, at the most.")
    validation_negatives: int = Field(
        19, ge=1, description="Items that each validation item is ranked against, at the most."
    )
    cache_bytes: int = Field(2**30, ge=0, description="Memory for what the encoder's frozen layers give, in bytes.")
    training: TrainingConfig = Field(
        TrainingConfig(learning_rate=1e-4, batch_size=32, epochs=10), description="The training loop's settings."
    )


@dataclass(frozen=True)
class ItemSide:
    """The items of one role, positive or negative, of a batch.

    Attributes:
        cf: their CF vectors `E`.
        text: their text vectors `Q`; none where no term reads them.
        has_text: rows whose text vector means something.
    """

    cf: Float[Tensor, "rows d"]
    text: Float[Tensor, "rows dim"] | None = None
    has_text: Bool[Tensor, " rows"] | None = None


def alignment_terms(
    items: Autoencoder,
    texts: Autoencoder,
    users: Float[Tensor, "rows d"],
    positive: ItemSide,
    negative: ItemSide,
    config: AlignConfig,
) -> dict[str, Tensor]:
    """The weighted terms of stage 1 (A-LLMRec, section 4.1); their sum is minimised.

    With `e = f_I(E)`, `q = f_T(Q)`, `Ê = g_I(e)`, `Q̂ = g_T(q)`:

    - matching: MSE(e, q) pulls the two vectors of an item together; alone it makes both encoders constant.
    - item_reconstruction: MSE(E, Ê) and text_reconstruction: MSE(Q, Q̂) keep the information.
    - recommendation: σ(x·Ê) toward 1 for the positive and 0 for the negative keeps the collaborative signal.

    Items without a text take no part in matching and text reconstruction.

    Args:
        items: `f_I, g_I`.
        texts: `f_T, g_T`.
        users: `x_u` of each row, from the frozen CF model.
        positive: the item that each user interacted with.
        negative: a sampled item for each row.
        config: weights and variants; a term of weight 0 is neither computed nor returned.
    """
    terms: dict[str, Tensor] = {}
    e_positive, e_negative = items.encode(positive.cf), items.encode(negative.cf)
    decoded = items.decode(e_positive), items.decode(e_negative)
    sides = [(positive, e_positive, decoded[0])]
    if config.reconstructed == "both":
        sides.append((negative, e_negative, decoded[1]))
    for side, e, e_decoded in sides:
        found: dict[str, Tensor] = {}
        if config.item_reconstruction_weight:
            found["item_reconstruction"] = config.item_reconstruction_weight * _mean_square(side.cf, e_decoded)
        if side.text is not None:
            real = side.has_text if side.has_text is not None else torch.ones_like(side.text[:, 0], dtype=torch.bool)
            text, e = side.text[real], e[real]
            q = texts.encode(text)
            if config.matching_weight:
                found["matching"] = config.matching_weight * _mean_square(e, q)
            if config.text_reconstruction_weight:
                target = text.detach() if config.text_target == "detached" else text
                found["text_reconstruction"] = config.text_reconstruction_weight * _mean_square(target, texts.decode(q))
        for name, value in found.items():
            terms[name] = terms[name] + value if name in terms else value
    if config.recommendation_weight:
        scores = [users * vectors for vectors in decoded]
        reduced = [s.sum(-1) if config.recommendation_score == "sum" else s.mean(-1) for s in scores]
        terms["recommendation"] = config.recommendation_weight * binary_cross_entropy(*reduced)
    return terms


def _mean_square(target: Float[Tensor, "rows dim"], value: Float[Tensor, "rows dim"]) -> Float[Tensor, ""]:
    """Mean squared error over rows and components; 0 for no rows, where torch's own gives NaN."""
    return (target - value).square().sum() / max(1, value.numel())
