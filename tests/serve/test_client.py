"""The client answers as the library does, and raises what it raises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from allmrec.client import AsyncClient, Client
from allmrec.core.errors import ConfigError, ServerError, UnknownIdError
from allmrec.library import Run
from allmrec.recommend.request import Request
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
        assert single.version == client.model()["version"]
        assert client.recommend(history=[], system="backbone").fallbacks[0]["reason"] == "empty_history"


def test_both_clients_say_the_same(server: Served) -> None:
    async def asked() -> tuple[Any, ...]:
        async with AsyncClient(server.url) as client:
            pieces = [piece async for piece in client.explain("i4", history=["i1"], about="genres")]
            return (
                (await client.recommend(user="u3", k=3)).items,
                await client.similar("i1", 3),
                (await client.rerank(["i1"], ["i2", "i3"]))["results"],
                await client.history("u3"),
                pieces,
            )

    with Client(server.url) as client:
        assert asyncio.run(asked()) == (
            client.recommend(user="u3", k=3).items,
            client.similar("i1", 3),
            client.rerank(["i1"], ["i2", "i3"])["results"],
            client.history("u3"),
            list(client.explain("i4", history=["i1"], about="genres")),
        )


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
        assert client.add_events([{"user_id": "zoe", "item_id": "i1", "key": "a"}])["stored"] == 1
        assert client.history("zoe") == ["i1"]
        client.add_items([{"item_id": "new/ä", "title": "Item 50"}])
        assert [one.item_id for one in client.recommend(user="zoe", allow=["new/ä"], k=1)] == ["new/ä"]
        client.remove_item("new/ä")
        with pytest.raises(UnknownIdError):
            client.recommend(user="zoe", allow=["new/ä"], k=1)
