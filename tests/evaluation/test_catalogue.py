"""Evaluating by the whole catalogue: ranks worked out by hand, faulty answers refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from allmrec.core.errors import DataError
from allmrec.data.splitting import Split
from allmrec.evaluation.catalogue import evaluate_recommenders
from allmrec.evaluation.protocol import draw_protocol
from allmrec.ranking import Query, Ranking
from allmrec.recommend.recommender import Recommender
from allmrec.recommend.retrieve import AllItems

from .conftest import Scored


def of_every_item(system: Scored, split: Split) -> Recommender:
    return Recommender(split.dataset, system, AllItems(split.dataset.n_items))


def test_the_oracle_is_first_and_the_fool_is_nowhere(split: Split, oracle: Scored, fool: Scored) -> None:
    systems = [of_every_item(system, split) for system in (oracle, fool)]
    report = evaluate_recommenders(systems, draw_protocol(split), split, reference="Fool")
    assert {m.value for m in report.by_name["Oracle"].metrics.values()} == {1.0}
    assert {m.value for m in report.by_name["Fool"].metrics.values()} == {0.0}
    assert report.by_name["Fool"].ranks == (None,) * 30
    assert report.n_candidates == split.dataset.n_items


def test_ranks_are_a_plain_sort_of_all_unseen_items(split: Split) -> None:
    def score(query: Query, item: int) -> float:
        return float((item * 31 + query.user * 17) % 41)  # 40 items, no ties

    protocol = draw_protocol(split)
    report = evaluate_recommenders([of_every_item(Scored("S", score), split)], protocol, split, batch_size=7)
    for user, rank in zip(report.systems[0].users, report.systems[0].ranks, strict=True):
        query = Query(split.test_history(user), user)
        target = int(split.test[user])
        unseen = [i for i in range(1, 41) if i not in query.history.tolist() or i == target]
        place = sorted(unseen, key=lambda item: -score(query, item)).index(target) + 1
        assert rank == (place if place <= 10 else None)


def test_equal_scores_are_in_no_particular_items_favour(split: Split, constant: Scored) -> None:
    report = evaluate_recommenders([of_every_item(constant, split)], draw_protocol(split), split)
    # 10 of 35 unseen places; 30 users, so five standard errors are 0.41.
    assert report.systems[0].metrics["Hit@10"].value == pytest.approx(10 / 35, abs=0.41)


class Faulty:
    name = "Faulty"

    def __init__(self, answer) -> None:
        self._answer = answer

    def top(self, queries: Sequence[Query], exclude: Sequence[np.ndarray], k: int) -> list[Ranking]:
        found = [np.asarray(self._answer(seen, k)) for seen in exclude]
        return [Ranking(items, np.zeros(len(items))) for items in found]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda seen, k: np.arange(1, k + 2), "at most 10"),
        (lambda seen, k: [7, 7], "different"),
        (lambda seen, k: seen[:1], "left out"),
    ],
)
def test_faulty_answers_are_refused(split: Split, answer, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_recommenders([Faulty(answer)], draw_protocol(split), split)
