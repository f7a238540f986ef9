"""What the API answers, against what the library answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from allmrec.library import Run
from allmrec.recommend.request import Request
from allmrec.serve.answers import Answer, Answers, Reranked, Similar
from allmrec.serve.diversity import diversified
from allmrec.systems.recommending import recommender
from tests.serve.conftest import Served

USER, HISTORY = "u3", ["i1", "i2", "i3"]


@pytest.mark.parametrize("system", ["allmrec-select", "late-fusion", "backbone", "popularity"])
def test_answers_are_the_librarys(server: Served, run: Run, system: str) -> None:
    model = recommender(run, system)
    for request in (
        {"user": USER, "k": 4},
        {"history": HISTORY, "k": 3, "deny": ["i9"], "exclude_seen": False},
        {"history": ["i30"], "k": 5, "allow": ["i1", "i2", "i20", "i31"]},
    ):
        found = server.ask("/v1/recommend", {**request, "system": system, "fallback": False})
        wanted = model.recommend([Request(**request)])[0]
        assert [(one["item_id"], one["title"], one["score"]) for one in found["items"]] == [
            tuple(one) for one in wanted
        ]
        assert found["system"] == system
        assert not found["fallbacks"]


def test_answers_have_the_shape_that_the_documents_say(server: Served) -> None:
    one = server.ask("/v1/recommend", {"user": USER, "k": 2, "explain": True})
    Answer.model_validate(one, strict=True)
    assert one["part"] == "llm"
    assert {part["part"] for part in one["items"][0]["parts"]} == {"behaviour", "popularity", "text", "language model"}
    many = server.ask("/v1/recommend", {"requests": [{"user": USER}, {"history": HISTORY, "system": "backbone"}]})
    Answers.model_validate(many, strict=True)
    assert [one["system"] for one in many["answers"]] == ["allmrec-select", "backbone"]


def test_parts_are_the_other_systems_own_answers(server: Served) -> None:
    one = server.ask("/v1/recommend", {"user": USER, "k": 3, "explain": True})
    alone = server.ask("/v1/recommend", {"user": USER, "k": 30, "system": "backbone"})["items"]
    for item in one["items"]:
        part = next(part for part in item["parts"] if part["part"] == "behaviour")
        ((place, score),) = [
            (n, other["score"]) for n, other in enumerate(alone, 1) if other["item_id"] == item["item_id"]
        ]
        assert (part["place"], part["of"]) == (place, len(alone))
        assert part["score"] == pytest.approx(score, rel=1e-4)


@pytest.mark.parametrize(
    ("request_", "reason", "system"),
    [
        ({"user": "nobody"}, "unknown_user", "popularity"),
        ({"history": []}, "empty_history", "popularity"),
        ({"history": ["gone", "lost"]}, "unknown_items", "popularity"),
    ],
)
def test_who_is_not_known_gets_what_is_popular_and_why(
    server: Served, request_: dict[str, Any], reason: str, system: str
) -> None:
    found = server.ask("/v1/recommend", {**request_, "k": 3})
    assert found["system"] == system
    assert [one["system"] for one in found["fallbacks"]] == ["allmrec-select", "backbone"]
    assert {one["reason"] for one in found["fallbacks"]} == {reason}
    assert len(found["items"]) == 3


@pytest.mark.parametrize(
    ("asked", "status"), [({"user": "nobody"}, 404), ({"history": ["x"]}, 404), ({"history": []}, 422)]
)
def test_nobody_takes_over_where_that_is_not_wanted(server: Served, asked: dict[str, Any], status: int) -> None:
    for system in ("allmrec-select", "backbone"):
        refused = server.refused("/v1/recommend", {**asked, "system": system, "fallback": False}, status)
        assert "fallback" in refused["detail"]
    alone = server.ask("/v1/recommend", {**asked, "system": "popularity", "fallback": False})
    assert (alone["system"], alone["part"]) == ("popularity", "popularity")


def test_unknown_items_are_left_out_and_named(server: Served) -> None:
    found = server.ask("/v1/recommend", {"history": ["i1", "gone"], "deny": ["lost"], "k": 2})
    assert found["skipped"] == ["gone", "lost"]
    assert found["part"] == "llm"


def test_errors_have_the_librarys_words(server: Served, run: Run) -> None:
    with pytest.raises(Exception, match="no item") as raised:
        recommender(run, "backbone").recommend(history=["gone"])
    found = server.refused("/v1/recommend", {"history": ["gone"], "unknown": "fail"}, 404)
    assert found["type"] == "urn:allmrec:UnknownIdError"
    assert found["detail"] == str(raised.value)
    assert found["request_id"]
    assert "u3" in server.refused("/v1/recommend", {"user": "u33x", "unknown": "fail"}, 404)["detail"]
    assert "late-fusion" in server.refused("/v1/recommend", {"user": USER, "system": "magic"}, 422)["detail"]
    assert "either a history or a user" in server.refused("/v1/recommend", {"k": 3}, 422)["detail"]


def test_categories_and_lists_limit_what_comes(server: Served) -> None:
    found = server.ask("/v1/recommend", {"user": USER, "categories": ["War"], "k": 20, "system": "backbone"})
    assert {category for item in found["items"] for category in item["categories"]} == {"War"}
    assert (
        "Comedy, Drama, War" in server.refused("/v1/recommend", {"user": USER, "categories": ["Opera"]}, 404)["detail"]
    )
    nothing = server.ask("/v1/recommend", {"history": ["i1"], "allow": ["i1"], "k": 3})
    assert nothing["items"] == []


def test_limits_are_said(server: Served) -> None:
    assert "100 at the most" in server.refused("/v1/recommend", {"user": USER, "k": 101}, 422)["detail"]
    many = {"requests": [{"user": USER}] * 65}
    assert "64 at the most" in server.refused("/v1/recommend", many, 422)["detail"]


def test_diversity_trades_scores_for_unlike_items() -> None:
    vectors = np.asarray([[1, 0], [1, 0], [0, 1], [-1, 0]], dtype=np.float32)
    scores = np.asarray([1.0, 0.9, 0.5, 0.0])
    assert diversified(scores, vectors, 3, 0.0).tolist() == [0, 1, 2]
    # 0.5 · 0.5 − 0 beats 0.5 · 0.9 − 0.5 · 1, and 0.5 · 0 + 0.5 · 1 beats both.
    assert diversified(scores, vectors, 3, 0.5).tolist() == [0, 3, 2]
    assert diversified(np.zeros(0), vectors[:0], 3, 0.5).tolist() == []


def test_diverse_answers_hold_the_best_first_and_change_what_follows(server: Served) -> None:
    request = {"user": USER, "k": 6, "system": "backbone"}
    plain = [item["item_id"] for item in server.ask("/v1/recommend", request)["items"]]
    diverse = [item["item_id"] for item in server.ask("/v1/recommend", {**request, "diversity": 0.9})["items"]]
    assert diverse[0] == plain[0]
    assert diverse != plain
    assert len(set(diverse)) == 6


def test_diverse_answers_say_that_there_are_few_only_where_there_are(server: Served) -> None:
    few = {"history": HISTORY, "allow": ["i10", "i11", "i20"], "diversity": 0.5, "system": "backbone"}
    assert server.ask("/v1/recommend", {**few, "k": 3})["note"] == ""
    assert server.ask("/v1/recommend", {**few, "k": 4})["note"].startswith("3 of 4 items")


def test_texts_that_are_not_read_in_time_do_not_wait_for_ever(
    fresh: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh(max_queue=2, deadline_ms=2000) as server:
        body = {"query": HISTORY, "documents": ["i10", "Something new"], "deadline_ms": 300}
        let_go, real = threading.Event(), server.service.holder.encode

        def slow(*arguments: Any, **named: Any) -> Any:
            let_go.wait(30)
            return real(*arguments, **named)

        monkeypatch.setattr(server.service.holder, "encode", slow)
        late = server.ask("/v1/rerank", body)
        assert "stand last" in late["meta"]["notes"][0]
        assert late["results"][-1]["index"] == 1
        alone = {**body, "documents": ["Something new"]}
        server.refused("/v1/rerank", alone, 429)
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(lambda n: server.http.post("/v1/rerank", json={**alone, "deadline_ms": 1500}), range(8))
            )
        assert {answer.status_code for answer in answers} == {429}
        assert all(answer.elapsed.total_seconds() < 10 for answer in answers)
        let_go.set()
        assert server.ask("/v1/rerank", {**body, "deadline_ms": 2000})["meta"]["notes"] == []


def test_a_deadline_leads_to_the_cheaper_system(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    offer = server.service.holder.versions["main"].offers["allmrec-select"]
    slow = type(offer).answer
    monkeypatch.setattr(
        type(offer), "answer", lambda self, asked: (time.sleep(2) if self.slow else None, slow(self, asked))[1]
    )
    found = server.ask("/v1/recommend", {"user": USER, "k": 2, "deadline_ms": 600})
    assert found["system"] == "backbone"
    assert found["fallbacks"][0]["reason"] == "deadline"
    assert found["timings"]["total_ms"] < 1500
    refused = server.refused("/v1/recommend", {"user": USER, "deadline_ms": 100, "fallback": False}, 429)
    assert "within" in refused["detail"]


def test_a_full_queue_leads_to_the_cheaper_system_and_then_to_429(
    fresh: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    with fresh(max_queue=1, max_batch=1) as server:
        gates = {server.service.slow.name: threading.Event(), server.service.fast.name: threading.Event()}
        for lane in (server.service.slow, server.service.fast):
            started = threading.Event()

            def hold(
                works: list[Any], gate: threading.Event = gates[lane.name], started: threading.Event = started
            ) -> list[Any]:
                started.set()
                gate.wait(30)
                return works

            lane.submit(object(), hold, None)
            assert started.wait(10)
        server.service.slow.submit(object(), lambda works: works, None)
        # The language model's queue is full, the cheap systems' has one place.
        threading.Timer(0.3, gates[server.service.fast.name].set).start()
        found = server.ask("/v1/recommend", {"user": USER, "k": 2})
        assert (found["system"], found["fallbacks"][0]["reason"]) == ("backbone", "queue_full")
        answer = server.http.post("/v1/recommend", json={"user": USER, "fallback": False})
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        gates[server.service.slow.name].set()


def test_concurrent_requests_share_a_pass(server: Served) -> None:
    found = server.ask("/v1/recommend", {"requests": [{"user": f"u{n}", "k": 2} for n in range(8)]})
    assert max(one["timings"]["batch"] for one in found["answers"]) >= 4
    alone = [server.ask("/v1/recommend", {"user": f"u{n}", "k": 2}) for n in range(8)]
    for together, one in zip(found["answers"], alone, strict=True):
        assert [item["item_id"] for item in together["items"]] == [item["item_id"] for item in one["items"]]


def test_reranking_speaks_the_common_shape(server: Served, run: Run) -> None:
    found = server.ask("/v1/rerank", {"query": HISTORY, "documents": ["i20", "i4", "Item 30"], "top_n": 2})
    Reranked.model_validate(found, strict=True)
    assert len(found["results"]) == 2
    whole = server.ask(
        "/v1/rerank", {"query": HISTORY, "documents": ["i20", "i4", "Item 30"], "return_documents": True}
    )
    assert sum(one["relevance_score"] for one in whole["results"]) == pytest.approx(1)
    ranking = recommender(run, "allmrec-select")
    numbers = np.asarray([run.dataset.items.number(name) for name in ("i20", "i4", "i30")])
    from allmrec.ranking import Query
    from allmrec.recommend.allmrec import ALLMRec

    assert isinstance(ranking, ALLMRec)
    history = np.asarray([run.dataset.items.number(name) for name in HISTORY])
    wanted = ranking.rank([Query(history)], [numbers])[0].items.tolist()
    assert [numbers[one["index"]] for one in whole["results"]] == wanted


def test_gorses_reranker_request_is_understood(server: Served) -> None:
    # What Gorse's client sends: its templates render one line an item, and top_n is left out where it is 0.
    body = {
        "model": "qwen3-rerank",
        "query": "You know a user who liked:\n- Item 1\n- Item 2\n",
        "documents": ["Item 4", "Item 20", "A thing that nobody knows"],
    }
    found = server.ask("/v1/rerank", body, headers={"Authorization": "Bearer none"})
    assert sorted(one["index"] for one in found["results"]) == [0, 1, 2]
    assert all(isinstance(one["relevance_score"], float) for one in found["results"])
    assert found["usage"]["total_tokens"] >= 0
    assert found["meta"]["skipped"] == ["You know a user who liked:"]
    assert found["meta"]["unranked"] == []


def test_documents_come_as_cohere_writes_them(server: Served) -> None:
    new = "A thing that nobody knows"
    documents = [
        {"title": "Item 6", "text": "A text beside the title of an item"},
        {"text": "Item 20"},
        {"title": new},
        {"text": new},
        {"id": "nothing", "title": new},
        {"id": "i1", "title": "Another title"},
    ]
    asked = {"query": HISTORY, "documents": documents, "return_documents": True}
    found = server.ask("/v1/rerank", asked)
    assert (found["meta"]["unranked"], found["meta"]["notes"]) == ([], [])
    shown = [{name: text for name, text in one.items() if name != "id"} for one in documents]
    assert [one["document"] for one in found["results"]] == [shown[one["index"]] for one in found["results"]]
    # Titles are looked up as texts alone are, and an id that is known counts before the title.
    plain = server.ask("/v1/rerank", {"query": HISTORY, "documents": ["i6", "i20", new, new, new, "i1"]})
    assert [(one["index"], one["relevance_score"]) for one in found["results"]] == [
        (one["index"], one["relevance_score"]) for one in plain["results"]
    ]
    # The description of a new item counts.
    described = [{"title": new, "text": "Item 30 and others"}, {"title": new, "text": "Item 4 and others"}, new]
    found = server.ask("/v1/rerank", {"query": HISTORY, "documents": described})
    assert len({one["relevance_score"] for one in found["results"]}) == 3


def test_reranking_ignores_what_means_nothing_here(server: Served) -> None:
    new = {"text": "A thing that nobody knows"}
    plain = {"query": "Item 1\nItem 2", "documents": ["i20", new, {"title": "Item 6"}]}
    wanted = server.ask("/v1/rerank", plain)["results"]
    names = ("model", "top_n", "return_documents", "user", "deadline_ms", "fallback", "rank_fields")
    documents = ["i20", {**new, "year": 1979, "id": None}, {"title": "Item 6", "text": None, "tags": {"a": [None]}}]
    for given in (
        {"documents": documents},
        dict.fromkeys(names),
        {"query": {"text": plain["query"]}},
        {"query": {"text": plain["query"], "image": None}},
    ):
        assert server.ask("/v1/rerank", {**plain, **given})["results"] == wanted
    shown = server.ask("/v1/rerank", {**plain, "documents": documents, "return_documents": True})["results"]
    assert {one["index"]: one["document"] for one in shown}[1] == new


def test_a_null_leaves_reranking_its_fallback(server: Served) -> None:
    asked = {"query": {"text": ""}, "documents": ["i20", "i4"]}
    assert server.ask("/v1/rerank", {**asked, "fallback": None})["meta"]["fallbacks"]
    server.refused("/v1/rerank", {**asked, "fallback": False}, 422)


def test_the_documented_shape_of_reranking_has_what_is_taken(server: Served) -> None:
    schemas = server.http.get("/openapi.json").json()["components"]["schemas"]
    fields, document = schemas["RerankIn"]["properties"], schemas["DocumentIn"]
    assert {"type": "null"} in fields["return_documents"]["anyOf"]
    assert {"type": "null"} in fields["fallback"]["anyOf"]
    assert "'object'" in str(fields["query"])
    assert document.get("additionalProperties") is not False


def test_a_document_of_an_unknown_id_is_not_ranked_by_the_id(server: Served) -> None:
    documents = [{"id": f"gone{n}"} for n in (1, 2, 2, 3, 4)]
    found = server.ask("/v1/rerank", {"query": HISTORY, "documents": [*documents, "i4"], "return_documents": True})
    assert found["results"][0] == {"index": 5, "relevance_score": 1.0, "document": {"text": "i4"}}
    assert found["meta"]["unranked"] == [0, 1, 2, 3, 4]
    assert {one["relevance_score"] for one in found["results"][1:]} == {0.0}
    (note,) = found["meta"]["notes"]
    assert "'gone1', 'gone2', 'gone3' and 1 more" in note
    alone = server.ask("/v1/rerank", {"query": HISTORY, "documents": [{"id": "gone"}]})
    assert alone["meta"]["unranked"] == [0]


@pytest.mark.parametrize(
    ("path", "body", "where", "words"),
    [
        ("/v1/rerank", {"query": "x", "documents": [{}]}, "documents.0", "an id, a title or a text"),
        ("/v1/rerank", {"query": "x", "documents": ["a", {"title": None}]}, "documents.1", "an id, a title or a text"),
        ("/v1/rerank", {"query": "x", "documents": [5]}, "documents.0", "a document is a text, or an object"),
        ("/v1/rerank", {"query": "x", "documents": ["a\0b"]}, "documents.0", "no NUL character"),
        ("/v1/rerank", {"query": "x", "documents": [{"text": 5}]}, "documents.0.text", "valid string"),
        ("/v1/rerank", {"query": 5, "documents": ["a"]}, "query", "a list of item ids, or a text"),
        ("/v1/rerank", {"query": ["a", []], "documents": ["a"]}, "query.1", "a text or a whole number"),
        ("/v1/rerank", {"documents": ["a"]}, "query", "Field required"),
        ("/v1/rerank", {"query": None, "documents": ["a"]}, "query", "a list of item ids, or a text"),
        ("/v1/rerank", {"query": {}, "documents": ["a"]}, "query", "an object that is a query has a text"),
        ("/v1/rerank", {"query": {"image": "x"}, "documents": ["a"]}, "query", "an object that is a query has a text"),
        ("/v1/rerank", {"query": {"text": ["a"]}, "documents": ["a"]}, "query.text", "valid string"),
        ("/v1/rerank", {"query": "x", "documents": [{"year": 1979}]}, "documents.0", "an id, a title or a text"),
        ("/v1/rerank", {"query": "x", "documents": [None]}, "documents.0", "a document is a text, or an object"),
        ("/v1/rerank", {"query": "x", "documents": ["a"], "fallback": 5}, "fallback", "valid boolean"),
        ("/v1/recommend", {"requests": [{"user": "u", "k": 0}]}, "requests.0.k", "greater than or equal to 1"),
        ("/v1/recommend", {"user": "u", "categories": ["a", 5]}, "categories.1", "valid string"),
        ("/v1/events", {"events": [{"user_id": "u"}]}, "events.0.item_id", "Field required"),
        ("/v1/recommend", {"user": "u", "one": 1}, "one", "not permitted"),
    ],
)
def test_wrong_fields_are_named_by_their_path_in_the_body(
    server: Served, path: str, body: dict[str, Any], where: str, words: str
) -> None:
    (error,) = server.refused(path, body, 422)["errors"]
    assert error["path"] == where
    assert words in error["message"]


def test_similar_items_are_alike(server: Served) -> None:
    found = server.ask("/v1/similar", {"item_id": "i1", "k": 5, "by": "cf"})
    Similar.model_validate(found, strict=True)
    cosines = [item["similarity"] for item in found["items"]]
    assert cosines == sorted(cosines, reverse=True)
    assert "i1" not in [item["item_id"] for item in found["items"]]
    server.refused("/v1/similar", {"item_id": "i99"}, 404)


def test_words_come_while_they_are_decoded(server: Served, run: Run) -> None:
    import json

    from allmrec.ranking import Query

    model = run.recommender()
    history = np.asarray([run.dataset.items.number(name) for name in HISTORY])
    wanted = "".join(model.explain(Query(history), "i4", run.config.answer.explain.reason, run.config.answer.explain))
    with server.http.stream("POST", "/v1/explain", json={"history": HISTORY, "item_id": "i4"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = "".join(answer.iter_text())
    events = [block.split("\n") for block in text.strip().split("\n\n")]
    assert events[0][0] == "event: start"
    assert events[-1][0] == "event: end"
    said = "".join(json.loads(data[6:])["text"] for name, data in events if name == "event: piece")
    assert said == wanted
    server.refused("/v1/explain", {"history": HISTORY, "item_id": "gone"}, 404)
    server.refused("/v1/explain", {"history": HISTORY, "about": "reason"}, 422)
