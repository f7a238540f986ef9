"""Events and items at run time: known at once, kept through kills, given back to the next training. On both databases."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ports import free_port
from postgres import Postgres

from allmrec.core.errors import ConfigError, MissingExtraError, ServerError
from allmrec.data.build import read_table
from allmrec.data.interactions import InteractionDataset
from allmrec.library import Run
from allmrec.serve.answers import Events, History, ItemList, ItemsChanged
from allmrec.serve.export import export
from allmrec.serve.state import Event, State, StoredItem, _insert_events
from allmrec.serve.untrained import untrained_events
from tests.support.serve_kills import killed_while_writing


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    made = Postgres()
    yield made
    made.remove()


def _new_database(server: Postgres, tmp_path: Path, options: str = "") -> str:
    """Its URL."""
    import sqlalchemy

    name = f"t{abs(hash(str(tmp_path))) % 10**9}"
    engine = sqlalchemy.create_engine(
        server.url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} {options}")
    engine.dispose()
    return server.url.replace("/postgres", f"/{name}")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/own.sqlite3"
    return _new_database(request.getfixturevalue("postgres"), tmp_path)


def _encoded(encoding: str) -> str:
    return f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"


@pytest.mark.parametrize("encoding", ["UTF8", "SQL_ASCII"])
def test_a_database_that_holds_every_text_is_taken(postgres: Postgres, tmp_path: Path, encoding: str) -> None:
    """SQL_ASCII is what a server has whose machine has no locale."""
    state = State(_new_database(postgres, tmp_path, _encoded(encoding)))
    event, item = Event("ü☃", "電影", 5, "k\u202e"), StoredItem("電影", "Äpfel 😀", "ß", ("ø",))
    state.write_events([event])
    state.write_items([item])
    assert state.read(["ü☃"])[0] == {"ü☃": [event]}
    assert state.items()[0] == [item]
    state.close()


def test_a_database_that_cannot_is_refused(postgres: Postgres, tmp_path: Path) -> None:
    state = State(_new_database(postgres, tmp_path, _encoded("LATIN1")))
    with pytest.raises(ConfigError, match=r"encoding LATIN1.*createdb --encoding UTF8"):
        state.write_events([Event("u", "a", 5, "k")])
    state.close()


def test_keys_make_repeated_writes_one(url: str) -> None:
    state = State(url)
    first, second = Event("u", "a", 5, "k1"), Event("u", "b", 3, "k2")
    assert vars(state.write_events([first, second, first])) == {"stored": 2, "repeated": 1}
    assert vars(state.write_events([second])) == {"stored": 0, "repeated": 1}
    # By time, and not by when they came.
    assert state.read(["u", "v"])[0] == {"u": [second, first], "v": []}
    with pytest.raises(ConfigError, match="belongs to another event"):
        state.write_events([Event("u", "c", 9, "k3"), Event("w", "a", 5, "k1")])
    assert len(state.all_events()) == 2
    state.close()


def test_a_write_that_was_cut_off_keeps_nobody_from_it(postgres: Postgres) -> None:
    """A host is gone between its insert and its commit, and another replica is asked to write the same event."""
    event = Event("cut off", "a", 5, "cut off")
    gone, state = State(postgres.url), State(postgres.url)
    state.write_events([])

    def cut_off() -> None:
        with gone._connected(writes=True) as connection:
            _insert_events(connection, [event])
            assert vars(state.write_events([event])) == {"stored": 1, "repeated": 0}

    with pytest.raises(ServerError, match="Nothing of this call is stored"):
        cut_off()
    assert [one for one in state.all_events() if one.user_id == "cut off"] == [event]
    gone.close()
    state.close()


def test_items_are_replaced_withdrawn_and_forgotten(url: str) -> None:
    state = State(url)
    one, other = StoredItem("ä", "Äpfel \u202e", None, ("x", "y")), StoredItem("b", None, "text", ())
    state.write_items([one, other])
    state.withdraw("i1", True)
    changed = StoredItem("ä", "Birnen", None, ())
    state.write_items([changed])
    items, withdrawn, version = state.items()
    assert (items, withdrawn) == ([changed, other], ["i1"])
    assert state.read([])[1] == version
    state.remove_item("ä")
    state.withdraw("i1", False)
    assert state.items()[:2] == ([other], [])
    assert state.items()[2] > version
    state.close()


def test_a_change_is_refused_where_somebody_was_faster(url: str) -> None:
    state = State(url)
    before = StoredItem("a", "one", "text", ("x",))
    state.write_items([before])
    state.withdraw("a", True)
    after = StoredItem("a", "two", "text", ("x",))
    assert state.change_item(before, after, None)
    version = state.items()[2]
    assert not state.change_item(before, StoredItem("a", "three", "text", ("x",)), True)
    # A change of texts does not put an item on sale again, and one that was refused changes nothing.
    assert state.items() == ([after], ["a"], version)
    assert state.change_item(after, after, True)
    assert state.items()[:2] == ([after], [])
    state.remove_item("a", withdrawn=True)
    assert state.items()[:2] == ([], ["a"])
    assert not state.change_item(after, before, None)
    state.close()


def test_servers_of_one_database_serve_what_each_was_told(url: str) -> None:
    one, other = State(url, "one"), State(url, "other")
    one.serve_run("first")
    assert other.read([])[2] == (0, None)
    other.serve_run("second")
    one.serve_run("third")
    assert (one.read([])[2], other.read([])[2]) == ((2, "third"), (1, "second"))
    one.close()
    other.close()


def test_many_threads_write_and_nothing_is_lost(url: str) -> None:
    state = State(url)

    def write(worker: int) -> None:
        for n in range(10):
            state.write_events([Event("u", "a", n, f"{worker}-{n}"), Event("u", "a", n, f"shared-{n}")])
            state.write_items([StoredItem(f"{worker}-{n}", "t", None, ())])

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(state.all_events()) == 50
    assert len(state.items()[0]) == 40
    assert state.items()[2] == 40
    state.close()


def test_other_databases_are_refused() -> None:
    with pytest.raises((ConfigError, MissingExtraError)):
        State("mysql://somewhere/else")
    with pytest.raises(ConfigError, match="cannot be read"):
        State("nonsense")


def test_events_are_known_to_the_next_request(fresh: Callable[..., Any], url: str) -> None:
    with fresh(database=url) as server:
        assert server.ask("/v1/recommend", {"user": "new"})["part"] == "popularity"
        events = {"events": [{"user_id": "new", "item_id": f"i{n}", "key": f"k{n}"} for n in (1, 2, 3)]}
        found = server.ask("/v1/events", events)
        Events.model_validate(found, strict=True)
        assert (found["stored"], found["repeated"]) == (3, 0)
        assert server.ask("/v1/events", events)["repeated"] == 3
        after = server.ask("/v1/recommend", {"user": "new", "k": 40, "system": "backbone"})
        assert after["part"] == "cf"
        assert not {"i1", "i2", "i3"} & {item["item_id"] for item in after["items"]}
        same = server.ask("/v1/recommend", {"history": ["i1", "i2", "i3"], "k": 40, "system": "backbone"})
        assert [item["score"] for item in after["items"]] == [item["score"] for item in same["items"]]
        # Behind what training knows of a user.
        server.ask(
            "/v1/events", {"events": [{"user_id": "u3", "item_id": "i30"}, {"user_id": "u3", "item_id": "later"}]}
        )
        history = server.ask("/v1/users/u3/history", None, "GET")
        History.model_validate(history, strict=True)
        assert [step["item_id"] for step in history["interactions"][-2:]] == ["i30", "later"]
        assert [step["source"] for step in history["interactions"]] == ["training"] * 6 + ["event"] * 2
        server.refused("/v1/users/nobody/history", None, 404, "GET")
        # An item that comes later makes its event count.
        server.ask("/v1/items", {"items": [{"item_id": "later", "title": "Item 3"}]}, "PUT")
        assert server.ask("/v1/users/u3/history", None, "GET")["interactions"][-1]["known"]


def test_new_items_can_be_recommended_at_once(fresh: Callable[..., Any], run: Run) -> None:
    with fresh() as server:
        new = [{"item_id": f"new/{n}", "title": f"Item {n}", "categories": ["War"]} for n in range(3)]
        found = server.ask("/v1/items", {"items": new}, "PUT")
        ItemsChanged.model_validate(found, strict=True)
        assert found["items"] == 39
        request = {"history": ["i1", "i2"], "allow": ["new/1", "i4", "i5"], "k": 3}
        answer = server.ask("/v1/recommend", request)
        assert {item["item_id"] for item in answer["items"]} == {"new/1", "i4", "i5"}
        # As the library's own model says once it took them up.
        model = run.recommender()
        model.add_items(new)
        wanted = model.recommend(**request)
        assert [(item["item_id"], item["score"]) for item in answer["items"]] == [
            (one.item_id, one.score) for one in wanted
        ]
        listed = server.ask("/v1/items?query=item+1&limit=100", None, "GET")
        ItemList.model_validate(listed, strict=True)
        assert "new/1" in [item["item_id"] for item in listed["items"]]
        assert server.ask("/v1/recommend", {"history": ["new/1", "i1"], "k": 1})["skipped"] == []
        # What does not know it says so by leaving it out.
        alone = server.ask("/v1/recommend", {**request, "system": "backbone"})
        assert {item["item_id"] for item in alone["items"]} == {"i4", "i5"}
        server.ask("/v1/items/new%2F1", {"title": "Another", "available": False}, "PATCH")
        item = server.ask("/v1/items/new%2F1", None, "GET")
        assert (item["title"], item["available"], item["added"]) == ("Another", False, True)
        assert "new/1" not in [one["item_id"] for one in server.ask("/v1/recommend", request)["items"]]
        server.ask("/v1/items/new%2F1", None, "DELETE")
        server.refused("/v1/items/new%2F1", None, 404, "GET")
        # Items of the training keep their texts, and can be withdrawn.
        assert "train again" in server.refused("/v1/items/i4", {"title": "x"}, 409, "PUT")["detail"]
        server.ask("/v1/items/i4", None, "DELETE")
        assert [one["item_id"] for one in server.ask("/v1/recommend", {**request, "unknown": "skip"})["items"]] == [
            "i5"
        ]
        server.ask("/v1/items/i4", {"available": True}, "PATCH")
        assert server.ask("/v1/items/i4", None, "GET")["available"]
        assert "twice" in server.refused("/v1/items", {"items": [new[0], new[0]]}, 422, "PUT")["detail"]


def test_changes_of_one_item_at_the_same_time_are_all_kept(fresh: Callable[..., Any]) -> None:
    with fresh() as server:
        server.ask("/v1/items/new", {"title": "Item 1", "categories": ["War"]}, "PUT")
        for n in range(5):
            changes = [{"title": f"Item {n}"}, {"description": f"text {n}"}, {"available": n % 2 == 0}]
            with ThreadPoolExecutor(3) as pool:
                for answer in pool.map(lambda change: server.http.patch("/v1/items/new", json=change), changes):
                    assert answer.status_code == 200, answer.text
            item = server.ask("/v1/items/new", None, "GET")
            found = (item["title"], item["description"], item["categories"], item["available"])
            assert found == (f"Item {n}", f"text {n}", ["War"], n % 2 == 0)


def test_a_training_that_knows_the_events_counts_them_once(run: Run, url: str, tmp_path: Path) -> None:
    state = State(url)
    state.write_items([StoredItem("new", "Item 3", None, ("War",))])
    events = [Event("u3", "new", 1_700_000_000, "a"), Event("zoe", "i1", 7, "b"), Event("zoe", "i1", 7, "c")]
    state.write_events(events)
    first = export(run.dataset, state, tmp_path / "first")
    data = read_table(first.interactions, first.items)
    assert untrained_events(data, "zoe", events[1:]) == []
    # The same second, once more; a user whom the training does not know; and what came later.
    later = [Event("zoe", "i1", 7, "d"), Event("zoe", "i2", 9, "e")]
    assert untrained_events(data, "zoe", [*events[1:], *later]) == later
    assert untrained_events(data, "amy", [Event("amy", "i1", 7, "f")]) == [Event("amy", "i1", 7, "f")]
    state.write_events([*later[1:], Event("u3", "i2", 1_700_000_009, "g")])
    second = export(data, state, tmp_path / "second")
    assert (second.from_events, second.added) == (2, 0)
    again = read_table(second.interactions, second.items)
    assert again.n_interactions == run.dataset.n_interactions + 5
    assert export(again, state, tmp_path / "third").from_events == 0
    state.close()


@given(st.lists(st.integers(1, 3), min_size=1), st.lists(st.integers(1, 3)), st.lists(st.integers(1, 3)))
def test_without_times_what_the_training_ends_with_is_known(
    before: list[int], known: list[int], new: list[int]
) -> None:
    names = [f"i{n}" for n in (1, 2, 3)]
    trained = [f"i{n}" for n in [*before, *known]]
    data = InteractionDataset.from_sequences({"u": trained}, items=names)
    events = [Event("u", f"i{n}", place, str(place)) for place, n in enumerate([*known, *new])]
    left = untrained_events(data, "u", events)
    # No more than what is new is left, and it stands at the end; the rest is how the training ends.
    assert len(left) <= len(new)
    assert left == events[len(events) - len(left) :]
    gone = [event.item_id for event in events[: len(events) - len(left)]]
    assert not gone or trained[-len(gone) :] == gone


def test_an_item_that_a_later_training_knows_can_be_withdrawn(fresh: Callable[..., Any], run: Run) -> None:
    with fresh() as server:
        # As after a reload: the state has it, and the run does too.
        server.service.state.write_items([StoredItem("i4", "Item 4", None, ())])
        server.ask("/v1/items/i4", None, "DELETE")
        assert not server.ask("/v1/items/i4", None, "GET")["available"]
        assert server.service.state.item("i4") is None


def test_what_came_in_is_there_after_a_start_anew(fresh: Callable[..., Any]) -> None:
    with fresh() as server:
        server.ask("/v1/items", {"items": [{"item_id": "new", "title": "Item 40"}]}, "PUT")
        server.ask("/v1/events", {"events": [{"user_id": "zoe", "item_id": "new"}]})
        request = {"history": ["i1"], "allow": ["new"], "k": 1}
        before = server.ask("/v1/recommend", request)["items"]
    with fresh() as server:
        assert server.ask("/v1/recommend", request)["items"] == before
        assert server.ask("/v1/users/zoe/history", None, "GET")["length"] == 1


def test_the_next_training_knows_it(run: Run, url: str, tmp_path: Path) -> None:
    state = State(url)
    state.write_items(
        [StoredItem("new", 'A, "quoted"\ntitle', "text", ("War", "a|b")), StoredItem("i1", "other", None, ())]
    )
    state.write_events([Event("u3", "new", 1_700_000_000, "a"), Event("zoe", "i1", 7, "b"), Event("zoe", "i2", 9, "c")])
    done = export(run.dataset, state, tmp_path / "out")
    export(run.dataset, state, tmp_path / "out")
    data = read_table(done.interactions, done.items)
    assert data.n_interactions == run.dataset.n_interactions + 3
    u3 = [data.items.id(int(item)) for item in data.sequence(data.users.number("u3"))]
    old = [run.dataset.items.id(int(item)) for item in run.dataset.sequence(run.dataset.users.number("u3"))]
    assert u3 == [*old, "new"]
    assert [data.items.id(int(item)) for item in data.sequence(data.users.number("zoe"))] == ["i1", "i2"]
    new = data.items.number("new")
    assert data.catalogue.titles[new] == 'A, "quoted" title'  # as `prepare` reads titles
    assert data.catalogue.categories[new] == ("War", "a|b")
    assert data.catalogue.titles[data.items.number("i1")] == "Item 1"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").touch()
    with pytest.raises(ConfigError, match="something else"):
        export(run.dataset, state, tmp_path / "other")
    state.close()


def test_a_database_that_is_gone_is_named_and_comes_back(fresh: Callable[..., Any]) -> None:
    own = Postgres()
    try:
        with fresh(database=own.url) as server:
            server.ask("/v1/events", {"events": [{"user_id": "zoe", "item_id": "i1", "key": "a"}]})
            own.stop()
            answer = server.ask("/v1/recommend", {"user": "u3", "k": 2})
            assert answer["part"] == "llm"
            assert "without events" in answer["notes"][0]
            refused = server.refused("/v1/events", {"events": [{"user_id": "zoe", "item_id": "i2", "key": "b"}]}, 503)
            assert "Nothing of this call is stored" in refused["detail"]
            server.refused("/v1/users/zoe/history", None, 503, "GET")
            own.start()
            server.ask("/v1/events", {"events": [{"user_id": "zoe", "item_id": "i2", "key": "b"}]})
            assert server.ask("/v1/users/zoe/history", None, "GET")["length"] == 2
            assert server.ask("/v1/recommend", {"user": "u3", "k": 2})["notes"] == []
    finally:
        with contextlib.suppress(AssertionError):
            own.stop()
        shutil.rmtree(own.folder, ignore_errors=True)


def test_a_database_that_hangs_costs_no_answer(fresh: Callable[..., Any]) -> None:
    own = Postgres()
    try:
        with fresh(database=own.url, deadline_ms=4000) as server:
            server.ask("/v1/events", {"events": [{"user_id": "zoe", "item_id": "i1", "key": "a"}]})
            asked = {"user": "u3", "k": 2, "system": "backbone"}
            own.freeze()
            taken = []
            for _ in range(8):
                start = time.monotonic()
                answer = server.ask("/v1/recommend", asked)
                taken.append(time.monotonic() - start)
                assert (answer["part"], "without events" in answer["notes"][0]) == ("cf", True)
                assert answer["timings"]["total_ms"] >= 900 * taken[-1] - 100
            # The first waits for it, the others know that it was silent.
            assert max(taken) < 3
            assert sorted(taken)[4] < 0.5
            refused = server.refused("/v1/events", {"events": [{"user_id": "zoe", "item_id": "i2", "key": "b"}]}, 503)
            assert "nothing" in refused["detail"]
            own.thaw()
            until = time.monotonic() + 30
            while server.ask("/v1/recommend", asked)["notes"] and time.monotonic() < until:
                time.sleep(0.2)
            server.ask("/v1/events", {"events": [{"user_id": "zoe", "item_id": "i2", "key": "b"}]})
            assert server.ask("/v1/users/zoe/history", None, "GET")["length"] == 2
    finally:
        own.thaw()
        own.remove()


def test_a_full_disk_is_named(url: str) -> None:
    if not url.startswith("sqlite"):
        pytest.skip("SQLite can be told how many pages it may have")
    state = State(url)
    state.write_events([Event("u", "a", 1, "first")])
    with state._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    import sqlalchemy

    @sqlalchemy.event.listens_for(state._engine, "checkout")
    def limited(connection: Any, record: Any, proxy: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    def fill() -> None:
        for n in range(200):
            state.write_events([Event("u" * 400, "a" * 400, 1, f"k{n}")])

    with pytest.raises(ServerError, match="full") as raised:
        fill()
    assert raised.value.status == 507
    assert state.read(["u"])[0]["u"][0].key == "first"
    state.close()


@pytest.mark.parametrize("kills", [3])
def test_what_was_acknowledged_survives_kills(run: Run, tmp_path: Path, kills: int) -> None:
    port = free_port()
    found = killed_while_writing(run.path, tmp_path, port, kills, seed=0)
    assert found.events
    assert (found.lost_events, found.lost_items) == (set(), set())
