"""What both clients send, and what they make of what comes back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, overload

from allmrec.core import errors
from allmrec.core.errors import AllmrecError, ConfigError, MissingExtraError, ServerError
from allmrec.recommend.request import Recommendation, Recommendations, Request
from allmrec.serve.answers import Answers, Part, Recommended, Timings

try:
    import httpx
except ImportError:  # said where a client is made
    httpx = None  # type: ignore[assignment]  # the extra is not installed

__all__ = [
    "Base",
    "ServedItem",
    "ServedRecommendations",
    "answers_of",
    "body_of",
    "checked",
    "error_of",
    "httpx_module",
    "in_header",
    "one_request",
    "question_of",
    "said",
]

# Fields of a library's request; the others are the server's.
_OF_LIBRARY = ("history", "user", "k", "candidates", "allow", "deny", "exclude_seen", "unknown")
_OF_SERVER = ("system", "fallback", "deadline_ms", "categories", "diversity", "explain")


class ServedItem(Recommendation):
    """One recommended item. It equals the library's item of the same id, title and score.

    Attributes:
        categories: of the item.
        added: whether it came after training.
        parts: where behaviour, text and popularity alone would put it; None where `explain` was not asked for, or could
            not be answered.
    """

    categories: tuple[str, ...] = ()
    added: bool = False
    parts: tuple[Part, ...] | None = None

    @classmethod
    def of(cls, row: Recommended) -> Self:
        """The item that a row of an answer is."""
        made = cls(row.item_id, row.title, row.score)
        made.categories, made.added = tuple(row.categories), row.added
        made.parts = None if row.parts is None else tuple(row.parts)
        return made


@dataclass(frozen=True)
class ServedRecommendations(Recommendations):
    """The answer to one request, and how the server came to it.

    Attributes:
        items: best first.
        system, part: which system answered, and what kind of thing it is: llm, towers, cf, popularity, or baseline.
        version, label: of the weights; the label says which of the versions side by side it is, main or beside.
        fallbacks: systems that were to answer and did not: `system`, `reason`, `detail`.
        notes: what else was not as usual.
        request_id: of the answer; the server's log lines have it too.
        timings: milliseconds that it waited and took.
    """

    items: tuple[ServedItem, ...]
    system: str = ""
    part: str = ""
    version: str = ""
    fallbacks: tuple[Mapping[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    request_id: str = ""
    label: str = ""
    timings: Timings | None = None

    def __iter__(self) -> Iterator[ServedItem]:
        """Items, best first."""
        return iter(self.items)

    @overload
    def __getitem__(self, place: int) -> ServedItem: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[ServedItem, ...]: ...

    def __getitem__(self, place: int | slice) -> ServedItem | tuple[ServedItem, ...]:
        """An item by its place, or several."""
        return self.items[place]


class Base:
    """What both clients say and understand."""

    def __init__(self, url: str, key: str | None, version: str | None) -> None:
        self._url = url.rstrip("/")
        self._headers = {} if key is None else {"Authorization": f"Bearer {in_header(key, 'key')}"}
        if version is not None:
            self._headers["X-Allmrec-Version"] = in_header(version, "version")

    def unreached(self, error: Exception) -> ServerError:
        """What is raised where no answer came."""
        return ServerError(
            f"{self._url} was not reached ({type(error).__name__}: {error}). Is `allmrec serve` running there?"
        )


def in_header(value: str, name: str) -> str:
    """A value as headers can hold it. The error does not show it, for it may be a secret.

    Raises:
        ConfigError: it holds what no header can.
    """
    text = str(value)
    if not (text and text.isascii() and text.isprintable() and text == text.strip()):
        raise ConfigError(
            f"The {name} given to the client must be printable ASCII, not empty and without spaces or line ends around it."
        )
    return text


def httpx_module() -> Any:
    """The package that speaks HTTP.

    Raises:
        MissingExtraError: it is not installed.
    """
    if httpx is None:
        raise MissingExtraError("httpx", "serve", "The client of a server")
    return httpx


def body_of(requests: Sequence[Request], server: Mapping[str, Any]) -> dict[str, Any]:
    """Requests as the server takes them; `server` has the fields that only it knows.

    Raises:
        ConfigError: a field that nobody knows.
    """
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


def one_request(fields: Mapping[str, Any]) -> tuple[list[Request], dict[str, Any]]:
    """A single request from its fields, and the fields that only the server knows."""
    of_server = {name: value for name, value in fields.items() if name not in _OF_LIBRARY}
    return [Request(**{name: value for name, value in fields.items() if name in _OF_LIBRARY})], of_server


def answers_of(body: Mapping[str, Any]) -> list[ServedRecommendations]:
    """The answers in a body."""
    return [
        ServedRecommendations(
            tuple(ServedItem.of(item) for item in one.items),
            tuple(one.skipped),
            answered_by=one.answered_by,
            note=one.note,
            system=one.system,
            part=one.part,
            version=one.version,
            fallbacks=tuple(fallback.model_dump() for fallback in one.fallbacks),
            notes=tuple(one.notes),
            request_id=one.request_id,
            label=one.label,
            timings=one.timings,
        )
        for one in Answers.model_validate(body).answers
    ]


def checked(answer: httpx.Response, also: Sequence[int] = ()) -> dict[str, Any]:
    """The body of an answer, or the error that it is; statuses of `also` are answers too where their body is no problem."""
    plain = not answer.headers.get("content-type", "").startswith("application/problem+json")
    if answer.status_code < 400 or (answer.status_code in also and plain):
        try:
            body = answer.json()
        except ValueError:
            body = None
        if isinstance(body, dict):
            return body
        raise ServerError(f"{answer.url} answered with something that is no JSON object.", answer.status_code)
    raise error_of(answer)


def error_of(answer: httpx.Response) -> AllmrecError:
    """The library's error that an answer is."""
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
    error: AllmrecError = kind.__new__(kind)
    Exception.__init__(error, detail)
    return error


def said(lines: Iterable[str]) -> Iterator[str]:
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


def question_of(item_id: str | None, user: str | None, history: Sequence[str] | None, about: str) -> dict[str, Any]:
    """A question to the language model, as the server takes it."""
    given = {"item_id": item_id, "user": user, "history": None if history is None else list(history), "about": about}
    return {name: value for name, value in given.items() if value is not None}
