"""A client for `allmrec serve`: what the library answers, over HTTP, with the library's own types and errors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload
from urllib.parse import quote

from allmrec.core import errors
from allmrec.core.errors import AllmrecError, ConfigError, MissingExtraError, ServerError
from allmrec.recommend.request import Recommendation, Recommendations, Request

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncClient", "Client", "ServedRecommendations"]

# Fields of a library's request; the others are the server's.
_OF_LIBRARY = ("history", "user", "k", "candidates", "allow", "deny", "exclude_seen", "unknown")
_OF_SERVER = ("system", "fallback", "deadline_ms", "categories", "diversity")


@dataclass(frozen=True)
class ServedRecommendations(Recommendations):
    """The answer to one request, and how the server came to it.

    Attributes:
        system, part: which system answered, and what kind of thing it is: llm, towers, cf, popularity, or baseline.
        version: of the weights.
        fallbacks: systems that were to answer and did not: `system`, `reason`, `detail`.
        notes: what else was not as usual.
        request_id: of the answer; the server's log lines have it too.
    """

    system: str = ""
    part: str = ""
    version: str = ""
    fallbacks: tuple[Mapping[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    request_id: str = ""


class _Base:
    """What both clients say and understand."""

    def __init__(self, url: str, key: str | None, version: str | None) -> None:
        self._url = url.rstrip("/")
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        if version is not None:
            self._headers["X-Allmrec-Version"] = version

    def _unreached(self, error: Exception) -> ServerError:
        return ServerError(
            f"{self._url} was not reached ({type(error).__name__}: {error}). Is `allmrec serve` running there?"
        )


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise MissingExtraError("httpx", "serve", "The client of a server") from error
    return httpx


def _body(requests: Sequence[Request], server: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in server if name not in _OF_SERVER]
    if unknown:
        raise ConfigError(f"A request has no field {unknown[0]!r}; known are {', '.join((*_OF_LIBRARY, *_OF_SERVER))}.")
    rows = []
    for request in requests:
        row = {name: getattr(request, name) for name in _OF_LIBRARY if getattr(request, name) is not None}
        rows.append(
            {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()} | dict(server)
        )
    return {"requests": rows}


def _one(fields: Mapping[str, Any]) -> tuple[list[Request], dict[str, Any]]:
    of_server = {name: value for name, value in fields.items() if name not in _OF_LIBRARY}
    return [Request(**{name: value for name, value in fields.items() if name in _OF_LIBRARY})], of_server


def _answers(body: Mapping[str, Any]) -> list[ServedRecommendations]:
    return [
        ServedRecommendations(
            tuple(Recommendation(item["item_id"], item["title"], item["score"]) for item in one["items"]),
            tuple(one["skipped"]),
            one["system"],
            one["part"],
            one["version"],
            tuple(one["fallbacks"]),
            tuple(one["notes"]),
            one["request_id"],
        )
        for one in body["answers"]
    ]


def _checked(answer: httpx.Response) -> dict[str, Any]:
    """The body of an answer, or the error that it is."""
    if answer.status_code < 400:
        body: dict[str, Any] = answer.json()
        return body
    raise _error(answer)


def _error(answer: httpx.Response) -> AllmrecError:
    try:
        problem = answer.json()
        name, detail = str(problem["type"]).rpartition(":")[2], str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        name, detail = "ServerError", f"The server answered {answer.status_code} without a word that is known."
    kind = getattr(errors, name, ServerError) if name in errors.__all__ else ServerError
    seconds = answer.headers.get("Retry-After", "")
    if not issubclass(kind, AllmrecError) or kind is ServerError:
        return ServerError(detail, answer.status_code, float(seconds) if seconds.isdigit() else None)
    # The words are whole already; some kinds would put their own around them.
    error = kind.__new__(kind)
    Exception.__init__(error, detail)
    return error


def _said(lines: Iterable[str]) -> Iterator[str]:
    """Pieces of server-sent events, line by line."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = json.loads(line.removeprefix("data: "))
            if name == "error":
                raise ServerError(str(data["detail"]), 200)
            if name == "piece":
                yield str(data["text"])


