"""Candidates from the whole catalogue, by the CF model's own scores; knows no language model."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int

from allmrec.cf.recommender import query_batch
from allmrec.core.errors import ConfigError
from allmrec.ranking import Query
from allmrec.recommend.prompted import PromptedRanker

__all__ = ["retrieve"]


def retrieve(
    ranker: PromptedRanker, query: Query, count: int, exclude: Int[np.ndarray, " seen"]
) -> Int[np.ndarray, " count"]:
    """The `count` items with the highest x_u · E_i, best first.

    Raises:
        ConfigError: fewer items are left than were asked for.
    """
    with torch.no_grad():
        state = ranker.prior.user_vectors(query_batch([query], ranker.prior.max_length))[0]
        scores = ranker.prior.item_vectors() @ state
    scores[0] = -torch.inf
    scores[torch.from_numpy(np.unique(exclude).astype(np.int64)).to(scores.device)] = -torch.inf
    left = int(torch.isfinite(scores).sum())
    if left < count:
        raise ConfigError(f"{count} candidates were asked for, but only {left} items are unseen. Ask for fewer.")
    return torch.topk(scores, count).indices.cpu().numpy()
