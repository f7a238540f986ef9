"""Whitening: vectors that share a few large directions become vectors whose directions all count alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from allmrec.core.errors import DataError

__all__ = ["Whitening"]

# A direction's variance is taken for this share of the greatest one's at the least, so that rounding is not blown up.
_FLOOR = 1e-6


@dataclass(frozen=True)
class Whitening:
    """A map to the first principal components, each scaled to variance 1 (PCA whitening).

        w(t) = (t - centre) · matrix

    Hidden states of language models lie in a narrow cone (Ethayarajh, 2019), so that cosines between any two are high. For
    sentence vectors whitening was proposed by Su et al. (2021), for text vectors of items by Zhang et al. (2024, WhitenRec).

    Attributes:
        centre: mean of the vectors that it was fitted on.
        matrix: one column a component, the one of the greatest variance first.
    """

    centre: Float[Tensor, " dim"]
    matrix: Float[Tensor, "dim kept"]

    @classmethod
    def fit(
        cls, vectors: Float[Tensor, "rows dim"], present: Bool[Tensor, " rows"], kept: int | None = None
    ) -> Whitening:
        """Fit it.

        Args:
            vectors: one a row.
            present: which rows count.
            kept: components that are kept at the most; none: all. Never more than one for four vectors: as many components as
                vectors would make all vectors alike far from one another.

        Raises:
            DataError: no row counts.
        """
        chosen, dim = vectors[present].double(), vectors.shape[1]
        if not len(chosen):
            raise DataError("No item has a text, so there is nothing to whiten.")
        kept = min(dim if kept is None else kept, dim, max(1, len(chosen) // 4))
        centre = chosen.mean(dim=0)
        centred = chosen - centre
        variances, directions = torch.linalg.eigh(centred.T @ centred / len(chosen))
        variances, directions = variances.flip(0)[:kept], directions.flip(1)[:, :kept]
        scale = variances.clamp(min=max(_FLOOR * float(variances[0]), 1e-30)).rsqrt()
        return cls(centre.float(), (directions * scale).float().contiguous())

    def of(self, vectors: Float[Tensor, "rows dim"], present: Bool[Tensor, " rows"]) -> Float[Tensor, "rows kept"]:
        """Vectors whitened; those that are not present become 0."""
        found: Tensor = ((vectors.float() - self.centre) @ self.matrix) * present[:, None]
        return found
