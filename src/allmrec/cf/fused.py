"""Several CF models as one: their scores are added, each times a weight, and one index answers for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
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

__all__ = ["FusedBackbone", "FusedConfig", "FusedWeights", "fit_weights", "largest_rarity", "rarity"]

# Shares of the second model that are tried.
_SHARES = tuple(round(0.05 * step, 2) for step in range(21))

# Weights of rarity that are tried.
_RARITIES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)

# The users' side of rarity. It is large, so that the items' side is small and tells little in the similarity of two items.
_USER_SIDE = 64.0


class FusedConfig(Config):
    """How the weights of two models, and of rarity, are chosen."""

    validation_users: int = Field(
        2000, ge=1, description="Validation users by whom the weights are chosen, at the most."
    )
    for_rare_items: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the best validation NDCG@10 that may be given up so that rare items are recommended more: the weight "
        "of rarity is the largest one within it.",
    )


class FusedBackbone:
    """The sum of CF models' scores as one `Backbone`: vectors stand behind one another, users' times the weights.

        x_u · E_i = Σ_k w_k x_u^k · E_i^k + r_i

    EnsRec (Collins et al., 2025) adds the scores of a model of item ids and one of item texts, trained apart. Rarity r is ours: both
    models are trained on what people interacted with, and so score frequent items higher than their order asks for. Taking
    λ log(1 + interactions) off is logit adjustment (Menon et al., ICLR 2021) after training.

    Args:
        parts: trained models of the same items in evaluation mode. One that knows fewer items than another gives the others
            the vector 0, and they are no part of its histories.
        weights: one a part, above or equal to 0.
        rarity: r of each item number, 0 for padding; see `rarity`. Items beyond it have that of an item without interactions,
            which is the highest. None: 0 everywhere.
        n_centred: items up to this number have the mean that is taken out of each model's vectors, so that items that are added
            later change nothing of the others' vectors; None: all that are known.
    """

    def __init__(
        self,
        parts: Sequence[Backbone],
        weights: Sequence[float],
        rarity: Float[Tensor, " rows"] | None = None,
        n_centred: int | None = None,
    ) -> None:
        if len(parts) != len(weights) or not parts:
            raise ConfigError(f"{len(parts)} models came with {len(weights)} weights; give one for each.")
        self.parts, self.weights = tuple(parts), tuple(float(weight) for weight in weights)
        self.rarity = rarity
        self.n_centred = self.n_items if n_centred is None else n_centred

    @property
    def dim(self) -> int:
        """Length of the joined vectors."""
        return sum(part.dim for part in self.parts) + (self.rarity is not None)

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
        tables = [_centred(part.item_vectors(), self.n_centred) for part in self.parts]
        joined = [torch.cat([t, t.new_zeros(rows - len(t), t.shape[1])]) for t in tables]
        if self.rarity is not None:
            rare = joined[0].new_zeros(rows)  # of an item without interactions
            rare[: len(self.rarity)] = self.rarity
            joined.append(_centred(rare[:, None] / _USER_SIDE, self.n_centred))
        return torch.cat(joined, dim=1)

    @torch.no_grad()
    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "batch d"]:
        """The models' user vectors behind one another, each times its weight; 0 of a model that knows nothing of a history.

        Rarity counts where any model knows something.
        """
        found, known_to_any = [], np.zeros(len(batch.histories), dtype=np.bool_)
        for part, weight in zip(self.parts, self.weights, strict=True):
            histories = batch.histories
            if (histories > part.n_items).any():
                known = [row[(row > 0) & (row <= part.n_items)] for row in histories]
                histories = left_pad(known, histories.shape[1])
            vectors = weight * part.user_vectors(SequenceBatch(batch.users, histories))
            # A model that knows nothing of a history has nothing to say of what comes next.
            knows = (histories != 0).any(axis=1)
            found.append(vectors * torch.from_numpy(knows).to(vectors)[:, None])
            known_to_any |= knows
        if self.rarity is not None:
            found.append(_USER_SIDE * torch.from_numpy(known_to_any).to(found[0])[:, None])
        return torch.cat(found, dim=1)

    def with_new_items(self, vectors: Float[Tensor, "new texts"]) -> FusedBackbone:
        """The same with new items, which the models on texts know from untouched vectors of their texts."""
        parts = [
            with_new_items(part, vectors)
            if isinstance(part, SequenceBackbone) and isinstance(getattr(part, "item_emb", None), TextItems)
            else part
            for part in self.parts
        ]
        return FusedBackbone(parts, self.weights, self.rarity, self.n_centred)


def _centred(table: Float[Tensor, "rows d"], items: int) -> Float[Tensor, "rows d"]:
    centred = table - table[1 : items + 1].mean(dim=0)
    centred[0] = 0
    return centred


def rarity(counts: Int[np.ndarray, " rows"], weight: float) -> Float[Tensor, " rows"]:
    """-weight · log(1 + interactions) of each item number; 0 for padding, and for an item that nobody interacted with.

    Args:
        counts: training interactions of each item number.
        weight: λ, in units of the joined scores.
    """
    found = -weight * np.log1p(np.asarray(counts, dtype=np.float64))
    found[0] = 0
    return torch.from_numpy(found).float()


@dataclass(frozen=True)
class FusedWeights:
    """What `fit_weights` chose, and what it saw.

    Attributes:
        parts: the weight of each model.
        rarity: λ of `rarity`.
        by_share: NDCG@10 at each share of the second model that was tried last.
        by_rarity: NDCG@10 at each λ, with the share that was chosen.
    """

    parts: tuple[float, float]
    rarity: float
    by_share: dict[str, float]
    by_rarity: dict[str, float]


def largest_rarity(by_rarity: Mapping[str, float], give_up: float) -> float:
    """The largest λ whose NDCG@10 is within a share of the best one's.

    Args:
        by_rarity: NDCG@10 at each λ.
        give_up: the share.
    """
    enough = (1 - give_up) * max(by_rarity.values())
    return max(float(tried) for tried, value in by_rarity.items() if value >= enough)


@torch.no_grad()
def fit_weights(parts: tuple[Backbone, Backbone], split: Split, config: FusedConfig, seed: int) -> FusedWeights:
    """Weights of two models' scores and of rarity: NDCG@10 over the whole catalogue decides, on validation users.

    Each model's scores are first brought to a deviation of 1 over the items (the mean over the users), so that a share says
    what it seems to. The share is chosen, then λ, and both once more; at last λ is raised as far as `for_rare_items` lets it.

    Args:
        parts: the models.
        split: gives validation items and histories, and the counts of training interactions.
        config: how many users, and what may be given up for rare items.
        seed: draws them.

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
    table = torch.cat([*items, rarity(split.train_counts(), 1.0).to(items[0])[:, None]], dim=1)
    seen: dict[tuple[float, float], float] = {}

    def figure(share: float, weight: float) -> float:
        if (share, weight) not in seen:
            shares = ((1 - share) * scales[0], share * scales[1])
            x = torch.cat([w * rows for w, rows in zip(shares, users, strict=True)], dim=1)
            x = torch.cat([x, x.new_full((len(x), 1), weight)], dim=1)
            seen[share, weight] = sample.figures(x, table)["ndcg@10"]
        bar.advance(1)
        return seen[share, weight]

    with progress_bar("weigh the models", 2 * (len(_SHARES) + len(_RARITIES))) as bar:
        weight = 0.0
        for _ in range(2):
            by_share = {share: figure(share, weight) for share in _SHARES}
            share = _middle_of_the_best(by_share)
            by_rarity = {tried: figure(share, tried) for tried in _RARITIES}
            weight = _middle_of_the_best(by_rarity)
    figures = {str(tried): value for tried, value in by_rarity.items()}
    return FusedWeights(
        ((1 - share) * scales[0], share * scales[1]),
        largest_rarity(figures, config.for_rare_items),
        {str(tried): value for tried, value in by_share.items()},
        figures,
    )


def _middle_of_the_best(figures: Mapping[float, float]) -> float:
    """The middle of equals, as the figures are those of a sample; the lower one of two."""
    best = sorted(tried for tried, value in figures.items() if value == max(figures.values()))
    return best[(len(best) - 1) // 2]