class Client(_Base):
    """Asks a server that `allmrec serve` started.

        with Client("http://127.0.0.1:8000") as client:
            client.recommend(history=["i1", "i2"], k=5)

    Args:
        url: where it listens.
        key: an API key, where it asks for one.
        version: which of the versions side by side is to answer; none: by the server's share.
        timeout: seconds until an answer is given up.
        transport: of httpx, in place of the network.

    Raises:
        MissingExtraError: httpx is not installed.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        key: str | None = None,
        version: str | None = None,
        timeout: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, key, version)
        self._client: httpx.Client = _httpx().Client(
            base_url=self._url, headers=self._headers, timeout=timeout, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    @overload
    def recommend(self, requests: Sequence[Request], /, **server: Any) -> list[ServedRecommendations]: ...

    @overload
    def recommend(self, /, **request: Any) -> ServedRecommendations: ...

    def recommend(
        self, requests: Sequence[Request] | None = None, /, **fields: Any
    ) -> list[ServedRecommendations] | ServedRecommendations:
        """Recommend from the whole catalogue, as `Recommender.recommend` does.

        Args:
            requests: answered together; or
            fields: the fields of a single `Request`. In either case beside them what only a server has: `system`,
                `fallback`, `deadline_ms`, `categories`, `diversity`.

        Returns:
            An answer for each request; or the answer to the single one.

        Raises:
            UnknownIdError, ConfigError: as the library does.
            ServerError: the server was not reached, or is busy, or refuses the key.
        """
        if requests is not None:
            return _answers(self._call("POST", "/v1/recommend", _body(requests, fields)))
        return _answers(self._call("POST", "/v1/recommend", _body(*_one(fields))))[0]

    def rerank(self, query: str | Sequence[str], documents: Sequence[str], **fields: Any) -> dict[str, Any]:
        """Put documents in order for a history; see `POST /v1/rerank`."""
        body = {"query": query if isinstance(query, str) else list(query), "documents": list(documents), **fields}
        return self._call("POST", "/v1/rerank", body)

    def similar(self, item_id: str, k: int = 10, by: str | None = None) -> list[tuple[str, float]]:
        """Ids of the items whose vectors are most alike, with the cosine."""
        found = self._call("POST", "/v1/similar", {"item_id": item_id, "k": k, "by": by})
        return [(item["item_id"], item["similarity"]) for item in found["items"]]

    def add_events(self, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Store interactions: `user_id`, `item_id`, and `time`, `key` where there are any. They are on disk behind it."""
        return self._call("POST", "/v1/events", {"events": [dict(event) for event in events]})

    def history(self, user_id: str) -> list[str]:
        """Item ids of a user's history, oldest first."""
        found = self._call("GET", f"/v1/users/{_quoted(user_id)}/history?limit=10000")
        return [one["item_id"] for one in found["interactions"]]

    def add_items(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Take up new items from their texts alone, as `ALLMRec.add_items` does; they can be recommended at once."""
        return self._call("PUT", "/v1/items", {"items": [dict(item) for item in items]})

    def remove_item(self, item_id: str) -> dict[str, Any]:
        """Forget an item that came after training; one that came with the run is not recommended any more."""
        return self._call("DELETE", f"/v1/items/{_quoted(item_id)}")

    def model(self) -> dict[str, Any]:
        """Which versions are served, with which systems and limits."""
        return self._call("GET", "/v1/model")

    def explain(
        self,
        item_id: str | None = None,
        *,
        user: str | None = None,
        history: Sequence[str] | None = None,
        about: str = "reason",
    ) -> Iterator[str]:
        """What the language model says, piece by piece as it is decoded; see `ALLMRec.explain`."""
        body = _question(item_id, user, history, about)
        httpx = _httpx()
        try:
            with self._client.stream("POST", "/v1/explain", json=body) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    raise _error(answer)
                yield from _said(answer.iter_lines())
        except httpx.TransportError as error:
            raise self._unreached(error) from error

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        httpx = _httpx()
        try:
            return _checked(self._client.request(method, path, json=body))
        except httpx.TransportError as error:
            raise self._unreached(error) from error


class AsyncClient(_Base):
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
        self._client: httpx.AsyncClient = _httpx().AsyncClient(
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
            return _answers(await self._call("POST", "/v1/recommend", _body(requests, fields)))
        return _answers(await self._call("POST", "/v1/recommend", _body(*_one(fields))))[0]

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
        found = await self._call("GET", f"/v1/users/{_quoted(user_id)}/history?limit=10000")
        return [one["item_id"] for one in found["interactions"]]

    async def add_items(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """See `Client.add_items`."""
        return await self._call("PUT", "/v1/items", {"items": [dict(item) for item in items]})

    async def remove_item(self, item_id: str) -> dict[str, Any]:
        """See `Client.remove_item`."""
        return await self._call("DELETE", f"/v1/items/{_quoted(item_id)}")

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
        body = _question(item_id, user, history, about)
        httpx = _httpx()
        try:
            async with self._client.stream("POST", "/v1/explain", json=body) as answer:
                if answer.status_code >= 400:
                    await answer.aread()
                    raise _error(answer)
                name = ""
                async for line in answer.aiter_lines():
                    name = line.removeprefix("event: ") if line.startswith("event: ") else name
                    for piece in _said([f"event: {name}", line] if line.startswith("data: ") else []):
                        yield piece
        except httpx.TransportError as error:
            raise self._unreached(error) from error

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        httpx = _httpx()
        try:
            return _checked(await self._client.request(method, path, json=body))
        except httpx.TransportError as error:
            raise self._unreached(error) from error


def _question(item_id: str | None, user: str | None, history: Sequence[str] | None, about: str) -> dict[str, Any]:
    given = {"item_id": item_id, "user": user, "history": None if history is None else list(history), "about": about}
    return {name: value for name, value in given.items() if value is not None}


def _quoted(name: str) -> str:
    return quote(str(name), safe="")
