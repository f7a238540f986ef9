"""The client."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
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

__all__ = ["Client"]

Answer = TypeVar("Answer")


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
        ConfigError: a key or a version that no header can hold: they are printable ASCII.
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
                `fallback`, `deadline_ms`, `categories`, `diversity`, `explain`.

        Returns:
            An answer for each request; or the answer to the single one.

        Raises:
            UnknownIdError, ConfigError: as the library does.
            ServerError: the server was not reached, or is busy, or refuses the key.
        """
        if requests is not None:
            return self._call(calls.recommend(requests, fields))
        return self._call(calls.recommend_one(fields))

    def rerank(
        self, query: str | Sequence[str], documents: Sequence[str | Mapping[str, Any]], **fields: Any
    ) -> answers.Reranked:
        """Put documents in order for a history; see `POST /v1/rerank`."""
        return self._call(calls.rerank(query, documents, fields))

    def similar(self, item_id: str, k: int = 10, by: str | None = None) -> list[tuple[str, float]]:
        """Ids of the items whose vectors are most alike, with the cosine."""
        return self._call(calls.similar(item_id, k, by))

    def add_events(self, events: Sequence[Mapping[str, Any]], idempotency_key: str | None = None) -> answers.Events:
        """Store interactions; they are on disk once the answer is there.

        Args:
            events: `user_id`, `item_id`, and `time`, `key` where there are any.
            idempotency_key: of the call. The same call with the same key again stores nothing twice.

        Raises:
            ConfigError: `idempotency_key` is not printable ASCII, or the server refuses an event.
        """
        return self._call(calls.add_events(events, idempotency_key))

    def history(self, user_id: str) -> list[str]:
        """Item ids of a user's history, oldest first."""
        return self._call(calls.history(user_id))

    def users(self, query: str = "", limit: int = 20, after: int = 0) -> answers.UserList:
        """Users of the training data.

        Args:
            query: how the id begins; empty: any.
            limit: how many, 100 at the most.
            after: the `after` of the last answer, for more.
        """
        return self._call(calls.users(query, limit, after))

    def search(self, query: str = "", limit: int = 20, after: int = 0) -> answers.ItemList:
        """Items of the catalogue.

        Args:
            query: words that the title holds, or an id; empty: any.
            limit: how many, 100 at the most.
            after: the `after` of the last answer, for more.
        """
        return self._call(calls.search(query, limit, after))

    def get_item(self, item_id: str) -> answers.OneItem:
        """One item.

        Raises:
            UnknownIdError: the catalogue does not hold it.
        """
        return self._call(calls.get_item(item_id))

    def add_items(self, items: Sequence[Mapping[str, Any]]) -> answers.ItemsChanged:
        """Take up new items from their texts alone, as `ALLMRec.add_items` does; they can be recommended at once."""
        return self._call(calls.add_items(items))

    def change_item(self, item_id: str, **changes: Unpack[ItemChanges]) -> answers.ItemsChanged:
        """Change some of an item: texts of one that came after training, `available` of any.

        Args:
            item_id: the item.
            changes: `title`, `description`, `categories`, `available`. What is not given stays; None takes a text away.
        """
        return self._call(calls.change_item(item_id, changes))

    def remove_item(self, item_id: str) -> answers.ItemsChanged:
        """Forget an item that came after training; one that came with the run is not recommended any more."""
        return self._call(calls.remove_item(item_id))

    def model(self) -> status.ServedModel:
        """Which versions are served, with which systems and limits."""
        return self._call(calls.model())

    def report(self) -> status.Reported:
        """The run's last evaluation.

        Raises:
            UnknownIdError: the run has none.
        """
        return self._call(calls.report())

    def ready(self) -> bool:
        """Whether a model is loaded; False while it is being loaded, and once the server is about to end.

        Raises:
            ServerError: nobody was reached.
        """
        return self._call(calls.ready())

    def reload(
        self, run: str | os.PathLike[str] | None = None, label: Literal["main", "beside"] = "main"
    ) -> status.Reloaded:
        """Let a newly trained run take over; it needs a key of the role admin.

        Args:
            run: folder of another run, on the server's machine; none: the same folder, trained anew.
            label: which of the versions side by side, main or beside.

        Raises:
            ServerError: the key may not, or the run was refused.
        """
        return self._call(calls.reload(run, label))

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

    def _call(self, call: Call[Answer]) -> Answer:
        http = httpx_module()
        headers = dict(call.headers)
        try:
            answer = self._client.request(call.method, call.path, json=call.body, headers=headers)
        except http.TransportError as error:
            raise self.unreached(error) from error
        return call.answer(answer)
