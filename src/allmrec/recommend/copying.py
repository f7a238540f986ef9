"""A start of stage 2: the projections learn to have the language model copy, before anybody's taste comes in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from allmrec.core.config import Config
from allmrec.core.seeding import numpy_generator, torch_generator

if TYPE_CHECKING:  # the ranker is the caller's
    from allmrec.recommend.prompted import PromptedRanker

__all__ = ["CopyingBatch", "CopyingConfig", "CopyingTask"]

# Items that the first prompts have, and the share of the steps over which they grow to all.
_FIRST, _GROWTH = 4, 0.5


class CopyingConfig(Config):
    """Copying before recommending (ours).

    The user's slot gets the CF vector of one of the listed items, with noise, through F_U, and the answer is that item's
    title. That is the task of a user who wants the item that they are nearest to, without the doubt which one it is; every
    listed item is an answer once, so a step has as many samples as items. For prompts of the form `copy`
    (`PromptTemplate.is_shared`) with user and item slots; of others it does nothing.
    """

    steps: int = Field(0, ge=0, description="Steps of copying before the samples; 0: none (paper).")
    learning_rate: float = Field(2e-3, gt=0, description="Adam's step size of these steps; all else as in `training`.")
    items: int = Field(20, ge=2, description="Items of a step's list, each the answer once; they grow from 4.")
    noise: float = Field(
        1.0,
        ge=0,
        description="Noise on the CF vector, in standard deviations of a component over the items, so that being near an item "
        "is enough.",
    )


@dataclass(frozen=True)
class CopyingBatch:
    """A list of items, and noise for each of their CF vectors in standard deviations."""

    items: Int[np.ndarray, " items"]
    noise: Tensor


class CopyingTask:
    """What `fit` needs: seeded lists and the title loss.

    Args:
        ranker: whose projections learn.
        config: how much.
        n_items: items of the catalogue.
        seed: names every draw.
    """

    def __init__(self, ranker: PromptedRanker, config: CopyingConfig, n_items: int, seed: int) -> None:
        self._ranker, self._config, self._n_items, self._seed = ranker, config, n_items, seed

    def batches(self, epoch: int) -> Sequence[CopyingBatch]:
        config = self._config
        rng = numpy_generator(self._seed, "copying", epoch)
        generator = torch_generator(self._seed, "copying noise", epoch)
        most = min(config.items, self._n_items)
        least = min(_FIRST, most)
        drawn = []
        for step in range(config.steps):
            grown = min(1.0, step / (_GROWTH * config.steps))
            size = round(least * (most / least) ** grown)
            items = 1 + rng.choice(self._n_items, size=size, replace=False)
            noise = torch.randn(size, self._ranker.backbone.dim, generator=generator)
            drawn.append(CopyingBatch(items, config.noise * noise))
        return drawn

    def losses(self, batch: CopyingBatch) -> Mapping[str, Tensor]:
        return {"copying": self._ranker.copying_loss(batch.items, batch.noise)}

    def validate(self) -> Mapping[str, float]:
        return {}
