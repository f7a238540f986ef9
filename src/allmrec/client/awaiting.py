"""The client for asyncio."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, overload

from allmrec.client import calls
from allmrec.client.calls import Call, ItemChanges
from allmrec.client.wire import Base, ServedRecommendations, error_of, httpx_module, question_of, said
from allmrec.recommend.request import Request
from allmrec.serve import answers, status

try:
    import httpx
except ImportError:  # said where a client is made
    httpx = None  # type: ignore[assignment]  # the extra is not installed

__all__ = ["AsyncClient"]

Answer = TypeVar("Answer")


class AsyncClient(Base):
    """The same for asyncio.

        async with AsyncClient("http://127.0.0.1:8000") as client:
            await client.recommend(history=["i1", "i2"], k=5)

    Args:
        url, key, version, timeout: see `Client`.
        transport: of httpx, in place of the network.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        key: str | None = None,
        version: str | None = None,
        timeout: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, key, version)
        self._client: httpx.AsyncClient = httpx_module().AsyncClient(
            base_url=self._url, headers=self._headers, timeout=timeout, transport=transport
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    @overload
    async def recommend(self, requests: Sequence[Request], /, **server: Any) -> list[ServedRecommendations]: ...

    @overload
    async def recommend(self, /, **request: Any) -> ServedRecommendations: ...

    async def recommend(
        self, requests: Sequence[Request] | None = None, /, **fields: Any
    ) -> list[ServedRecommendations] | ServedRecommendations:
        """See `Client.recommend`."""
        if requests is not None:
            return await self._call(calls.recommend(requests, fields))
        return await self._call(calls.recommend_one(fields))

    async def rerank(
        self, query: str | Sequence[str], documents: Sequence[str | Mapping[str, Any]], **fields: Any
    ) -> answers.Reranked:
        """See `Client.rerank`."""
        return await self._call(calls.rerank(query, documents, fields))

    async def similar(self, item_id: str, k: int = 10, by: str | None = None) -> list[tuple[str, float]]:
        """See `Client.similar`."""
        return await self._call(calls.similar(item_id, k, by))

    async def add_events(
        self, events: Sequence[Mapping[str, Any]], idempotency_key: str | None = None
    ) -> answers.Events:
        """See `Client.add_events`."""
        return await self._call(calls.add_events(events, idempotency_key))

    async def history(self, user_id: str) -> list[str]:
        """See `Client.history`."""
        return await self._call(calls.history(user_id))

    async def users(self, query: str = "", limit: int = 20, after: int = 0) -> answers.UserList:
        """See `Client.users`."""
        return await self._call(calls.users(query, limit, after))

    async def search(self, query: str = "", limit: int = 20, after: int = 0) -> answers.ItemList:
        """See `Client.search`."""
        return await self._call(calls.search(query, limit, after))

    async def get_item(self, item_id: str) -> answers.OneItem:
        """See `Client.get_item`."""
        return await self._call(calls.get_item(item_id))

    async def add_items(self, items: Sequence[Mapping[str, Any]]) -> answers.ItemsChanged:
        """See `Client.add_items`."""
        return await self._call(calls.add_items(items))

    async def change_item(self, item_id: str, **changes: Unpack[ItemChanges]) -> answers.ItemsChanged:
        """See `Client.change_item`."""
        return await self._call(calls.change_item(item_id, changes))

    async def remove_item(self, item_id: str) -> answers.ItemsChanged:
        """See `Client.remove_item`."""
        return await self._call(calls.remove_item(item_id))

    async def model(self) -> status.ServedModel:
        """See `Client.model`."""
        return await self._call(calls.model())

    async def report(self) -> status.Reported:
        """See `Client.report`."""
        return await self._call(calls.report())

    async def ready(self) -> bool:
        """See `Client.ready`."""
        return await self._call(calls.ready())

    async def reload(
        self, run: str | os.PathLike[str] | None = None, label: Literal["main", "beside"] = "main"
    ) -> status.Reloaded:
        """See `Client.reload`."""
        return await self._call(calls.reload(run, label))

    async def explain(
        self,
        item_id: str | None = None,
        *,
        user: str | None = None,
        history: Sequence[str] | None = None,
        about: str = "reason",
    ) -> AsyncIterator[str]:
        """See `Client.explain`."""
        body = question_of(item_id, user, history, about)
        http = httpx_module()
        try:
            async with self._client.stream("POST", "/v1/explain", json=body) as answer:
                if answer.status_code >= 400:
                    await answer.aread()
                    raise error_of(answer)
                name = ""
                async for line in answer.aiter_lines():
                    name = line.removeprefix("event: ") if line.startswith("event: ") else name
                    for piece in said([f"event: {name}", line] if line.startswith("data: ") else []):
                        yield piece
        except http.TransportError as error:
            raise self.unreached(error) from error

    async def _call(self, call: Call[Answer]) -> Answer:
        http = httpx_module()
        headers = dict(call.headers)
        try:
            answer = await self._client.request(call.method, call.path, json=call.body, headers=headers)
        except http.TransportError as error:
            raise self.unreached(error) from error
        return call.answer(answer)
