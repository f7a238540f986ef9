"""Figures over seeds and users, verdicts on claims, the paper's figures beside ours."""

from __future__ import annotations

from itertools import product
from typing import Literal

import numpy as np
import pytest

from allmrec.core.errors import ConfigError, DataError
from allmrec.core.seeding import numpy_generator
from allmrec.data.provenance import Summary
from allmrec.evaluation.intervals import Estimate, bootstrap_mean
from allmrec.experiments.answers import Ranks, Words, any_named, genre_metrics, lost, metric_names
from allmrec.experiments.cells import Cell
from allmrec.experiments.joined import joined_mean
from allmrec.experiments.paper import nearest_set, paper_figure, paper_sets
from allmrec.experiments.plan import Claim, load_plan, plan_names
from allmrec.experiments.results import AskedUsers, CellResult
from allmrec.experiments.tables import Row, claimed, table_kinds, verdict


def test_a_joined_mean_is_the_mean_over_both() -> None:
    found = joined_mean(np.array([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]), "x")
    assert found.value == 5 / 8
    assert found.low < found.value < found.high
    with pytest.raises(DataError, match="no users"):
        joined_mean(np.zeros((2, 0)), "x")


def test_with_one_seed_the_interval_is_that_over_users() -> None:
    values = (np.random.default_rng(0).random(500) < 0.3).astype(float)
    found, plain = joined_mean(values[None], "x"), bootstrap_mean(values, numpy_generator(0, "y"))
    assert found.value == plain.value
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.006)


def test_seeds_that_differ_widen_the_interval() -> None:
    """Users all alike, seeds 0.2 and 0.6: of four equally likely draws of two seeds the outer ones are a quarter each."""
    found = joined_mean(np.array([[0.2] * 50, [0.6] * 50]), "x")
    means = sorted(np.mean(draw) for draw in product((0.2, 0.6), repeat=2))
    assert (found.low, found.value, found.high) == pytest.approx((means[0], 0.4, means[-1]))


def test_a_joined_mean_equals_drawing_users_one_by_one() -> None:
    """The shortcut over kinds of users has the spread of the plain way."""
    rng = np.random.default_rng(1)
    values = (rng.random((3, 200)) < np.array([[0.2], [0.3], [0.25]])).astype(float)
    plain = []
    for _ in range(2000):
        users, seeds = rng.integers(0, 200, 200), rng.integers(0, 3, 3)
        plain.append(values[seeds][:, users].mean())
    low, high = np.quantile(plain, [0.025, 0.975])
    found = joined_mean(values, "x")
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.012)


@pytest.mark.parametrize(
    ("says", "low", "high", "expected"),
    [
        ("above", 0.01, 0.03, "holds"),
        ("above", -0.01, 0.03, "not shown"),
        ("above", 0.0, 0.0, "not shown"),
        ("above", -0.03, -0.01, "does not hold"),
        ("equal", -0.01, 0.015, "holds"),
        ("equal", -0.03, 0.01, "not shown"),
        ("equal", 0.03, 0.05, "does not hold"),
        ("equal", -0.05, -0.03, "does not hold"),
        ("not above", -0.05, 0.01, "holds"),
        ("not above", -0.01, 0.03, "not shown"),
        ("not above", 0.03, 0.05, "does not hold"),
    ],
)
def test_what_an_interval_says_of_a_claim(
    says: Literal["above", "equal", "not above"], low: float, high: float, expected: str
) -> None:
    claim = Claim(text="a is better", better="a", than="b", says=says, margin=0.02)
    assert verdict(claim, Estimate((low + high) / 2, low, high)) == expected


def row(ranks: dict[int, list[int]], groups: dict[str, list[bool]] | None = None) -> Row:
    """A row of a few users, by seed; -1 is a miss, 0 was not asked."""
    n = len(next(iter(ranks.values())))
    masks = {name: np.array(mask) for name, mask in (groups or {"all users": [True] * n}).items()}
    cells = [
        CellResult(
            Cell("d", "s", seed, "base", "x"),
            {"costs": {}, "users_per_second": 2.0},
            Ranks(np.array(own, dtype=np.int16)),
        )
        for seed, own in ranks.items()
    ]
    return Row("x", "X", cells, AskedUsers(np.arange(n), np.arange(1, n + 1), masks))


def test_figures_of_a_row_by_hand() -> None:
    found = row({0: [1, 2, -1, 0], 1: [1, 1, -1, 0]}, {"all users": [True] * 4, "cold": [False, True, True, False]})
    hit, ndcg = found.figure("Hit@1", "all users"), found.figure("NDCG@10", "cold")
    assert hit is not None
    assert hit.value == pytest.approx((2 + 1) / 6)  # the fourth was not asked
    assert ndcg is not None
    assert ndcg.value == pytest.approx((1 / np.log2(3) + 1) / 4)
    assert found.cost("users_per_second") == 2.0
    assert found.cost("train_seconds") is None


