"""Candidates from the whole catalogue, by CF or joint vectors; knows no language model's inside."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int
from pydantic import Field

from allmrec.core.config import Config
from allmrec.core.errors import ConfigError
from allmrec.ranking import Query
from allmrec.recommend.item_index import ItemIndex, make_index, nearest
from allmrec.recommend.prompted import PromptedRanker

__all__ = ["RetrieveConfig", "Retriever", "interleaved"]


class RetrieveConfig(Config):
    """How candidates are proposed from the whole catalogue (ours; the paper ranks given candidates only)."""

    by: Literal["auto", "cf", "joint", "both"] = Field(
        "auto",
        description="cf: the CF model's scores. joint: likeness of joint vectors to the history's. both: in turn from "
        "each. auto: both where items without a CF vector were added, else cf.",
    )
    history: int = Field(10, ge=1, description="Latest items of the history that joint vectors are compared with.")
    approximate_above: int = Field(
        1_000_000, ge=1, description="Items above which an approximate index takes the place of the exact search."
    )


class Retriever:
    """Proposes candidates; its indexes are built when they are first needed.

    Args:
        ranker: gives the CF model that knows most (`prior`) and the joint vectors as they count now.
        config: by what to look.
    """

    def __init__(self, ranker: PromptedRanker, config: RetrieveConfig) -> None:
        self._ranker, self._config, self._joint_table = ranker, config, ranker.joint

    @property
    def by(self) -> Literal["cf", "joint", "both"]:
        """What `auto` comes to."""
        if self._config.by != "auto":
            return self._config.by
        return "both" if bool((~self._joint_table.has_cf[1:]).any()) else "cf"

    def propose(self, query: Query, count: int, exclude: Int[np.ndarray, " seen"]) -> Int[np.ndarray, " count"]:
        """The `count` most likely items, best first.

        Args:
            query: whom for.
            count: how many.
            exclude: item numbers to leave out.

        Raises:
            ConfigError: fewer items are left than were asked for.
        """
        exclude = np.unique(exclude).astype(np.int64)
        lists = []
        if self.by in ("cf", "both"):
            state = self._ranker.prior_states([query])[0].float().cpu().numpy()
            lists.append(nearest(self._cf, state, count, exclude))
        if self.by in ("joint", "both"):
            lists.append(nearest(self._joint, self._taste(query), count, exclude))
        found = interleaved(lists, count)
        if len(found) < count:
            raise ConfigError(
                f"{count} candidates were asked for, but only {len(found)} items are left to propose. Ask for fewer."
            )
        return found

    @cached_property
    def _cf(self) -> ItemIndex:
        prior = self._ranker.prior
        vectors = prior.item_vectors().detach().float().cpu().numpy()
        return make_index(vectors, np.arange(1, prior.n_items + 1), self._config.approximate_above)

    @cached_property
    def _likeness(self) -> Float32[np.ndarray, "rows joint"]:
        """Joint vectors less their mean, at length 1: they differ by little around a value that all share."""
        table = self._joint_table.vectors().float().cpu().numpy()
        centred = table - table[1:].mean(axis=0)
        scaled: Float32[np.ndarray, "rows joint"] = centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-12)
        scaled[0] = 0
        return scaled

    @cached_property
    def _joint(self) -> ItemIndex:
        rows = np.arange(1, len(self._likeness))
        return make_index(self._likeness, rows, self._config.approximate_above)

    def _taste(self, query: Query) -> Float32[np.ndarray, " joint"]:
        """The mean over the latest items; an empty history likes everything alike."""
        latest = query.history[-self._config.history :]
        mean: Float32[np.ndarray, " joint"] = self._likeness[latest].sum(axis=0) / max(1, len(latest))
        return mean


def interleaved(lists: Sequence[Int[np.ndarray, " _found"]], count: int) -> Int[np.ndarray, " found"]:
    """The first `count` different items, one from each list in turn."""
    taken: dict[int, None] = {}
    for place in range(max(map(len, lists), default=0)):
        for items in lists:
            if place < len(items) and len(taken) < count:
                taken.setdefault(int(items[place]))
    return np.fromiter(taken, dtype=np.int64, count=len(taken))
