"""EASE: a linear item-to-item model in closed form; knows neither order nor text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from scipy import linalg
from torch import Tensor

from allmrec.baselines.item_knn import training_matrix
from allmrec.core.config import Config
from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.data.splitting import Split
from allmrec.ranking import Query, Ranking, ranking_from_scores

__all__ = ["EASE", "EASEConfig"]


class EASEConfig(Config):
    """How strongly EASE is regularised, and how large a catalogue it may have."""

    regularisation: float = Field(100.0, gt=0, description="λ; higher trusts frequent pairs only.")
    max_items: int = Field(
        30_000,
        ge=1,
        description="Items at the most: training takes items² times 16 bytes (30,000 items: 14 GB), a quarter of "
        "which is kept, and its time grows with items³.",
    )


class EASE:
    """Ranks by the history's weights in a linear auto-encoder without hidden layer.

    Embarrassingly shallow auto-encoders (Steck, WWW 2019): with X users by items, 1 where they interacted in training,

        minimise ‖X − X B‖² + λ ‖B‖²  with diag(B) = 0,    so    P = (XᵀX + λ I)⁻¹,  B_ij = −P_ij / P_jj  (i ≠ j)

    and score(i) = Σ_{j in history} B_ji. As in the paper, order and repetition do not count. A-LLMRec has no such row.

    Args:
        weights: B by item number, padding included.
    """

    name = "EASE"

    def __init__(self, weights: Float[np.ndarray, "items_and_padding items_and_padding"]) -> None:
        self._weights = weights

    @classmethod
    def of(cls, split: Split, config: EASEConfig | None = None) -> EASE:
        """B from a split's training part; held-out, validation and test items do not count.

        Raises:
            ConfigError: there are more items than `max_items`.
        """
        config = config or EASEConfig()
        n_items = split.dataset.n_items
        if n_items > config.max_items:
            raise ConfigError(
                f"EASE inverts a matrix of items × items, and {n_items:,} items take {16e-9 * n_items**2:.0f} GB; the "
                f"limit is {config.max_items:,} items. Use ItemKNN, or raise max_items where there is memory."
            )
        interactions = training_matrix(split)[:, 1:].astype(np.float64)
        # Transposed, which changes nothing here but the memory's order: in any other, what is to be overwritten is copied.
        gram = (interactions.T @ interactions).toarray().T
        gram[np.diag_indices(n_items)] += config.regularisation
        try:
            factor = linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
        except linalg.LinAlgError as error:
            raise ConfigError(
                f"The item matrix cannot be inverted ({error}); raise regularisation ({config.regularisation})."
            ) from error
        identity = np.eye(n_items, order="F")
        inverse = linalg.cho_solve(factor, identity, overwrite_b=True, check_finite=False)
        del gram, factor, identity
        weights = np.zeros((n_items + 1, n_items + 1), dtype=np.float32)
        weights[1:, 1:] = inverse
        weights[1:, 1:] /= -np.diag(inverse)
        np.fill_diagonal(weights, 0)
        return cls(weights)

    def tensors(self) -> dict[str, Tensor]:
        """B, 4 bytes times items squared."""
        return {"weights": torch.from_numpy(self._weights)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> EASE:
        """What `tensors` gave.

        Raises:
            ArtifactError: B is missing or not square.
        """
        weights = tensors.get("weights")
        if weights is None or weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
            raise ArtifactError("These tensors are no EASE: expected square weights. Train it again.")
        return cls(weights.numpy())

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """Rank each query's candidates; an item of the history counts once however often it stands there."""
        return [
            ranking_from_scores(items, self._weights[np.ix_(np.unique(query.history), items)].sum(axis=0))
            for query, items in zip(queries, candidates, strict=True)
        ]