def test_differences_are_paired_by_seed_and_user() -> None:
    """Only seed 0 is there of both, and only the first two users were asked of both."""
    mine, theirs = row({0: [1, 1, 1], 1: [2, 2, 2]}), row({0: [2, 1, 0], 5: [1, 1, 1]})
    found = mine.less(theirs, "Hit@1", "all users")
    assert found is not None
    assert found.value == 0.5
    times = mine.less(theirs, "Hit@1", "all users", times=1.5)
    assert times is not None
    assert times.value == pytest.approx(1 - 0.75)
    assert mine.less(row({7: [1, 1, 1]}), "Hit@1", "all users") is None


def test_what_is_lost_by_shuffling_by_hand() -> None:
    """First and second place before; second and not in the answer after. The third user was not asked."""
    found = Ranks(np.array([1, 2, 0], dtype=np.int16), np.array([2, -1, 0], dtype=np.int16))
    assert found.answered.tolist() == [True, True, False]
    assert found.values(lost("Hit@1"))[:2].tolist() == [1, 0]
    assert found.values(lost("MRR"))[:2].tolist() == [1 / 2, 1 / 2]
    assert lost("NDCG@10") in found.metrics
    plain = Ranks(found.ranks)
    assert plain.metrics == metric_names("candidates", order_test=False)
    with pytest.raises(DataError, match="give no 'MRR lost by shuffling'"):
        plain.values(lost("MRR"))


def test_a_claim_about_a_figure_itself() -> None:
    """Compared with 0: three of four users lose their first place when histories are shuffled."""
    n = 40
    ranks = Ranks(np.ones(n, dtype=np.int16), np.array([2, 2, 2, 1] * (n // 4), dtype=np.int16))
    mine = Row("x", "X", [CellResult(Cell("d", "s", 0, "base", "x"), {}, ranks)], row({0: [1] * n}).asked)
    claim = Claim(text="it reads the order", better="x", metric=lost("Hit@1"))
    found = claimed(claim, {"x": mine}, ["all users"])
    assert found is not None
    assert (found.verdict, found.difference.value, found.users, found.seeds) == ("holds", 0.75, n, 1)
    assert claimed(claim, {}, ["all users"]) is None


def test_tables_of_a_plan() -> None:
    """One a group of users; where genres are asked for, one a question."""
    order = load_plan("ours-order")
    (only,) = table_kinds(order, ["all users"])
    assert [metric for _, metric in only.more] == ["NDCG@10", "MRR", lost("Hit@1"), lost("NDCG@10")]
    cold = table_kinds(load_plan("table4"), ["all users", "cold items", "warm items"])
    assert [kind.title for kind in cold] == ["all users", "cold items", "warm items"]
    genres = table_kinds(load_plan("figures4-5"), ["all users"])
    assert [kind.title for kind in genres] == ["genres of the item", "genres of the next item", "genres of the history"]
    assert genres[0].metric == genre_metrics("genres of the item")[1]
    assert genres[0].before == (("answers that name any", any_named("genres of the item")),)


def test_an_answer_that_names_no_genre_is_counted() -> None:
    """Of words that were kept before as well: how many genres each answer names stands with them."""
    scores = {"genres of the item, named": np.array([0.0, 2.0, 1.0, 0.0]), "genres of the item": np.zeros(4)}
    words = Words(scores, [""] * 4, [""] * 4)
    assert words.values(any_named("genres of the item")).tolist() == [0, 1, 1, 0]
    assert any_named("genres of the item") in words.metrics
    assert any_named("genres of the history") not in words.metrics


def test_claims_about_genres_are_all_about_one_measure() -> None:
    """Precision alone, and precision less the base rate, say opposite things of a system that names much."""
    assert all(claim.metric.endswith(", above base rate") for claim in load_plan("figures4-5").claims)


@pytest.mark.parametrize("name", plan_names())
def test_plans_of_the_papers_tables_say_whose_their_claims_are(name: str) -> None:
    plan = load_plan(name)
    assert {claim.whose for claim in plan.claims} >= ({"ours"} if name.startswith("ours") else {"paper"})
    assert not name.startswith("ours") or {claim.whose for claim in plan.claims} == {"ours"}


def test_the_papers_figures_stand_beside_the_nearest_set() -> None:
    assert paper_figure("table4", "SASRec", "cold items", "Beauty") == 0.119
    assert paper_figure("table6", "A-LLMRec", "K=128", "Video Games") == 0.1608
    assert paper_figure("table1", "SASRec", "all users", "Nowhere") is None
    assert paper_sets("table5") == ["Movies and TV", "Video Games", "Beauty"]
    size = Summary(
        users=9000,
        items=6000,
        interactions=60000,
        average_length=6.5,
        density=0.1,
        items_without_title=0,
        items_without_description=0,
    )
    assert nearest_set(size, paper_sets("table1")) == "Beauty"
    with pytest.raises(ConfigError, match="no figures of 'table99'"):
        paper_sets("table99")


@pytest.mark.parametrize("name", plan_names())
def test_a_plan_of_the_package_names_figures_that_the_paper_has(name: str) -> None:
    plan = load_plan(name)
    if plan.paper is not None:
        groups = {"cold items", "warm items", "all users", *plan.paper.scenarios.values()}
        for of in plan.paper.rows.values():
            sets = paper_sets(plan.paper.table)
            assert any(
                paper_figure(plan.paper.table, of, group, data) is not None for group in groups for data in sets
            ), of
