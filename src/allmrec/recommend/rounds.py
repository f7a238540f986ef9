"""More candidates than a prompt holds, ranked in rounds, and their scores put on one scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

from allmrec.core.errors import ConfigError
from allmrec.ranking import Query, Ranking

__all__ = ["rank_in_rounds"]

Rank = Callable[[Sequence[Query], Sequence[Int[np.ndarray, " _candidates"]]], list[Ranking]]


@dataclass
class _Contest:
    """One query's way through the rounds.

    Attributes:
        left: items that are still in, the order of the round before.
        rounds: of each round but the last, the prompts' rankings and the items that left, best first.
    """

    left: list[int]
    rounds: list[tuple[list[Ranking], list[int]]] = field(default_factory=list)


def rank_in_rounds(
    rank: Rank, queries: Sequence[Query], retrieved: Sequence[Int[np.ndarray, " _retrieved"]], size: int
) -> list[Ranking]:
    """Rank any number of candidates for each query with prompts of at most `size`; a round asks for all queries at once.

    In each round a query's candidates, in the order in which they stand, are dealt out in turn to as few groups as will
    hold them, each group is ranked in a prompt of its own, and the better half of each goes on, in the order of
    their places. What fits one group is the last round. Who went further stands higher; those who left in the same
    round stand in the order of their places, and of equals the one that was retrieved earlier comes first.

    Scores of different prompts have different origins. The scale of an answer is that of its last prompt. An earlier
    prompt is moved onto it by the mean difference of the items that it shares with later ones, and no item's score
    exceeds that of the item before it. So scores are in order; between items of different prompts they are as exact
    as one common shift makes them.

    Args:
        rank: ranks several queries' candidates at once, and leaves none out.
        queries: whom for.
        retrieved: item numbers of each query, the likeliest first.
        size: candidates that a prompt holds.

    Returns:
        For each query all of its `retrieved`.

    Raises:
        ConfigError: a prompt holds fewer than 2.
    """
    if size < 2:
        raise ConfigError(f"A prompt of {size} candidates cannot compare any; at least 2 are needed.")
    contests = [_Contest([int(item) for item in items]) for items in retrieved]
    while any(len(contest.left) > size for contest in contests):
        _play_round(rank, queries, contests, size)
    last = rank(queries, [np.asarray(contest.left, dtype=np.int64) for contest in contests])
    return [_together(contest, ranking) for contest, ranking in zip(contests, last, strict=True)]


def _play_round(rank: Rank, queries: Sequence[Query], contests: Sequence[_Contest], size: int) -> None:
    """One round of all queries whose candidates do not fit one prompt."""
    asked: list[Query] = []
    dealt: list[Int[np.ndarray, " _dealt"]] = []
    counts: list[tuple[_Contest, int]] = []
    for query, contest in zip(queries, contests, strict=True):
        if len(contest.left) > size:
            groups = -(-len(contest.left) // size)
            counts.append((contest, groups))
            asked += [query] * groups
            dealt += [np.asarray(contest.left[number::groups], dtype=np.int64) for number in range(groups)]
    rankings = iter(rank(asked, dealt))
    for contest, groups in counts:
        ranked = [next(rankings) for _ in range(groups)]
        earlier = {item: place for place, item in enumerate(contest.left)}
        places = {int(item): place for ranking in ranked for place, item in enumerate(ranking.items)}
        ordered = sorted(contest.left, key=lambda item: (places[item], earlier[item]))
        halves = {int(item) for ranking in ranked for item in ranking.items[: -(-len(ranking.items) // 2)]}
        contest.rounds.append((ranked, [item for item in ordered if item not in halves]))
        contest.left = [item for item in ordered if item in halves]


def _together(contest: _Contest, last: Ranking) -> Ranking:
    """One ranking of all rounds, its scores on the last one's scale."""
    order = [int(item) for item in last.items]
    scores = {int(item): float(score) for item, score in zip(last.items, last.scores, strict=True)}
    for ranked, left in reversed(contest.rounds):
        for ranking in ranked:
            own = {int(item): float(score) for item, score in zip(ranking.items, ranking.scores, strict=True)}
            # At least half of a prompt went on, so there is one that later prompts scored.
            shift = float(np.mean([scores[item] - own[item] for item in own if item in scores]))
            scores |= {item: score + shift for item, score in own.items() if item not in scores}
        order += left
    values = np.minimum.accumulate(np.asarray([scores[item] for item in order], dtype=np.float32))
    return Ranking(np.asarray(order, dtype=np.int64), values)
