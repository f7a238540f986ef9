"""Popularity: counts training interactions, nothing else."""

from __future__ import annotations

import numpy as np

from allmrec.baselines.popularity import Popularity
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import leave_one_out
from allmrec.ranking import Query, Ranker

# Training parts are everything but the last two: a a b / a c. Outside training c comes up four times and must not count.
SEQUENCES = {"u": list("aabcc"), "v": list("accc"), "w": list("d")}


def system() -> tuple[Popularity, InteractionDataset]:
    dataset = InteractionDataset.from_sequences(SEQUENCES, items=list("abcde"))
    return Popularity.of(leave_one_out(dataset)), dataset


def test_ranks_by_training_counts_and_keeps_the_order_of_ties() -> None:
    popularity, dataset = system()
    assert isinstance(popularity, Ranker)
    rows = [np.array([dataset.items.number(i) for i in row], dtype=np.int32) for row in ("ebca", "cbda", "dbc")]
    rankings = popularity.rank([Query(np.zeros(0, dtype=np.int32))] * 3, rows)
    # a 3, then b, c, d once each in the order given, then e never.
    assert ["".join(dataset.items.id(int(i)) for i in r.items) for r in rankings] == ["abce", "acbd", "dbc"]
    assert rankings[0].scores.tolist() == [3.0, 1.0, 1.0, 0.0]


def test_who_asks_makes_no_difference() -> None:
    popularity, _ = system()
    row = np.array([5, 2, 1], dtype=np.int32)
    queries = [Query(np.array([2, 2, 2], dtype=np.int32), 0), Query(np.zeros(0, dtype=np.int32))]
    first, second = popularity.rank(queries, [row, row])
    assert first.items.tolist() == second.items.tolist() == [1, 2, 5]
