"""Requests in ids and their answers: filters, unknown ids, batches, and scores in order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from allmrec.baselines.popularity import Popularity
from allmrec.core.errors import ConfigError, UnknownIdError
from allmrec.ranking import Query, Ranking, ranking_from_scores
from allmrec.recommend.recommender import Recommender
from allmrec.recommend.request import Request
from allmrec.recommend.retrieve import AllItems, RankerRetriever
from allmrec.testing.worlds import taste_world

WORLD = taste_world(users=30, tastes=3)
N = WORLD.n_items


class ByNumber:
    """Prefers high numbers, and counts how often it is asked."""

    name = "By number"

    def __init__(self) -> None:
        self.calls = 0

    def rank(self, queries: Sequence[Query], candidates: Sequence[np.ndarray]) -> list[Ranking]:
        self.calls += 1
        return [ranking_from_scores(items, items.astype(np.float32)) for items in candidates]


@pytest.fixture
def model() -> Recommender:
    return Recommender(WORLD, ByNumber(), AllItems(N))


def ids(*numbers: int) -> list[str]:
    return [WORLD.items.id(number) for number in numbers]


def test_a_batch_is_as_each_request_alone_and_asks_the_ranker_once(model: Recommender) -> None:
    requests = [Request(user=f"u{n}", k=5) for n in range(10)] + [Request(history=[], k=5)]
    together = model.recommend(requests)
    assert model._ranker.calls == 1  # type: ignore[attr-defined]  # the ranker of this file counts
    assert together == [model.recommend(user=r.user, history=r.history, k=5) for r in requests]
    for request, answer in zip(requests[:10], together, strict=False):
        seen = WORLD.sequence(WORLD.users.number(str(request.user))).tolist()
        wanted = [item for item in range(N, 0, -1) if item not in seen][:5]
        assert [item.item_id for item in answer] == ids(*wanted)


def test_requests_of_one_batch_may_differ_in_everything(model: Recommender) -> None:
    requests = [
        Request(history=ids(N), k=2),
        Request(history=ids(N), k=3, exclude_seen=False),
        Request(history=ids(1), k=3, allow=ids(1, 5, 9)),
        Request(history=ids(1), k=1, deny=ids(N, N - 1)),
        Request(history=[], k=2, candidates=20),
    ]
    found = [[item.item_id for item in answer] for answer in model.recommend(requests)]
    assert found == [ids(N - 1, N - 2), ids(N, N - 1, N - 2), ids(9, 5), ids(N - 2), ids(N, N - 1)]


def test_where_nothing_is_left_the_answer_is_empty(model: Recommender) -> None:
    empty, other = model.recommend([Request(history=ids(1), allow=ids(1)), Request(history=ids(1), k=1)])
    assert (len(empty), len(other)) == (0, 1)
    assert len(model.recommend(history=ids(*range(1, N + 1)))) == 0


def test_unknown_ids_fail_or_are_left_out_and_named(model: Recommender) -> None:
    for fields in ({"history": ["x"]}, {"history": [], "allow": ["x"]}, {"history": [], "deny": ["x"]}):
        with pytest.raises(UnknownIdError, match="'x'"):
            model.recommend(**fields)
    found = model.recommend(history=["x", *ids(2)], allow=["y", *ids(2, 3)], deny=["x"], unknown="skip")
    assert found.skipped == ("x", "y")
    assert [item.item_id for item in found] == ids(3)
    with pytest.raises(UnknownIdError, match="nobody"):
        model.recommend(user="nobody", unknown="skip")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "either a history or a user"),
        ({"history": ["i1"], "user": "u1"}, "either a history or a user"),
        ({"history": "i1"}, "The history is no list: found the text 'i1'"),
        ({"history": [], "deny": "i1"}, "The deny list is no list"),
        ({"history": [], "k": 0}, "k is 0"),
        ({"history": [], "k": 30, "candidates": 20}, "k is 30.*20 candidates"),
    ],
)
def test_a_request_that_nobody_can_answer_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Request(**fields)  # type: ignore[arg-type]  # what is wrong in them is the test


def test_what_a_ranker_does_not_know_is_no_part_of_a_history() -> None:
    asked: list[list[int]] = []

    class Noting(ByNumber):
        def rank(self, queries: Sequence[Query], candidates: Sequence[np.ndarray]) -> list[Ranking]:
            asked.extend(query.history.tolist() for query in queries)
            return super().rank(queries, candidates)

    model = Recommender(WORLD, Noting(), AllItems(N - 1), n_known=N - 1)
    model.recommend(history=ids(3, N, 4))
    assert asked == [[3, 4]]


def test_without_a_ranker_the_retrievers_order_and_scores_are_the_answer() -> None:
    model = Recommender(WORLD, None, RankerRetriever(ByNumber(), AllItems(N)), name="By number")
    assert model.name == "By number"
    found = model.recommend(history=ids(N), k=2)
    assert [(item.item_id, item.score) for item in found] == [(*ids(N - 1), N - 1.0), (*ids(N - 2), N - 2.0)]


@pytest.mark.parametrize("k", [5, 20, 36])
def test_scores_are_in_order_at_any_k(k: int) -> None:
    class ShiftedByPrompt(ByNumber):
        def rank(self, queries: Sequence[Query], candidates: Sequence[np.ndarray]) -> list[Ranking]:
            return [ranking_from_scores(c, c.astype(np.float32) % 7 - c.sum()) for c in candidates]

    model = Recommender(WORLD, ShiftedByPrompt(), AllItems(N), prompt_candidates=6)
    scores = [item.score for item in model.recommend(history=[], k=k)]
    assert len(scores) == k
    assert scores == sorted(scores, reverse=True)


def by_popularity(n_items: int) -> RankerRetriever:
    """The lower its number, the more popular an item."""
    return RankerRetriever(Popularity(np.array([0, *range(n_items, 0, -1)])), AllItems(n_items))


@pytest.fixture
def whole() -> Recommender:
    """With an answer for those of whom nothing is known."""
    return Recommender(WORLD, ByNumber(), AllItems(N), n_known=N - 5, popular=by_popularity)


def test_somebody_new_gets_popular_items_and_the_answer_says_so(whole: Recommender) -> None:
    requests = [
        Request(history=[], k=2),
        Request(history=ids(3), k=2),
        Request(history=["x"], k=2, unknown="skip"),
        Request(history=[], k=2, allow=ids(9, 8, 4), deny=ids(4)),
        Request(history=ids(N), k=2),
    ]
    found = whole.recommend(requests)
    assert [[item.item_id for item in answer] for answer in found] == [
        ids(1, 2),
        ids(N, N - 1),
        ids(1, 2),
        ids(8, 9),
        ids(1, 2),  # the ranker does not know the one item of the history
    ]
    assert [answer.answered_by for answer in found] == ["Popularity", "By number", *["Popularity"] * 3]
    note = "Nothing is known of a history, so the most popular items come."
    assert [answer.note for answer in found] == [note, "", *[note] * 3]
    assert found[2].skipped == ("x",)
    assert whole.top([Query(np.array([], dtype=np.int64))], [np.array([2])], 2)[0].items.tolist() == [1, 3]


def test_who_has_met_nearly_everything_gets_what_is_left_and_who_has_met_all_a_word(whole: Recommender) -> None:
    everything = ids(*range(1, N + 1))
    some, none, beyond = whole.recommend(
        [Request(history=everything[:-2], k=5), Request(history=everything, k=5), Request(history=[], k=N + 3)]
    )
    assert [item.item_id for item in some] == ids(N, N - 1)
    assert (some.answered_by, some.note) == ("By number", "2 of 5 items: no other was found that may be recommended.")
    assert (len(none), none.answered_by) == (0, "")
    assert none.note.startswith("No item is left to recommend")
    assert len(beyond) == N
    assert beyond.note.endswith(f"{N} of {N + 3} items: no other was found that may be recommended.")


def test_what_the_system_leaves_unanswered_comes_as_it_was_retrieved() -> None:
    class Silent(ByNumber):
        def rank(self, queries: Sequence[Query], candidates: Sequence[np.ndarray]) -> list[Ranking]:
            return [Ranking(items[:0], np.zeros(0, dtype=np.float32)) for items in candidates]

    model = Recommender(WORLD, Silent(), by_popularity(N), candidates=4, popular=by_popularity)
    found = model.recommend(history=ids(2), k=3)
    assert [item.item_id for item in found] == ids(1, 3, 4)
    assert found.answered_by == "retriever"
    assert found.note == "By number named none of the items that were retrieved for it, so they come as retrieved."
    # An evaluation counts it as what it is: no answer.
    assert len(model.top([Query(np.array([2]))], [np.array([2])], 3)[0].items) == 0
