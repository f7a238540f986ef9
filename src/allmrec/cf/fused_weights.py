"""The weights of two models, of rarity and of emphasis, chosen on validation users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from allmrec.cf.backbone import Backbone
from allmrec.cf.fused import centred, emphasis, rarity
from allmrec.cf.validation import ValidationSample, gains
from allmrec.core.config import Config
from allmrec.core.progress import progress_bar
from allmrec.data.cold_items import cold_and_warm_items
from allmrec.data.splitting import Split

__all__ = ["FusedConfig", "FusedWeights", "Tried", "best_within", "fit_weights"]

# What is tried: shares of the second model, λ of `rarity`, and β of `emphasis`.
_SHARES = tuple(round(0.05 * step, 2) for step in range(21))
_RARITIES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
_EMPHASES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)

# Users times items of all scores that are looked at for one choice of weights, at the most.
_MOST_SCORES = 200_000_000

# Scores that are looked at together: they stay in a processor's cache while all weights are tried.
_SCORES_AT_A_TIME = 200_000

# How far down the list rare targets count. Among the first ten there are too few of them to choose by.
_RARE_DEPTH = 100


class FusedConfig(Config):
    """How the weights of two models, of rarity and of emphasis are chosen."""

    validation_users: int = Field(
        5000,
        ge=1,
        description="Validation users by whom the weights are chosen, at the most; fewer where users times items would exceed "
        "200 million.",
    )
    for_rare_items: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="Share of the best validation NDCG@10 that may be given up so that rare items are recommended more.",
    )
    rare_share: float = Field(
        0.35,
        gt=0,
        le=0.5,
        description="Share of the catalogue, those with the fewest interactions, that counts as rare.",
    )


@dataclass(frozen=True)
class Tried:
    """One choice of weights of rarity and emphasis, and its figures over the whole catalogue.

    Attributes:
        rarity: λ of `rarity`.
        emphasis: β of `emphasis`.
        ndcg: NDCG@10.
        rare_ndcg: NDCG@100 of the users whose validation item is rare; 0 where there are none.
    """

    rarity: float
    emphasis: float
    ndcg: float
    rare_ndcg: float


@dataclass(frozen=True)
class FusedWeights:
    """What `fit_weights` chose, and what it saw.

    Attributes:
        parts: the weight of each model.
        chosen: weights of rarity and emphasis, with their figures.
        by_share: NDCG@10 at each share of the second model, with the best weights of rarity and emphasis.
        tried: all weights of rarity and emphasis, with the share that was chosen.
    """

    parts: tuple[float, float]
    chosen: Tried
    by_share: dict[str, float]
    tried: tuple[Tried, ...]


def best_within(tried: Sequence[Tried], give_up: float) -> Tried:
    """What is best for rare targets, of all whose NDCG@10 is within a share of the best one's; of equals the smallest weights.

    Args:
        tried: all choices.
        give_up: the share.
    """
    enough = (1 - give_up) * max(one.ndcg for one in tried)
    return max(
        (one for one in tried if one.ndcg >= enough),
        key=lambda one: (one.rare_ndcg, one.ndcg, -one.emphasis, -one.rarity),
    )


@torch.no_grad()
def fit_weights(parts: tuple[Backbone, Backbone], split: Split, config: FusedConfig, seed: int) -> FusedWeights:
    """Weights of two models' scores, of rarity and of emphasis: NDCG@10 over the whole catalogue decides, on validation users.

    Each model's scores are first brought to a deviation of 1 over the items (the mean over the users), so that a share says
    what it seems to. The share is chosen, then rarity and emphasis, and both once more; at last what is best for rare targets is
    taken within `for_rare_items`.

    Args:
        parts: the models; emphasis is on the second one.
        split: gives validation items and histories, and the counts of training interactions.
        config: how many users, and what may be given up for rare items.
        seed: draws them.

    Raises:
        DataError: nobody has a validation item.
    """
    scores = _Scores(parts, split, config, seed)
    best = Tried(0.0, 0.0, 0.0, 0.0)
    grid = tuple(product(_RARITIES, _EMPHASES))
    with progress_bar("weigh the models", 2 * (len(_SHARES) + len(grid)) * scores.blocks) as bar:
        for _ in range(2):
            shares = [(share, best.rarity, best.emphasis) for share in _SHARES]
            by_share = dict(zip(_SHARES, (ndcg for ndcg, _ in scores.figures(shares, bar.advance)), strict=True))
            share = _middle_of_the_best(by_share)
            found = scores.figures([(share, *weights) for weights in grid], bar.advance)
            tried = tuple(Tried(*weights, *figures) for weights, figures in zip(grid, found, strict=True))
            best = min(tried, key=lambda one: (-one.ndcg, one.emphasis, one.rarity))
    return FusedWeights(
        ((1 - share) * scores.scales[0], share * scores.scales[1]),
        best_within(tried, config.for_rare_items),
        {str(share): value for share, value in by_share.items()},
        tried,
    )


class _Scores:
    """Validation users' scores of all items by two models, of which many sums are looked at.

    Args:
        parts, split, config, seed: as for `fit_weights`.
    """

    def __init__(self, parts: tuple[Backbone, Backbone], split: Split, config: FusedConfig, seed: int) -> None:
        users = min(config.validation_users, max(1, _MOST_SCORES // split.dataset.n_items))
        self._sample = ValidationSample(split, users, None, max(part.max_history for part in parts), seed)
        self._users = [self._sample.user_vectors(part) for part in parts]
        tables = [part.item_vectors() for part in parts]
        self.scales = [
            1 / max(float(torch.cat([(rows @ E[1:].T).std(dim=1) for rows in torch.split(x, 256)]).mean()), 1e-12)
            for x, E in zip(self._users, tables, strict=True)
        ]
        self._items = [centred(E, len(E) - 1) for E in tables]
        counts, device = split.train_counts(), tables[0].device
        self._rarity = rarity(counts, 1.0).to(device)
        self._rare = emphasis(counts, 1.0).to(device) - 1
        cold, _ = cold_and_warm_items(split, config.rare_share)
        self._blocks = self._sample.blocks(max(1, _SCORES_AT_A_TIME // split.dataset.n_items))
        self._is_rare = torch.from_numpy(cold[self._sample.targets]).to(device)

    @property
    def blocks(self) -> int:
        """Steps that each choice of weights takes."""
        return len(self._blocks)

    def figures(
        self, weights: Sequence[tuple[float, float, float]], step: Callable[[int], None]
    ) -> list[tuple[float, float]]:
        """NDCG@10 of all users and NDCG@100 of rare targets, for each (share of the second model, λ, β)."""
        # One place for all: many small results between large ones that are freed would keep those from the next.
        ranks = torch.empty((len(weights), len(self._is_rare)), dtype=torch.int64, device=self._is_rare.device)
        for block in self._blocks:
            first, second = (
                scale * x[block] @ E.T for scale, x, E in zip(self.scales, self._users, self._items, strict=True)
            )
            total = torch.empty_like(first)
            for row, (share, weight, more) in zip(ranks, weights, strict=True):
                torch.mul(first, 1 - share, out=total)
                total.addcmul_(second, 1 + more * self._rare, value=share)
                total.add_(self._rarity, alpha=weight)
                row[block] = self._sample.ranks(total, block)
                step(1)
        return [self._of(row) for row in ranks]

    def _of(self, ranks: Int[Tensor, " users"]) -> tuple[float, float]:
        rare = ranks[self._is_rare]
        return float(gains(ranks, 10).mean()), float(gains(rare, _RARE_DEPTH).mean()) if len(rare) else 0.0


def _middle_of_the_best(figures: dict[float, float]) -> float:
    """The middle of equals, as the figures are those of a sample; the lower one of two."""
    best = sorted(tried for tried, value in figures.items() if value == max(figures.values()))
    return best[(len(best) - 1) // 2]
