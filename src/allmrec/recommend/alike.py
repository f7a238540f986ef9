"""Queries whose prompts are of similar length, for one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

from allmrec.core.grouping import length_groups
from allmrec.ranking import Query
from allmrec.recommend.prompted import PromptedRanker

__all__ = ["prompts_alike"]


def prompts_alike(
    ranker: PromptedRanker, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]], size: int
) -> Iterator[list[int]]:
    """Numbers of queries in batches of at most `size`: as many candidates each, prompts of similar length."""
    if len(queries) != len(candidates):
        raise ValueError(f"{len(queries)} queries came with {len(candidates)} candidate sets; give one for each.")
    titles, shown = ranker.builder.titles, ranker.builder.history_shown
    counts = np.array([len(items) for items in candidates])
    lengths = np.array(
        [
            sum(len(titles[int(item)]) for item in (*items, *query.history[max(0, len(query.history) - shown) :]))
            for query, items in zip(queries, candidates, strict=True)
        ]
    )
    for count in np.unique(counts):
        rows = np.flatnonzero(counts == count)
        for group in length_groups(lengths[rows], largest=size):
            yield rows[group].tolist()
