"""More candidates than a prompt holds, ranked in rounds; knows of the ranking only how to ask for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from allmrec.core.errors import ConfigError
from allmrec.ranking import Query, Ranking

__all__ = ["rank_in_rounds"]

Rank = Callable[[Sequence[Query], Sequence[Int[np.ndarray, " _candidates"]]], list[Ranking]]


def rank_in_rounds(rank: Rank, query: Query, proposed: Int[np.ndarray, " proposed"], size: int) -> Ranking:
    """Rank any number of candidates with prompts of at most `size`.

    In each round the candidates, in the order in which they stand, are dealt out in turn to as few groups as will
    hold them, each group is ranked in a prompt of its own, and the better half of each goes on, in the order of
    their places. What fits one group is the last round. Who went further stands higher; those who left in the same
    round stand in the order of their places, and of equals the one that was proposed earlier comes first.

    Args:
        rank: ranks several queries' candidates at once.
        query: whom for.
        proposed: item numbers, the likeliest first.
        size: candidates that a prompt holds.

    Returns:
        All of `proposed`. Scores are from each item's last prompt and compare only within one.

    Raises:
        ConfigError: a prompt holds fewer than 2.
    """
    if size < 2:
        raise ConfigError(f"A prompt of {size} candidates cannot compare any; at least 2 are needed.")
    scores: dict[int, float] = {}
    behind: list[list[int]] = []
    left = [int(item) for item in proposed]
    while len(left) > size:
        groups = -(-len(left) // size)
        dealt = [np.asarray(left[number::groups], dtype=np.int64) for number in range(groups)]
        ranked = rank([query] * groups, dealt)
        for ranking in ranked:
            scores |= {int(i): float(s) for i, s in zip(ranking.items, ranking.scores, strict=True)}
        earlier = {item: place for place, item in enumerate(left)}
        places = {int(item): place for ranking in ranked for place, item in enumerate(ranking.items)}
        ordered = sorted(left, key=lambda item: (places[item], earlier[item]))
        halves = {int(item) for ranking in ranked for item in ranking.items[: -(-len(ranking.items) // 2)]}
        behind.append([item for item in ordered if item not in halves])
        left = [item for item in ordered if item in halves]
    last = rank([query], [np.asarray(left, dtype=np.int64)])[0]
    scores |= {int(i): float(s) for i, s in zip(last.items, last.scores, strict=True)}
    order = [int(item) for item in last.items] + [item for group in reversed(behind) for item in group]
    return Ranking(np.asarray(order, dtype=np.int64), np.asarray([scores[item] for item in order], dtype=np.float32))
