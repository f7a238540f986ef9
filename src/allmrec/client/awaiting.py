"""The client for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, overload

from allmrec.client.wire import (
    Base,
    ServedRecommendations,
    answers_of,
    body_of,
    checked,
    error_of,
    httpx_module,
    one_request,
    question_of,
    quoted,
    said,
)
from allmrec.recommend.request import Request

try:
    import httpx
except ImportError:  # said where a client is made
    httpx = None  # type: ignore[assignment]  # the extra is not installed

__all__ = ["AsyncClient"]


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
            return answers_of(await self._call("POST", "/v1/recommend", body_of(requests, fields)))
        return answers_of(await self._call("POST", "/v1/recommend", body_of(*one_request(fields))))[0]

    async def rerank(self, query: str | Sequence[str], documents: Sequence[str], **fields: Any) -> dict[str, Any]:
        """See `Client.rerank`."""
        body = {"query": query if isinstance(query, str) else list(query), "documents": list(documents), **fields}
        return await self._call("POST", "/v1/rerank", body)

    async def similar(self, item_id: str, k: int = 10, by: str | None = None) -> list[tuple[str, float]]:
        """See `Client.similar`."""
        found = await self._call("POST", "/v1/similar", {"item_id": item_id, "k": k, "by": by})
        return [(item["item_id"], item["similarity"]) for item in found["items"]]

    async def add_events(self, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """See `Client.add_events`."""
        return await self._call("POST", "/v1/events", {"events": [dict(event) for event in events]})

    async def history(self, user_id: str) -> list[str]:
        """See `Client.history`."""
        found = await self._call("GET", f"/v1/users/{quoted(user_id)}/history?limit=10000")
        return [one["item_id"] for one in found["interactions"]]

    async def add_items(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """See `Client.add_items`."""
        return await self._call("PUT", "/v1/items", {"items": [dict(item) for item in items]})

    async def remove_item(self, item_id: str) -> dict[str, Any]:
        """See `Client.remove_item`."""
        return await self._call("DELETE", f"/v1/items/{quoted(item_id)}")

    async def model(self) -> dict[str, Any]:
        """See `Client.model`."""
        return await self._call("GET", "/v1/model")

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

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        http = httpx_module()
        try:
            return checked(await self._client.request(method, path, json=body))
        except http.TransportError as error:
            raise self.unreached(error) from error
