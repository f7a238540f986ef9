"""The client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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

__all__ = ["Client"]


class Client(Base):
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
        self._client: httpx.Client = httpx_module().Client(
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
            return answers_of(self._call("POST", "/v1/recommend", body_of(requests, fields)))
        return answers_of(self._call("POST", "/v1/recommend", body_of(*one_request(fields))))[0]

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
        found = self._call("GET", f"/v1/users/{quoted(user_id)}/history?limit=10000")
        return [one["item_id"] for one in found["interactions"]]

    def add_items(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Take up new items from their texts alone, as `ALLMRec.add_items` does; they can be recommended at once."""
        return self._call("PUT", "/v1/items", {"items": [dict(item) for item in items]})

    def remove_item(self, item_id: str) -> dict[str, Any]:
        """Forget an item that came after training; one that came with the run is not recommended any more."""
        return self._call("DELETE", f"/v1/items/{quoted(item_id)}")

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
        body = question_of(item_id, user, history, about)
        http = httpx_module()
        try:
            with self._client.stream("POST", "/v1/explain", json=body) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    raise error_of(answer)
                yield from said(answer.iter_lines())
        except http.TransportError as error:
            raise self.unreached(error) from error

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        http = httpx_module()
        try:
            return checked(self._client.request(method, path, json=body))
        except http.TransportError as error:
            raise self.unreached(error) from error
