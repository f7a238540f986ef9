"""Recommending from a trained run: retrieval, rounds, unknown ids, items that come after training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from tiny_world import TinyWorld

from allmrec.core.artifacts import read_json
from allmrec.core.errors import ConfigError, UnknownIdError
from allmrec.data.build import read_table
from allmrec.library import Run
from allmrec.ranking import Query, Ranking
from allmrec.recipes.files import load_recipe
from allmrec.recommend.allmrec import ALLMRec
from allmrec.recommend.approximate_index import ApproximateIndex
from allmrec.recommend.request import Request, resolve
from allmrec.recommend.retrieve import BackboneRetriever, JointRetriever, WithNewItems
from allmrec.systems.evaluating import evaluate_catalogue, evaluate_run, run_protocol
from allmrec.systems.recommending import known_items, recommender
from allmrec.systems.registry import open_systems


@pytest.fixture(scope="module")
def run(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder: Path = tmp_path_factory.mktemp("run") / "run"
    config = load_recipe(str(tiny_world.recipe))
    made = Run.create(folder, read_table(tiny_world.interactions, tiny_world.items), config)
    made.train()
    return made


@pytest.fixture
def model(run: Run) -> ALLMRec:
    return run.recommender()


NEW = [
    {"item_id": "new1", "title": "Item 3", "description": "A thing."},
    {"item_id": "new2", "title": "A wholly other story"},
    {"item_id": "new3"},
]


def test_new_items_can_be_ranked_named_and_proposed_at_once(model: ALLMRec) -> None:
    before = model.dataset.n_items
    model.add_items(NEW)
    assert [model.dataset.items.number(f"new{n}") for n in (1, 2, 3)] == [before + 1, before + 2, before + 3]
    found = model.recommend(history=["new1", "i2"], k=20, candidates=20)
    assert len({item.item_id for item in found}) == 20
    assert "new1" not in {item.item_id for item in found}, "it was seen"
    # CF and joint vectors retrieve in turn, and 38 candidates are all that there is: nothing new is left out.
    everything = {item.item_id for item in model.recommend(history=["i2"], k=38, candidates=38)}
    assert {"new1", "new2", "new3"} <= everything


def test_a_new_item_with_a_known_items_text_gets_its_text_vector(model: ALLMRec) -> None:
    model.add_items(NEW)
    table = model.ranker.joint.with_source("text")
    known, twin = model.dataset.items.number("i3"), model.dataset.items.number("new1")
    np.testing.assert_allclose(table.vectors()[twin], table.vectors()[known], atol=1e-5)
    assert not table.has_cf[twin]
    assert table.has_text[twin]
    assert not table.has_text[model.dataset.items.number("new3")]


def test_old_answers_stay_when_items_are_added(model: ALLMRec) -> None:
    query = resolve(model.dataset, Request(user="u3")).query
    old = np.arange(1, 11)
    before = model.rank([query], [old])[0]
    model.add_items(NEW)
    after = model.rank([query], [old])[0]
    assert after.items.tolist() == before.items.tolist()
    np.testing.assert_allclose(after.scores, before.scores, atol=1e-6)


def test_a_new_item_in_the_history_is_shown_but_unknown_to_cf(model: ALLMRec) -> None:
    model.add_items(NEW)
    number = model.dataset.items.number("new2")
    known = Query(np.array([1, 2]))
    states = model.ranker.user_states([known, Query(np.array([1, number, 2]))])
    assert np.array_equal(states[0], states[1])
    shown = model.ranker.prompts([Query(np.array([1, number, 2]))], [np.array([3, 4])])[0]
    assert shown.history.tolist() == [1, number, 2]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"item_id": "i3", "title": "x"}], "there already"),
        ([{"item_id": "a"}, {"item_id": "a"}], "given twice"),
        ([{"title": "x"}], "item_id"),
        ([{"item_id": "a", "titel": "x"}], "title"),
    ],
)
def test_wrong_new_items_are_refused_as_a_whole(model: ALLMRec, items: list[dict[str, str]], message: str) -> None:
    before = model.dataset.n_items
    with pytest.raises(ConfigError, match=message):
        model.add_items([{"item_id": "fine", "title": "fine"}, *items])
    assert model.dataset.n_items == before


def test_more_candidates_than_a_prompt_holds_are_ranked_in_rounds(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    model = run.recommender()
    asked: list[int] = []
    ranker = model._ranker
    rank = ranker.rank

    def counting(queries: Sequence[Query], candidates: Sequence[np.ndarray]) -> list[Ranking]:
        asked.extend(len(c) for c in candidates)
        return rank(queries, candidates)

    monkeypatch.setattr(ranker, "rank", counting)
    found = model.recommend(history=["i1", "i2"], k=30, candidates=30)
    assert len({item.item_id for item in found}) == 30
    assert asked == [15, 15, 16]


def test_unknown_items_are_counted_and_named_or_skipped(model: ALLMRec) -> None:
    with pytest.raises(UnknownIdError, match=r"2 of 3 items are not among 36: 'x', 'y'"):
        model.recommend(history=["x", "i1", "y"])
    found = model.recommend(history=["x", "i1", "y"], unknown="skip")
    assert found.skipped == ("x", "y")
    assert found.items == model.recommend(history=["i1"]).items


@pytest.mark.parametrize("by", ["cf", "auto"])
def test_each_way_of_retrieval_proposes_unseen_items(run: Run, by: str) -> None:
    run = Run(run.path, run.dataset, run.config.changed({"answer.retrieve.by": by}))
    model = run.recommender()
    assert isinstance(model._retriever, BackboneRetriever)
    found = {item.item_id for item in model.recommend(history=["i1", "i2"], k=10, candidates=10)}
    assert len(found) == 10
    assert not found & {"i1", "i2"}
    # What the CF model does not know is found by joint vectors.
    model.add_items(NEW)
    assert isinstance(model._retriever, WithNewItems)
    found = {item.item_id for item in model.recommend(history=["i1", "i2"], k=37, candidates=37)}
    assert {"new1", "new2", "new3"} <= found


def test_a_history_of_new_items_alone_is_found_by_text(model: ALLMRec) -> None:
    """Its twin by title is nearest, and what the CF model makes of nothing is not asked for."""
    model.add_items(NEW)
    query = resolve(model.dataset, Request(history=["new1"])).query
    found = model._retriever.retrieve([query], 3, [query.history], [None])[0]
    table, known = model.ranker.joint.vectors().float().numpy(), model.ranker.prior.n_items
    joint = JointRetriever(table, 10, n_known=known)
    assert found.items.tolist() == joint.retrieve([query], 3, [query.history], [None])[0].items.tolist()
    answer = model.recommend(history=["new1"], k=3)
    assert (len(answer), answer.answered_by, answer.note) == (3, "A-LLMRec (select)", "")


@pytest.mark.parametrize("name", ["popularity", "backbone", "llm-only", "allmrec", "allmrec-select"])
def test_the_inputs_that_a_user_expects_an_answer_to(run: Run, name: str) -> None:
    model, every = recommender(run, name), list(run.dataset.items.ids)
    popular = [item.item_id for item in recommender(run, "popularity").recommend(history=[], k=4)]
    counts = run.known_counts()
    assert [counts[run.dataset.items.number(item)] for item in popular] == sorted(counts[1:], reverse=True)[:4]
    new, one, most, all_of_it = model.recommend(
        [
            Request(history=[], k=4),
            Request(history=["i7"], k=4),
            Request(history=every[:-2], k=4),
            Request(history=every, k=4),
        ]
    )
    assert [item.item_id for item in new] == popular
    assert new.answered_by == "Popularity"
    assert (len(one), one.answered_by, one.note) == (4, model.name, "")
    assert "i7" not in [item.item_id for item in one]
    assert {item.item_id for item in most} == set(every[-2:])
    assert most.note.startswith("2 of 4 items")
    assert len(all_of_it) == 0
    assert "No item is left" in all_of_it.note


def test_an_approximate_index_retrieves_too_and_is_kept_with_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(run.path, run.dataset, run.config.changed({"answer.retrieve.approximate_above": 5}))
    model = run.recommender()
    first = model.recommend(history=["i1"], k=5)
    assert len(first) == 5
    kept = [place.name for place in (run.path / ".index").iterdir() if place.is_dir()]
    assert [name.rpartition("-")[0] for name in kept] == ["backbone"]
    # It is opened from there, by whoever comes next.
    monkeypatch.setattr(ApproximateIndex, "made", None)
    assert run.recommender().recommend(history=["i1"], k=5) == first


def test_fewer_come_where_fewer_are_left(model: ALLMRec) -> None:
    assert len(model.recommend(history=["i1"], k=36)) == 35


def test_the_whole_catalogue_is_evaluated_in_one_stage_and_in_two(run: Run) -> None:
    report = evaluate_catalogue(run)
    assert list(report.by_name) == ["Popularity", "SASRec", "A-LLMRec (select)"]
    assert report.n_candidates == run.dataset.n_items
    # What the second stage ranks is what the CF model retrieved: it finds no target that is not among the first 20.
    whole = BackboneRetriever(run.backbone(in_use=True))
    protocol = run_protocol(run).first(6)
    for query, target, rank in zip(protocol.queries(run.split), protocol.targets, report.systems[2].ranks, strict=True):
        retrieved = whole.retrieve([query], 20, [np.setdiff1d(query.history, [target])], [None])[0].items
        assert rank is None or target in retrieved


def test_the_cold_rule_is_chosen_on_validation_once_and_kept(run: Run) -> None:
    report = evaluate_run(run, ["allmrec-select", "allmrec-cold"])
    cold = report.by_name["A-LLMRec (select, cold rule)"]
    assert "chosen on validation items" in cold.note
    kept = read_json(run.path / "cold.json")["select"]
    figures = {int(below): value for below, value in kept["NDCG@10"].items()}
    assert kept["below"] == max(figures, key=lambda below: (figures[below], -below))
    before = (run.path / "cold.json").stat().st_mtime_ns
    evaluate_run(run, ["allmrec-cold"])
    assert (run.path / "cold.json").stat().st_mtime_ns == before


def test_a_stated_cold_rule_counts_in_recommendations_too(run: Run) -> None:
    run = Run(run.path, run.dataset, run.config.changed({"answer.cold_below": 3}))
    counts = run.split.train_counts()
    wanted = [bool(n) and int(counts[n]) < 3 for n in range(len(counts))]
    assert any(wanted)
    assert not all(wanted[1:])
    assert run.recommender().ranker.joint.from_text.tolist() == wanted


WAYS = ("allmrec-select", "allmrec", "allmrec-select-sbert")


@pytest.mark.parametrize("name", WAYS)
def test_every_way_of_answering_honours_retrieval_and_rounds(
    run: Run, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(run.path, run.dataset, run.config.changed({"answer.retrieve.by": "cf", "answer.retrieve.items": 25}))
    model = recommender(run, name)
    assert isinstance(model, ALLMRec)
    asked: list[np.ndarray] = []
    rank = model._ranker.rank

    def noting(queries: Sequence[Query], candidates: Sequence[np.ndarray]) -> list[Ranking]:
        asked.extend(candidates)
        return rank(queries, candidates)

    monkeypatch.setattr(model._ranker, "rank", noting)
    scores = [item.score for item in model.recommend(history=["i1", "i2"], k=25)]
    query = resolve(run.dataset, Request(history=["i1", "i2"])).query
    wanted = BackboneRetriever(run.backbone(in_use=True)).retrieve([query], 25, [query.history], [None])[0].items
    assert {int(item) for items in asked for item in items} == set(wanted.tolist())
    assert max(map(len, asked)) <= run.config.tune.candidates
    assert scores == sorted(scores, reverse=True)


def test_every_way_of_answering_honours_the_cold_rule(run: Run) -> None:
    changed = Run(run.path, run.dataset, run.config.changed({"answer.cold_below": 3}))
    wanted = changed.recommender()
    for name in ("allmrec-select", "allmrec"):
        model = recommender(changed, name)
        assert isinstance(model, ALLMRec)
        assert model.ranker.joint.from_text.tolist() == wanted.ranker.joint.from_text.tolist()
    assert recommender(changed, "allmrec-select").recommend(history=["i1"]) == wanted.recommend(history=["i1"])
    # The rule is no part of the row that is evaluated by CF vectors.
    answers = open_systems(changed, ["allmrec-select"])["allmrec-select"].answers
    assert answers is not None
    assert not answers.prompted.joint.from_text.any()


@pytest.mark.parametrize("name", [*WAYS, "popularity", "backbone"])
def test_every_system_of_a_saved_recommender_knows_the_items_that_were_added(
    run: Run, name: str, tmp_path: Path
) -> None:
    model = run.recommender()
    model.add_items(NEW)
    model.save_pretrained(tmp_path / "model", interactions=True)
    saved = Run.open(tmp_path / "model")
    assert known_items(saved).items.ids == model.dataset.items.ids
    found = recommender(saved, name).recommend(history=["new1", "i2"], k=38, candidates=38)
    ids = {item.item_id for item in found}
    assert not {"new1", "i2"} & ids
    assert ({"new2", "new3"} <= ids) == (name in WAYS), "what ranks by interactions alone has none of them"


def test_the_catalogues_rows_are_named_by_what_answers(run: Run) -> None:
    report = evaluate_catalogue(run, ["backbone", "allmrec-select", "allmrec"])
    assert list(report.by_name) == ["SASRec", "A-LLMRec (select)", "A-LLMRec"]
    assert "ranks 20 retrieved items" in report.by_name["A-LLMRec (select)"].note
    assert report.by_name["A-LLMRec"].n_users == 3


def test_a_batch_of_requests_is_as_each_alone(run: Run) -> None:
    requests = [Request(user=f"u{n}", k=4) for n in range(8)] + [Request(history=["i1"], k=30, deny=["i2"])]
    for name in ("backbone", "allmrec-select", "popularity"):
        model = recommender(run, name)
        for request, answer in zip(requests, model.recommend(requests), strict=True):
            alone = model.recommend([request])[0]
            assert [item.item_id for item in answer] == [item.item_id for item in alone]
            np.testing.assert_allclose([i.score for i in answer], [i.score for i in alone], atol=1e-4)


def test_a_run_does_not_change_after_it_is_made(run: Run) -> None:
    for field in ("config", "device", "system", "base", "published"):
        with pytest.raises(FrozenInstanceError):
            setattr(run, field, None)
