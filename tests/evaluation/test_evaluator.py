"""Evaluating: known systems get known figures, limits and faulty answers are dealt with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from allmrec.core.errors import ArtifactError, ConfigError, DataError
from allmrec.data.splitting import Split
from allmrec.evaluation.evaluator import evaluate_rankers
from allmrec.evaluation.protocol import draw_protocol
from allmrec.evaluation.report import Pair
from allmrec.ranking import Query, Ranking

from .conftest import Scored, world


class Faulty:
    """Answers with whatever it is given."""

    name = "Faulty"

    def __init__(self, answer) -> None:
        self._answer = answer

    def rank(self, queries: Sequence[Query], candidates: Sequence[np.ndarray]) -> list[Ranking]:
        return [
            Ranking(items, np.zeros(len(items)))
            for items in (np.asarray(self._answer(c), np.int32) for c in candidates)
        ]


def test_known_systems_get_known_figures(split: Split, oracle: Scored, fool: Scored) -> None:
    report = evaluate_rankers([oracle, fool], draw_protocol(split, n_candidates=4), split, reference="Fool")
    best, worst = report.by_name["Oracle"], report.by_name["Fool"]
    assert {name: e.value for name, e in best.metrics.items()} == dict.fromkeys(best.metrics, 1.0)
    assert {name: e.value for name, e in worst.metrics.items()} == pytest.approx(
        # Always fourth of four: 1 / log2(5) within the first five.
        {"Hit@1": 0, "Hit@5": 1, "NDCG@5": 1 / np.log2(5), "Hit@10": 1, "NDCG@10": 1 / np.log2(5), "MRR": 1 / 4}
    )
    difference = report.difference("Oracle")
    assert difference is not None
    assert (difference.estimate.value, difference.estimate.low, difference.n_users) == (1.0, 1.0, 30)
    assert report.difference("Fool") is None
    assert report.difference("Oracle", "MRR").estimate.value == pytest.approx(3 / 4)


def test_a_system_that_cannot_tell_gets_chance_and_no_more(constant: Scored) -> None:
    split = world(n_users=2000, n_items=60)
    report = evaluate_rankers([constant], draw_protocol(split), split)
    # One in twenty; five standard errors of sqrt(0.05 * 0.95 / 2000) = 0.0049.
    assert report.systems[0].metrics["Hit@1"].value == pytest.approx(0.05, abs=0.0244)


def test_a_report_says_by_which_code_it_was_made(split: Split, oracle: Scored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLMREC_COMMIT", "1234567")
    assert evaluate_rankers([oracle], draw_protocol(split), split).git_commit == "1234567"


def test_ranks_belong_to_their_users_whatever_the_batches(split: Split) -> None:
    def score(query: Query, item: int) -> float:
        return float((item * 31 + query.user * 17) % 23)

    protocol = draw_protocol(split)
    reports = [evaluate_rankers([Scored("S", score)], protocol, split, batch_size=size) for size in (1, 7, 64)]
    assert reports[0].systems[0].ranks == reports[1].systems[0].ranks == reports[2].systems[0].ranks
    for user, rank, target, row in zip(
        reports[0].systems[0].users,
        reports[0].systems[0].ranks,
        protocol.targets.tolist(),
        protocol.candidates.tolist(),
        strict=True,
    ):
        own = score(Query(np.zeros(0, np.int32), user), target)
        scores = [score(Query(np.zeros(0, np.int32), user), item) for item in row]
        before = sum(s > own for s in scores) + sum(s == own for s in scores[: row.index(target)])
        assert rank == before + 1


def test_a_slow_system_is_asked_about_the_first_users_and_compared_on_them(
    split: Split, oracle: Scored, constant: Scored
) -> None:
    protocol = draw_protocol(split)
    report = evaluate_rankers(
        [constant, oracle],
        protocol,
        split,
        {"Oracle": 10},
        reference="Constant",
        notes={"Oracle": "decodes titles"},
        batch_size=4,
    )
    result = report.by_name["Oracle"]
    assert oracle.asked == [4, 4, 2]
    assert result.users == tuple(protocol.users[:10].tolist())
    assert result.note == "decodes titles"
    assert report.by_name["Constant"].n_users == 30
    difference = report.difference("Oracle")
    assert difference is not None
    assert difference.n_users == 10
    common = [rank == 1 for rank in report.by_name["Constant"].ranks[:10]]
    assert difference.estimate.value == pytest.approx(1 - np.mean(common))


def test_a_pair_is_compared_beside_the_reference(split: Split, oracle: Scored, constant: Scored, fool: Scored) -> None:
    protocol = draw_protocol(split, n_candidates=4)
    pair = Pair("What knowing adds", "Oracle", "Fool")
    report = evaluate_rankers(
        [constant, oracle, fool], protocol, split, {"Oracle": 12}, reference="Constant", pairs=[pair]
    )
    assert [(p.title, p.system, p.against) for p in report.pairs] == [("What knowing adds", "Oracle", "Fool")]
    difference = report.pairs[0].differences[0]
    assert (difference.metric, difference.estimate.value, difference.n_users) == ("Hit@1", 1.0, 12)
    assert {d.reference for d in report.differences} == {"Constant"}


def test_a_limit_above_the_protocol_changes_nothing(split: Split, oracle: Scored) -> None:
    assert evaluate_rankers([oracle], draw_protocol(split), split, {"Oracle": 1000}).systems[0].n_users == 30


def test_an_answer_without_the_target_is_a_miss(split: Split) -> None:
    result = evaluate_rankers([Faulty(lambda row: [])], draw_protocol(split), split).systems[0]
    assert result.ranks == (None,) * 30
    assert all(estimate.value == 0 for estimate in result.metrics.values())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda row: [*row, 1000], "ranked item 1000, which was no candidate"),
        (lambda row: [*row, row[0]], "ranked an item twice"),
    ],
)
def test_an_answer_with_more_than_was_asked_is_refused(split: Split, answer, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_rankers([Faulty(answer)], draw_protocol(split), split)


def test_a_missing_answer_is_refused(split: Split) -> None:
    class Silent(Scored):
        def rank(self, queries: Sequence[Query], candidates: Sequence[np.ndarray]) -> list[Ranking]:
            return super().rank(queries, candidates)[1:]

    with pytest.raises(DataError, match="29 rankings for 30 queries"):
        evaluate_rankers([Silent("Silent", lambda query, item: 0.0)], draw_protocol(split), split)


def test_what_cannot_be_evaluated_is_refused(split: Split, oracle: Scored) -> None:
    protocol = draw_protocol(split)
    with pytest.raises(ConfigError, match="share a name"):
        evaluate_rankers([oracle, oracle], protocol, split)
    with pytest.raises(ConfigError, match="'Orakel'; expected one of Oracle"):
        evaluate_rankers([oracle], protocol, split, {"Orakel": 5})
    with pytest.raises(ConfigError, match="pair of systems has 'Orakel'; expected one of Oracle"):
        evaluate_rankers([oracle], protocol, split, pairs=[Pair("What", "Oracle", "Orakel")])
    with pytest.raises(ConfigError, match="limited to 0 users"):
        evaluate_rankers([oracle], protocol, split, {"Oracle": 0})
    with pytest.raises(ConfigError, match="1 must be among them"):
        evaluate_rankers([oracle], protocol, split, ks=(5,))
    with pytest.raises(ArtifactError, match="belongs to the data set"):
        evaluate_rankers([oracle], protocol, world(seed=1))
