"""What the documents promise, where it was found not to hold."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.data.interactions import InteractionDataset
from allmrec.library import Run
from allmrec.recommend.request import Request
from allmrec.serve.state import Event, State
from allmrec.serve.untrained import history_of
from allmrec.systems.recommending import recommender
from tests.serve.conftest import Process, Served
from tests.support.ports import free_port


def _event(n: int) -> dict[str, Any]:
    return {"events": [{"user_id": "zoe", "item_id": "i1", "key": f"k{n}"}]}


@pytest.mark.parametrize("how", ["removed", "moved away"])
def test_a_sqlite_file_that_is_gone_takes_no_writes(fresh: Callable[..., Any], tmp_path: Path, how: str) -> None:
    with fresh() as server:
        with ThreadPoolExecutor(6) as pool:  # several connections have the file open
            list(pool.map(lambda n: server.ask("/v1/events", _event(n)), range(12)))
        aside = tmp_path / "aside"
        aside.mkdir()
        for file in tmp_path.glob("state.sqlite3*"):
            if how == "removed":
                file.unlink()
            else:
                shutil.move(file, aside / file.name)
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda n: server.http.post("/v1/events", json=_event(100 + n)), range(12)))
        assert {answer.status_code for answer in answers} == {503}
        assert "its file is gone" in answers[0].json()["detail"]
        assert not (tmp_path / "state.sqlite3").exists()
        assert server.ask("/v1/recommend", {"user": "u3", "k": 2})["items"]
        if how == "moved away":
            for file in aside.iterdir():
                shutil.move(file, tmp_path / file.name)
            assert server.ask("/v1/events", _event(200))["stored"] == 1
            assert server.ask("/v1/users/zoe/history", None, "GET")["length"] == 13


def test_what_is_said_of_nobody_says_that_nothing_is_known(server: Served) -> None:
    for who, words in (({"history": []}, "The history is empty"), ({"history": ["i1"]}, "own words")):
        asked = {**who, "item_id": "i5", "about": "reason"}
        with server.http.stream("POST", "/v1/explain", json=asked) as answer:
            first = "".join(answer.iter_text()).split("\n\n")[0]
        assert words in first
        assert ("nothing is known" in first) == (who == {"history": []})


def test_failed_writes_are_counted(fresh: Callable[..., Any], tmp_path: Path) -> None:
    with fresh() as server:
        server.ask("/v1/events", _event(0))
        for file in tmp_path.glob("state.sqlite3*"):
            file.unlink()
        server.refused("/v1/events", _event(1), 503)
        lines = server.http.get("/metrics").text.splitlines()
        assert 'allmrec_state_errors_total{what="write"} 1.0' in lines


def test_a_backup_in_the_place_of_a_sqlite_file_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    state = State(f"sqlite:///{path}")
    state.write_events([Event("zoe", "i1", 1, "a")])
    state.close()
    shutil.copy(path, tmp_path / "backup")
    state.write_events([Event("zoe", "i2", 2, "b")])
    for file in tmp_path.glob("state.sqlite3*"):
        file.unlink()
    shutil.move(tmp_path / "backup", path)
    assert [event.key for event in state.all_events()] == ["a"]
    state.write_events([Event("zoe", "i3", 3, "c")])
    state.close()
    other = State(f"sqlite:///{path}", must_exist=True)
    assert [event.key for event in other.all_events()] == ["a", "c"]
    other.close()


def test_a_line_end_behind_an_id_is_no_part_of_another(fresh: Callable[..., Any]) -> None:
    with fresh() as server:
        for method in ("DELETE", "PATCH", "PUT", "GET"):
            body = {"title": "x"} if method in ("PATCH", "PUT") else None
            refused = server.refused("/v1/items/i5%0A", body, 404, method)
            assert "control character" in refused["detail"]
        assert server.ask("/v1/items/i5", None, "GET")["available"]
        item = {"items": [{"item_id": "q\nr", "title": "Item 1"}]}
        assert "control characters" in str(server.refused("/v1/items", item, 422, "PUT"))
        event = {"events": [{"user_id": "u\nv", "item_id": "i1"}]}
        assert "control characters" in str(server.refused("/v1/events", event, 422))


def test_a_system_that_knows_none_of_a_history_says_so(fresh: Callable[..., Any]) -> None:
    with fresh() as server:
        server.ask("/v1/items/new", {"title": "Item 1", "categories": ["War"]}, "PUT")
        asked = {"history": ["new"], "k": 2, "system": "backbone"}
        answer = server.ask("/v1/recommend", asked)
        assert answer["part"] == "popularity"
        assert ("backbone", "unknown_items") in [(one["system"], one["reason"]) for one in answer["fallbacks"]]
        refused = server.refused("/v1/recommend", {**asked, "fallback": False}, 404)
        assert "came after its training" in refused["detail"]
        ranked = {"query": ["new"], "documents": ["i1", "i2"], "model": "backbone"}
        assert server.ask("/v1/rerank", ranked)["meta"]["part"] == "popularity"
        server.refused("/v1/rerank", {**ranked, "fallback": False}, 404)
        # Who reads texts knows it, and one known item is enough.
        assert server.ask("/v1/recommend", {"history": ["new"], "k": 2})["part"] == "llm"
        assert server.ask("/v1/recommend", {**asked, "history": ["new", "i1"]})["fallbacks"] == []


def test_places_of_the_language_model_are_by_its_scores(server: Served) -> None:
    answer = server.ask("/v1/recommend", {"history": ["i1", "i2"], "k": 5, "diversity": 1, "explain": True})
    parts = [part for item in answer["items"] for part in item["parts"] if part["part"] == "language model"]
    order = sorted(parts, key=lambda part: -part["score"])
    assert [part["place"] for part in order] == sorted(part["place"] for part in parts)
    assert [part["score"] for part in parts] == [item["score"] for item in answer["items"]]
    assert all(1 <= part["place"] <= part["of"] for part in parts)
    assert parts != order


def test_a_call_with_more_requests_than_may_wait_is_refused_for_good(fresh: Callable[..., Any]) -> None:
    with fresh(max_queue=3) as server:
        one = {"history": ["i1"], "k": 1, "system": "backbone"}
        assert "3 at the most" in server.refused("/v1/recommend", {"requests": [one] * 4}, 422)["detail"]
        assert len(server.ask("/v1/recommend", {"requests": [one] * 3})["answers"]) == 3


def test_an_event_that_comes_late_stands_at_its_time(fresh: Callable[..., Any], run: Run) -> None:
    with fresh() as server:
        events = [{"user_id": "u3", "item_id": "i30", "time": 1, "key": "late"}]
        server.ask("/v1/events", {"events": events})
        steps = server.ask("/v1/users/u3/history", None, "GET")["interactions"]
        assert (steps[0]["item_id"], steps[0]["source"]) == ("i30", "event")
        assert [step["time"] for step in steps] == sorted(step["time"] for step in steps)
        found = server.ask("/v1/recommend", {"user": "u3", "k": 4, "system": "backbone"})
        history = [step["item_id"] for step in steps]
        wanted = recommender(run, "backbone").recommend([Request(history=history, k=4)])[0]
        assert [(one["item_id"], one["score"]) for one in found["items"]] == [(o.item_id, o.score) for o in wanted]


@given(st.lists(st.integers(0, 9), min_size=1), st.lists(st.integers(0, 9)), st.booleans())
def test_histories_are_in_the_order_of_times(trained: list[int], later: list[int], timed: bool) -> None:
    times = {"u": sorted(trained)} if timed else None
    data = InteractionDataset.from_sequences({"u": ["a"] * len(trained)}, items=["a", "b"], times=times)
    events = [Event("u", "b", when, str(n)) for n, when in enumerate(sorted(later))]
    steps = history_of(data, "u", events)
    assert [step.source for step in steps].count("event") == len(later)
    assert len(steps) == len(trained) + len(later)
    if timed:
        assert [step.time for step in steps] == sorted([*trained, *later])
    else:
        assert [step.item_id for step in steps] == ["a"] * len(trained) + ["b"] * len(later)


def test_a_worker_that_was_killed_takes_connections_once_it_has_loaded(run: Run, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = (
        "--port",
        str(port),
        "--workers",
        "2",
        "--database",
        f"sqlite:///{tmp_path}/state.sqlite3",
        "--device",
        "cpu",
    )
    server = Process(run.path, *options, log=tmp_path / "log")
    try:
        server.ready(url)
        psutil.Process(server.process.pid).children()[0].kill()
        time.sleep(0.1)  # what it had accepted is lost
        statuses = []
        until = time.monotonic() + 60
        while server.log.read_text().count('"version taken"') < 3 and time.monotonic() < until:
            statuses.append(httpx.get(f"{url}/health/ready", timeout=60).status_code)
        assert server.log.read_text().count('"version taken"') == 3
        assert set(statuses) == {200}
        # Then it answers as well.
        metrics = [httpx.post(f"{url}/v1/recommend", json={"user": "u3"}, timeout=60).status_code for _ in range(20)]
        assert set(metrics) == {200}
    finally:
        server.end()
