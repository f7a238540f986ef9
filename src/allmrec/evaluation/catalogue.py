"""Judging by the whole catalogue instead of a few candidates; knows of the systems only how to ask."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int

from allmrec.core.errors import DataError
from allmrec.core.progress import progress_bar
from allmrec.core.seeding import numpy_generator
from allmrec.data.splitting import Split
from allmrec.evaluation.judging import Note, assemble
from allmrec.evaluation.metrics import target_ranks
from allmrec.evaluation.protocol import EvaluationProtocol
from allmrec.evaluation.report import Report
from allmrec.ranking import Query, Ranking, Recommender

__all__ = ["CatalogueRecommender", "EveryItem", "judge_catalogue"]


@runtime_checkable
class CatalogueRecommender(Protocol):
    """Anything that can name the best of the whole catalogue, in one stage or two."""

    @property
    def name(self) -> str:
        """The system's name as it stands in a table."""
        ...

    def top(self, queries: Sequence[Query], exclude: Sequence[Int[np.ndarray, " _seen"]], k: int) -> list[Ranking]:
        """The best `k` of all items but the excluded, for each query."""
        ...


class EveryItem:
    """A recommender that is cheap enough to be handed every item as a candidate.

    Args:
        recommender: ranks.
        n_items: how many items there are.
        seed: of the order in which items are handed over, which decides between equal scores.
    """

    def __init__(self, recommender: Recommender, n_items: int, seed: int = 0) -> None:
        self._recommender = recommender
        self._order = numpy_generator(seed, "catalogue order").permutation(n_items) + 1

    @property
    def name(self) -> str:
        return self._recommender.name

    def top(self, queries: Sequence[Query], exclude: Sequence[Int[np.ndarray, " _seen"]], k: int) -> list[Ranking]:
        candidates = [self._order[~np.isin(self._order, seen)] for seen in exclude]
        return [Ranking(r.items[:k], r.scores[:k]) for r in self._recommender.rank(queries, candidates)]


def judge_catalogue(
    systems: Sequence[CatalogueRecommender],
    protocol: EvaluationProtocol,
    split: Split,
    users_limit: Mapping[str, int] | None = None,
    *,
    reference: str = "SASRec",
    notes: Mapping[str, Note] | None = None,
    ks: Sequence[int] = (1, 5, 10),
    batch_size: int = 16,
    device: str = "cpu",
    command: str | None = None,
    git_commit: str | None = None,
) -> Report:
    """Hit@k and NDCG@k where every item that the user has not met competes with the target.

    Only the first `max(ks)` places are looked at; MRR too counts a target below them as missed. The target competes even
    where the user met it before.

    Args and errors: those of `judge`; of the protocol, users and targets count and candidates do not.
    """
    return assemble(
        {system.name: partial(_ask, system, max(ks)) for system in systems},
        [system.name for system in systems],
        protocol,
        split,
        users_limit,
        reference=reference,
        notes=notes,
        ks=ks,
        batch_size=batch_size,
        device=device,
        command=command,
        git_commit=git_commit,
        n_candidates=split.dataset.n_items,
        scenario=f"{len(protocol):,} users, the whole catalogue, first {max(ks)} places",
    )


def _ask(
    system: CatalogueRecommender, k: int, protocol: EvaluationProtocol, queries: Sequence[Query], batch_size: int
) -> tuple[Float64[np.ndarray, " users"], float]:
    """The target's rank for each query, infinity below the first k, and the seconds that the system itself took."""
    ranks = np.full(len(queries), np.inf)
    seconds = 0.0
    with progress_bar(f"Whole catalogue with {system.name}", len(queries)) as bar:
        for start in range(0, len(queries), batch_size):
            batch = queries[start : start + batch_size]
            targets = protocol.targets[start : start + len(batch)]
            exclude = [np.setdiff1d(q.history, [target]) for q, target in zip(batch, targets, strict=True)]
            begun = time.perf_counter()
            rankings = system.top(batch, exclude, k)
            seconds += time.perf_counter() - begun
            _check_answers(system.name, rankings, exclude, k)
            ranks[start : start + len(batch)] = target_ranks(rankings, targets)
            bar.advance(len(batch), f"Hit@{k} {float(np.mean(ranks[: start + len(batch)] <= k)):.3f}")
    return ranks, seconds


def _check_answers(name: str, rankings: Sequence[Ranking], exclude: Sequence[np.ndarray], k: int) -> None:
    """An answer has at most k different items, none of them excluded."""
    if len(rankings) != len(exclude):
        raise DataError(f"{name} gave {len(rankings)} rankings for {len(exclude)} queries; expected one each.")
    for ranking, seen in zip(rankings, exclude, strict=True):
        if len(ranking.items) > k or len(np.unique(ranking.items)) < len(ranking.items):
            raise DataError(f"{name} gave {len(ranking.items)} items; expected at most {k} different ones.")
        if np.isin(ranking.items, seen).any():
            raise DataError(f"{name} recommended an item that was to be left out.")
