"""Several CF models as one: their scores are added, each times a weight, and one index answers for all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from allmrec.cf.backbone import Backbone, SequenceBackbone
from allmrec.cf.text_items import TextItems, with_new_items
from allmrec.cf.validation import ValidationSample
from allmrec.core.config import Config
from allmrec.core.errors import ConfigError
from allmrec.core.progress import progress_bar
from allmrec.data.batching import SequenceBatch, left_pad
from allmrec.data.splitting import Split

__all__ = ["FusedBackbone", "FusedConfig", "fit_shares"]

# Shares of the second model that are tried.
_SHARES = tuple(round(0.05 * step, 2) for step in range(21))


class FusedConfig(Config):
    """How the weights of two models are chosen."""

    validation_users: int = Field(
        2000, ge=1, description="Validation users by whom the weights are chosen, at the most."
    )


class FusedBackbone:
    """The sum of CF models' scores as one `Backbone`: vectors stand behind one another, users' times the weights.

        x_u · E_i = Σ_k w_k x_u^k · E_i^k

    EnsRec (Collins et al., 2025) adds the scores of a model of item ids and one of item texts, trained apart.

    Args:
        parts: trained models of the same items in evaluation mode. One that knows fewer items than another gives the others
            the vector 0, and they are no part of its histories.
        weights: one a part, above or equal to 0.
    """

    def __init__(self, parts: Sequence[Backbone], weights: Sequence[float]) -> None:
        if len(parts) != len(weights) or not parts:
            raise ConfigError(f"{len(parts)} models came with {len(weights)} weights; give one for each.")
        self.parts, self.weights = tuple(parts), tuple(float(weight) for weight in weights)

    @property
    def dim(self) -> int:
        """Length of the joined vectors."""
        return sum(part.dim for part in self.parts)

    @property
    def max_history(self) -> int:
        """The most that any of the models looks at."""
        return max(part.max_history for part in self.parts)

    @property
    def n_items(self) -> int:
        """Items that any of the models knows."""
        return max(part.n_items for part in self.parts)

    @torch.no_grad()
    def item_vectors(self) -> Float[Tensor, "rows d"]:
        """The models' item vectors behind one another, each model's mean taken out.

        That moves all scores of a user alike. An item that a model does not know gets that model's mean score, and neither
        leads nor trails for it.
        """
        rows = self.n_items + 1
        tables = [_centred(part.item_vectors()) for part in self.parts]
        return torch.cat([torch.cat([t, t.new_zeros(rows - len(t), t.shape[1])]) for t in tables], dim=1)

    @torch.no_grad()
    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "batch d"]:
        """The models' user vectors behind one another, each times its weight; 0 of a model that knows nothing of a history."""
        found = []
        for part, weight in zip(self.parts, self.weights, strict=True):
            histories = batch.histories
            if (histories > part.n_items).any():
                known = [row[(row > 0) & (row <= part.n_items)] for row in histories]
                histories = left_pad(known, histories.shape[1])
            vectors = weight * part.user_vectors(SequenceBatch(batch.users, histories))
            # A model that knows nothing of a history has nothing to say of what comes next.
            found.append(vectors * torch.from_numpy((histories != 0).any(axis=1)).to(vectors)[:, None])
        return torch.cat(found, dim=1)

    def with_new_items(self, vectors: Float[Tensor, "new texts"]) -> FusedBackbone:
        """The same with new items, which the models on texts know from untouched vectors of their texts."""
        parts = [
            with_new_items(part, vectors)
            if isinstance(part, SequenceBackbone) and isinstance(getattr(part, "item_emb", None), TextItems)
            else part
            for part in self.parts
        ]
        return FusedBackbone(parts, self.weights)


def _centred(table: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
    centred = table - table[1:].mean(dim=0)
    centred[0] = 0
    return centred


@torch.no_grad()
def fit_shares(
    parts: tuple[Backbone, Backbone], split: Split, config: FusedConfig, seed: int
) -> tuple[tuple[float, float], dict[str, float]]:
    """Weights of two models' scores: NDCG@10 over the whole catalogue decides, on validation users.

    Each model's scores are first brought to a deviation of 1 over the items (the mean over the users), so that a share says
    what it seems to.

    Args:
        parts: the models.
        split: gives validation items and histories.
        config: how many users.
        seed: draws them.

    Returns:
        A weight for each, and the figure at each share of the second.

    Raises:
        DataError: nobody has a validation item.
    """
    length = max(part.max_history for part in parts)
    sample = ValidationSample(split, config.validation_users, None, length, seed)
    users, items = [sample.user_vectors(part) for part in parts], [part.item_vectors() for part in parts]
    scales = []
    for x, E in zip(users, items, strict=True):
        spread = torch.stack([(rows @ E[1:].T).std(dim=1).mean() for rows in torch.split(x, 256)])
        scales.append(1 / max(float(spread.mean()), 1e-12))
    figures: dict[str, float] = {}
    E = torch.cat(items, dim=1)
    with progress_bar("weigh the models", len(_SHARES)) as bar:
        for share in _SHARES:
            weights = ((1 - share) * scales[0], share * scales[1])
            x = torch.cat([weight * rows for weight, rows in zip(weights, users, strict=True)], dim=1)
            figures[str(share)] = sample.figures(x, E)["ndcg@10"]
            bar.advance(1)
    # The middle of equals, as the figures are those of a sample.
    best = float(np.median([share for share in _SHARES if figures[str(share)] == max(figures.values())]))
    return ((1 - best) * scales[0], best * scales[1]), figures
