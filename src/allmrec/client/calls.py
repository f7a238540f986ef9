"""What each route is sent, and what is made of its answer. Both clients send these; neither knows a path."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar
from urllib.parse import quote, urlencode

from pydantic import ValidationError

from allmrec.client.wire import ServedRecommendations, answers_of, body_of, checked, in_header, one_request
from allmrec.core.errors import ServerError
from allmrec.recommend.request import Request
from allmrec.serve import answers, status

if TYPE_CHECKING:
    import httpx

__all__ = [
    "Call",
    "ItemChanges",
    "add_events",
    "add_items",
    "change_item",
    "get_item",
    "history",
    "model",
    "ready",
    "recommend",
    "recommend_one",
    "reload",
    "remove_item",
    "report",
    "rerank",
    "search",
    "similar",
    "users",
]

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """One call of the API.

    Attributes:
        method, path, body, headers: what is sent.
        read: makes the answer of the body that comes back.
        also: statuses from 400 on whose body is an answer and no error.
    """

    method: str
    path: str
    read: Callable[[dict[str, Any]], Answer]
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    also: tuple[int, ...] = ()

    def answer(self, found: httpx.Response) -> Answer:
        """What an answer says.

        Raises:
            AllmrecError: the error that it is.
            ServerError: it is none of this API.
        """
        body = checked(found, self.also)
        try:
            return self.read(body)
        except (ValidationError, LookupError, TypeError, AttributeError) as error:
            raise ServerError(
                f"The answer to {self.method} {self.path} is not as this client knows it ({error}). Is the server of the "
                "same version of allmrec?",
                found.status_code,
            ) from error


class ItemChanges(TypedDict, total=False):
    """What of an item is to be another; what is not given stays."""

    title: str | None
    description: str | None
    categories: Sequence[str]
    available: bool


def recommend(requests: Sequence[Request], server: Mapping[str, Any]) -> Call[list[ServedRecommendations]]:
    """Several requests, and the fields that only a server has.

    Raises:
        ConfigError: a field that nobody knows.
    """
    return Call("POST", "/v1/recommend", answers_of, body_of(requests, server))


def recommend_one(fields: Mapping[str, Any]) -> Call[ServedRecommendations]:
    """A single request.

    Raises:
        ConfigError: a field that nobody knows, or values that do not fit.
    """
    return Call("POST", "/v1/recommend", lambda body: answers_of(body)[0], body_of(*one_request(fields)))


def rerank(
    query: str | Sequence[str], documents: Sequence[str | Mapping[str, Any]], fields: Mapping[str, Any]
) -> Call[answers.Reranked]:
    """Documents in order for a history."""
    rows = [one if isinstance(one, str) else dict(one) for one in documents]
    body = {"query": query if isinstance(query, str) else list(query), "documents": rows, **fields}
    return Call("POST", "/v1/rerank", answers.Reranked.model_validate, body)


def similar(item_id: str, k: int, by: str | None) -> Call[list[tuple[str, float]]]:
    """Items that are alike."""

    def read(body: dict[str, Any]) -> list[tuple[str, float]]:
        return [(item["item_id"], item["similarity"]) for item in body["items"]]

    return Call("POST", "/v1/similar", read, {"item_id": item_id, "k": k, "by": by})


def add_events(events: Sequence[Mapping[str, Any]], idempotency_key: str | None) -> Call[answers.Events]:
    """Interactions.

    Raises:
        ConfigError: a key that no header can hold.
    """
    headers = {} if idempotency_key is None else {"Idempotency-Key": in_header(idempotency_key, "idempotency_key")}
    body = {"events": [dict(event) for event in events]}
    return Call("POST", "/v1/events", answers.Events.model_validate, body, headers)


def history(user_id: str) -> Call[list[str]]:
    """A user's history."""

    def read(body: dict[str, Any]) -> list[str]:
        return [one["item_id"] for one in body["interactions"]]

    return Call("GET", f"/v1/users/{_quoted(user_id)}/history?limit=10000", read)


def users(query: str, limit: int, after: int) -> Call[answers.UserList]:
    """Users of the training data."""
    return Call("GET", _asked("/v1/users", query, limit, after), answers.UserList.model_validate)


def search(query: str, limit: int, after: int) -> Call[answers.ItemList]:
    """Items by words of their titles."""
    return Call("GET", _asked("/v1/items", query, limit, after), answers.ItemList.model_validate)


def get_item(item_id: str) -> Call[answers.OneItem]:
    """One item."""
    return Call("GET", f"/v1/items/{_quoted(item_id)}", answers.OneItem.model_validate)


def add_items(items: Sequence[Mapping[str, Any]]) -> Call[answers.ItemsChanged]:
    """New items."""
    return Call("PUT", "/v1/items", answers.ItemsChanged.model_validate, {"items": [dict(item) for item in items]})


def change_item(item_id: str, changes: ItemChanges) -> Call[answers.ItemsChanged]:
    """Some of an item."""
    return Call("PATCH", f"/v1/items/{_quoted(item_id)}", answers.ItemsChanged.model_validate, {**changes})


def remove_item(item_id: str) -> Call[answers.ItemsChanged]:
    """An item that is to go."""
    return Call("DELETE", f"/v1/items/{_quoted(item_id)}", answers.ItemsChanged.model_validate)


def model() -> Call[status.ServedModel]:
    """What is served."""
    return Call("GET", "/v1/model", status.ServedModel.model_validate)


def report() -> Call[status.Reported]:
    """The run's last evaluation."""
    return Call("GET", "/v1/report", status.Reported.model_validate)


def ready() -> Call[bool]:
    """Whether a model is loaded."""
    return Call("GET", "/health/ready", lambda body: body.get("status") == "ready", also=(503,))


def reload(run: str | os.PathLike[str] | None, label: Literal["main", "beside"]) -> Call[status.Reloaded]:
    """Another version."""
    given = {} if run is None else {"run": os.fspath(run)}
    return Call("POST", "/admin/reload", status.Reloaded.model_validate, {**given, "label": label})


def _asked(path: str, query: str, limit: int, after: int) -> str:
    return f"{path}?{urlencode({'query': query, 'limit': limit, 'after': after})}"


def _quoted(name: str) -> str:
    """An id as a part of a path. Where it is dots alone they are quoted too, for in paths they mean a step up, or none."""
    text = quote(str(name), safe="")
    return text.replace(".", "%2E") if text in (".", "..") else text
