"""The client answers as the library does, and raises what it raises."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from allmrec.client import AsyncClient, Client, wire
from allmrec.core.errors import ConfigError, ServerError, UnknownIdError
from allmrec.library import Run
from allmrec.recommend.request import Request
from allmrec.serve.keys import add_key
from allmrec.serve.requests import RecommendOne
from tests.serve.conftest import Served


def test_client_and_library_give_equal_answers(server: Served, run: Run) -> None:
    model = run.recommender()
    requests = [
        Request(user="u3", k=3),
        Request(history=["i1", "i2"], k=2, deny=["i9"]),
        Request(history=["i30"], exclude_seen=False),
    ]
    with Client(server.url) as client:
        found = client.recommend(requests, fallback=False)
        for one, wanted in zip(found, model.recommend(requests), strict=True):
            assert one.items == wanted.items
            assert one.skipped == wanted.skipped
            assert one.part == "llm"
        single = client.recommend(user="u3", k=3)
        assert single.items == found[0].items
        assert single.version == client.model().version
        assert client.recommend(history=[], system="backbone").fallbacks[0]["reason"] == "empty_history"


def test_explained_answers_carry_what_the_server_says(server: Served) -> None:
    said = server.ask("/v1/recommend", {"user": "u3", "k": 2, "explain": True, "unknown": "fail"})
    with Client(server.url) as client:
        found = client.recommend(user="u3", k=2, explain=True)
        plain = client.recommend([Request(user="u3", k=2)])[0]
    assert (found.label, found.system) == ("main", said["system"])
    assert found.timings is not None
    assert found.timings.total_ms > 0
    for item, row in zip(found, said["items"], strict=True):
        assert (item.item_id, item.title, item.score) == (row["item_id"], row["title"], row["score"])
        assert item.categories == tuple(row["categories"]) != ()
        assert not item.added
        assert item.parts is not None
        assert [part.model_dump() for part in item.parts] == row["parts"]
        assert pickle.loads(pickle.dumps(item)).parts == item.parts  # noqa: S301  # our own
    assert found[0].parts
    assert plain[0].parts is None


def test_every_field_of_a_request_can_be_given() -> None:
    assert {*wire._OF_LIBRARY, *wire._OF_SERVER} == set(RecommendOne.model_fields)


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, Any]:
        found = {name: value for name, value in vars(kind).items() if not name.startswith("_") and callable(value)}
        return {name: [*inspect.signature(value).parameters.values()] for name, value in found.items()}

    assert methods(AsyncClient) == methods(Client)


def test_both_clients_say_the_same(server: Served) -> None:
    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "recommend": ((), {"user": "u3", "k": 3}),
        "similar": (("i1", 3), {}),
        "rerank": ((["i1"], ["i2", {"id": "i3"}]), {"top_n": 1}),
        "history": (("u3",), {}),
        "users": (("u1",), {"limit": 2}),
        "search": (("item 1",), {"limit": 3, "after": 2}),
        "get_item": (("i1",), {}),
        "change_item": (("i1",), {"available": True}),
        "add_events": (([{"user_id": "both", "item_id": "i1", "time": 1, "key": "one"}],), {}),
        "add_items": (([{"item_id": "both", "title": "Item 51"}],), {}),
        "remove_item": (("both",), {}),
        "model": ((), {}),
        "ready": ((), {}),
        "close": ((), {}),
    }

    async def asked() -> tuple[list[str], dict[str, Any]]:
        async with AsyncClient(server.url) as client:
            pieces = [piece async for piece in client.explain("i4", history=["i1"], about="genres")]
            return pieces, {name: await getattr(client, name)(*args, **named) for name, (args, named) in calls.items()}

    with Client(server.url) as client:
        pieces = list(client.explain("i4", history=["i1"], about="genres"))
        mine = {name: getattr(client, name)(*args, **named) for name, (args, named) in calls.items()}
    said, theirs = asyncio.run(asked())
    assert said == pieces
    changing = ("request_id", "id", "timings", "stored", "repeated")

    def plain(value: Any) -> Any:
        if isinstance(value, BaseModel):
            return plain(value.model_dump())
        if isinstance(value, dict):
            return {name: plain(one) for name, one in value.items() if name not in changing}
        return [plain(one) for one in value] if isinstance(value, list) else value

    for name in calls:
        if name == "recommend":
            assert mine[name].items == theirs[name].items
        else:
            assert plain(mine[name]) == plain(theirs[name]), name
    assert (mine["add_events"].stored, theirs["add_events"].repeated) == (1, 1)


def test_client_raises_the_librarys_errors(server: Served, run: Run) -> None:
    model = run.recommender()
    with Client(server.url) as client:
        for request in ({"history": ["gone", "lost"]}, {"user": "nobody"}):
            with pytest.raises(UnknownIdError) as mine:
                model.recommend(**request)
            with pytest.raises(UnknownIdError) as theirs:
                client.recommend(**request)
            assert str(theirs.value) == str(mine.value)
        with pytest.raises(ConfigError, match="not both"):
            client.recommend(user="u3", history=["i1"])
        with pytest.raises(ConfigError, match="no field 'wrong'"):
            client.recommend(user="u3", wrong=1)
        with pytest.raises(ConfigError, match="is not served here"):
            client.recommend(user="u3", system="magic")
        with pytest.raises(UnknownIdError):
            list(client.explain("gone", user="u3"))
    with Client("http://127.0.0.1:9", timeout=2) as client, pytest.raises(ServerError, match="was not reached"):
        client.model()


def test_client_writes(fresh: Callable[..., Any]) -> None:
    with fresh() as server, Client(server.url) as client:
        assert client.add_events([{"user_id": "zoe", "item_id": "i1", "key": "a"}]).stored == 1
        assert client.history("zoe") == ["i1"]
        changed = client.add_items([{"item_id": "new/ä", "title": "Item 50", "description": "Of old."}])
        assert changed.changed == 1
        (found,) = client.recommend(user="zoe", allow=["new/ä"], k=1)
        assert (found.item_id, found.added) == ("new/ä", True)
        client.change_item("new/ä", title="Item 60", categories=["War"])
        item = client.get_item("new/ä")
        # What was not given stays; None takes it away.
        assert (item.title, item.description, item.categories) == ("Item 60", "Of old.", ["War"])
        client.change_item("new/ä", description=None)
        assert client.get_item("new/ä").description is None
        assert [one.item_id for one in client.search("item 60").items] == ["new/ä"]
        client.remove_item("new/ä")
        with pytest.raises(UnknownIdError):
            client.recommend(user="zoe", allow=["new/ä"], k=1)
        with pytest.raises(UnknownIdError):
            client.get_item("new/ä")


@pytest.mark.parametrize("name", [".", "..", "../i1", "a/../b"])
def test_ids_of_dots_are_ids_and_no_steps_in_a_path(fresh: Callable[..., Any], name: str) -> None:
    with fresh() as server, Client(server.url) as client:
        client.add_events([{"user_id": name, "item_id": "i1"}])
        assert client.history(name) == ["i1"]
        with pytest.raises(UnknownIdError):
            client.get_item(name)
        client.add_items([{"item_id": name, "title": "Item 50"}])
        assert client.get_item(name).item_id == name
        client.change_item(name, title="Item 60")
        assert client.get_item(name).title == "Item 60"
        client.remove_item(name)
        with pytest.raises(UnknownIdError):
            client.get_item(name)


@pytest.mark.parametrize("value", ["schlüssel", "key\n", " key", "a\x7fb", ""])
def test_what_no_header_can_hold_is_named(value: str) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text="{}"))
    kinds: tuple[Any, ...] = (Client, AsyncClient)
    for name in ("key", "version"):
        for kind in kinds:
            with pytest.raises(ConfigError, match=f"The {name} .* printable ASCII") as refused:
                kind("http://elsewhere", **{name: value})
            assert "schl" not in str(refused.value)
    events = [{"user_id": "u1", "item_id": "i1"}]
    refusing = pytest.raises(ConfigError, match=r"The idempotency_key .* printable ASCII")
    with Client("http://elsewhere", transport=transport) as client, refusing:
        client.add_events(events, idempotency_key=value)

    async def asked() -> None:
        async with AsyncClient("http://elsewhere") as client:
            await client.add_events(events, idempotency_key=value)

    with pytest.raises(ConfigError, match=r"The idempotency_key .* printable ASCII"):
        asyncio.run(asked())


def test_a_repeated_call_stores_its_events_once(server: Served) -> None:
    events = [{"user_id": "twice", "item_id": "i1"}, {"user_id": "twice", "item_id": "i2"}]
    with Client(server.url) as client:
        first, again = (client.add_events(events, idempotency_key="call-1") for _ in range(2))
        assert (first.stored, first.repeated) == (2, 0)
        assert (again.stored, again.repeated) == (0, 2)
        assert client.history("twice") == ["i1", "i2"]


def test_pages_of_users_and_items_follow_one_another(server: Served) -> None:
    with Client(server.url) as client:
        first = client.users(limit=2)
        assert first.after is not None
        assert client.users(limit=2, after=first.after).users == client.users(limit=4).users[2:]
        page = client.search("item", limit=2)
        assert page.after is not None
        assert client.search("item", limit=2, after=page.after).items == client.search("item", limit=4).items[2:]


def test_client_operates(fresh: Callable[..., Any], run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(run.path, folder, ignore=shutil.ignore_patterns("serve"))
    keys = tmp_path / "keys.json"
    key = add_key(keys, "all", ["read", "write", "admin"])
    with fresh(run=folder, keys=keys) as server, Client(server.url, key=key) as client:
        assert client.ready() is True
        with pytest.raises(UnknownIdError, match="has no report"):
            client.report()
        (folder / "report.json").write_text('{"systems": []}')
        assert client.report().report == {"systems": []}
        found = client.reload(run.path)
        assert (found.label, found.before) == ("main", client.model().version)
        assert client.reload().version == found.version
        with pytest.raises(ServerError) as refused:
            client.reload(tmp_path)
        assert refused.value.status == 409
        server.service.draining = True
        assert client.ready() is False
        server.service.draining = False
    with pytest.raises(ServerError, match="was not reached"), Client("http://127.0.0.1:9", timeout=2) as client:
        client.ready()


@pytest.mark.parametrize("body", ["{}", "[]", "<html>"])
def test_an_answer_of_another_server_is_said_to_be_one(body: str) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=body))
    with Client("http://elsewhere", transport=transport) as client:
        for call in (client.model, lambda: client.recommend(user="u1"), lambda: client.history("u1")):
            with pytest.raises(ServerError, match=r"no JSON|same version"):
                call()


def test_importing_the_client_imports_no_server() -> None:
    code = "import sys, allmrec.client; print(*{'fastapi', 'starlette', 'sqlalchemy', 'uvicorn'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
