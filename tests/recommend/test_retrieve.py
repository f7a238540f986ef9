"""Retrieval for a batch: the same as a plain sort for each query alone, whatever may and may not come."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from allmrec.cf.recommender import BackboneRecommender
from allmrec.cf.sasrec import SASRec, SASRecConfig
from allmrec.ranking import Query
from allmrec.recommend import item_index
from allmrec.recommend.approximate_index import ApproximateIndex
from allmrec.recommend.item_indexer import ItemIndexer
from allmrec.recommend.retrieve import AllItems, BackboneRetriever, JointRetriever, RankerRetriever, Retriever

NOTHING = np.empty(0, dtype=np.int64)


@pytest.fixture(scope="module")
def backbone() -> SASRec:
    return SASRec(40, SASRecConfig(dim=8, max_history=5)).eval()


QUERIES = [Query(np.random.default_rng(n).integers(1, 41, size)) for n, size in enumerate((1, 3, 9, 30))]
SEEN = [np.unique(query.history) for query in QUERIES]


def test_the_backbones_best_are_those_of_ranking_every_item(backbone: SASRec) -> None:
    ranker = BackboneRecommender(backbone)
    plain = RankerRetriever(ranker, AllItems(40)).retrieve(QUERIES, 7, SEEN, [None] * 4)
    found = BackboneRetriever(backbone).retrieve(QUERIES, 7, SEEN, [None] * 4)
    for one, other in zip(found, plain, strict=True):
        assert one.items.tolist() == other.items.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


@pytest.mark.parametrize("count", [2, 50])
def test_allow_lists_and_exclusions_hold_for_each_query(backbone: SASRec, count: int) -> None:
    some, few = np.array([2, 3, 5, 7, 11]), np.array([40])
    allow = [some, None, few, some]
    exclude = [np.array([3]), SEEN[1], np.array([40]), NOTHING]
    joint = np.random.default_rng(1).normal(size=(41, 4)).astype(np.float32)
    retrievers: list[Retriever] = [BackboneRetriever(backbone), JointRetriever(joint, 3)]
    for retriever in retrievers:
        found = retriever.retrieve(QUERIES, count, exclude, allow)
        every = retriever.retrieve(QUERIES, 40, [NOTHING] * 4, [None] * 4)
        for one, order, out, only in zip(found, every, exclude, allow, strict=True):
            able = [i for i in order.items.tolist() if i not in out and (only is None or i in only)]
            assert one.items.tolist() == able[:count]


def indexer(above: int) -> ItemIndexer:
    """Above so few items an approximate index that searches enough cells to be exact, made once and not again."""
    return ItemIndexer(above, recall=1.0)


@pytest.mark.parametrize("above", [1000, 5])
def test_later_items_are_retrieved_as_from_one_table_of_all(backbone: SASRec, above: int) -> None:
    """Beside an exact and an approximate index: scores, exclusions, lists of allowed items, later items in histories."""
    joint = np.random.default_rng(1).normal(size=(49, 4)).astype(np.float32)
    histories = [*QUERIES, Query(np.array([3, 42, 47])), Query(np.array([48]))]
    exclude = [np.unique(query.history) for query in histories]
    allow = [None, np.array([2, 3, 41, 45]), None, np.array([44]), None, np.array([1, 2])]
    known = JointRetriever(joint[:41], 3, indexer(above))
    before = known.retrieve(QUERIES, 7, SEEN, [None] * 4)
    later = known.with_later(torch.from_numpy(joint[41:44])).with_later(torch.from_numpy(joint[41:]))
    whole = JointRetriever(joint, 3, n_known=40)
    for one, other in zip(
        later.retrieve(histories, 9, exclude, allow), whole.retrieve(histories, 9, exclude, allow), strict=True
    ):
        assert one.items.tolist() == other.items.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)
    # Who was asked before goes on without them.
    again = known.retrieve(QUERIES, 7, SEEN, [None] * 4)
    assert [found.items.tolist() for found in again] == [found.items.tolist() for found in before]


def test_an_addition_reads_the_later_items_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is the index made again, nor is any table as long as the known items looked at."""
    joint = np.random.default_rng(1).normal(size=(1043, 4)).astype(np.float32)
    known = JointRetriever(joint[:1001], 3, indexer(5))
    known.retrieve(QUERIES, 7, SEEN, [None] * 4)
    monkeypatch.setattr(ApproximateIndex, "made", None)
    checked: list[int] = []
    monkeypatch.setattr(item_index, "check_item_vectors", lambda vectors: checked.append(len(vectors)))
    for last in (1002, 1010, 1043):
        later = known.with_later(torch.from_numpy(joint[1001:last]))
        found = later.retrieve([Query(np.array([last - 1]))], 1, [NOTHING], [None])[0]
        assert found.items.tolist() == [last - 1]
    assert checked == [1, 9, 42]


def test_every_item_in_an_order_that_the_seed_decides() -> None:
    found = AllItems(40, seed=3).retrieve(QUERIES[:2], 1, SEEN[:2], [None, np.array([1, 2, 3])])
    assert sorted(found[0].items.tolist()) == sorted(set(range(1, 41)) - set(SEEN[0].tolist()))
    assert sorted(found[1].items.tolist()) == sorted({1, 2, 3} - set(SEEN[1].tolist()))
    again, other = (AllItems(40, seed).retrieve(QUERIES[:1], 1, SEEN[:1], [None])[0] for seed in (3, 4))
    assert again.items.tolist() == found[0].items.tolist() != other.items.tolist()


def test_an_item_that_the_cf_model_does_not_know_is_no_part_of_a_history(backbone: SASRec) -> None:
    retriever = BackboneRetriever(backbone)
    histories = [np.array([3, 41, 4]), np.array([3, 4])]
    found = retriever.retrieve([Query(history) for history in histories], 5, [NOTHING] * 2, [None] * 2)
    assert found[0].items.tolist() == found[1].items.tolist()
