"""What may be asked, field by field. Limits that a server can set are checked where requests are answered."""

from __future__ import annotations

from collections.abc import Callable
from types import UnionType
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictStr,
    Tag,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)

from allmrec.serve.fields import Ids, IdText, In, Text, without_nul

__all__ = [
    "EventIn",
    "EventsIn",
    "ExplainIn",
    "ItemChange",
    "ItemIn",
    "ItemsIn",
    "RecommendIn",
    "RecommendMany",
    "RecommendOne",
    "ReloadIn",
    "RerankIn",
    "SimilarIn",
]

_SECONDS = 253_402_300_799  # the end of the year 9999


class _About(In):
    """Whom a request is about."""

    user: IdText | None = Field(
        None, description="A user of the training data, or of events; the whole history is used."
    )
    history: Ids | None = Field(None, description="Item ids, oldest first; may be empty.")
    system: Annotated[StrictStr, Field(max_length=100)] | None = Field(
        None, description="Which system answers; none: the server's own. `GET /v1/model` lists them."
    )
    fallback: bool = Field(
        True,
        description="Whether a cheaper system takes over where the asked one cannot answer; the answer says which and why.",
    )
    unknown: Literal["skip", "fail"] = Field(
        "skip", description="Ids that the catalogue does not hold: leave them out and name them in the answer, or fail."
    )
    deadline_ms: float | None = Field(
        None,
        gt=0,
        le=600_000,
        description="How long the answer may take, in milliseconds; behind it a cheaper system takes over.",
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> _About:
        if (self.user is None) == (self.history is None):
            raise ValueError("give either a history or a user, not both and not neither")
        return self


class RecommendOne(_About):
    """One request for recommendations from the whole catalogue."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"user": "42", "k": 5}, {"history": ["50", "181"], "k": 5, "diversity": 0.3}]}
    )

    k: int = Field(10, ge=1, le=1_000_000, description="How many items.")
    candidates: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="How many items are retrieved for the ranker; at least k. None: the run's number.",
    )
    allow: Annotated[list[IdText], Field(max_length=100_000)] | None = Field(
        None, description="Items that alone may come."
    )
    deny: Annotated[list[IdText], Field(max_length=100_000)] = Field([], description="Items that may not come.")
    categories: Annotated[list[Text], Field(min_length=1, max_length=1000)] | None = Field(
        None, description="Only items that have one of these categories."
    )
    exclude_seen: bool = Field(True, description="Leave out what the history holds.")
    diversity: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Weight of dissimilarity (maximal marginal relevance over item vectors); 0: by score alone. Scores stay "
        "those of the system, so with a weight above 0 they need not fall from item to item.",
    )
    explain: bool = Field(
        False, description="Say for each item where behaviour, text and popularity alone would put it (`parts`)."
    )


class RecommendMany(In):
    """Several requests, which are computed together."""

    requests: list[RecommendOne] = Field(min_length=1, max_length=10_000, description="The requests.")


def _which(value: Any) -> str:
    found = value.get("requests") if isinstance(value, dict) else getattr(value, "requests", None)
    return "one" if found is None else "many"


RecommendIn: TypeAlias = Annotated[
    Annotated[RecommendOne, Tag("one")] | Annotated[RecommendMany, Tag("many")], Discriminator(_which)
]


class DocumentIn(In):
    """A document as Jina and Cohere write it: an item by its id, or what is known of one. Other fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    id: IdText | None = Field(None, description="An item's id.")
    title: Text | None = Field(None, description="An item's title, or that of an item that is not in the catalogue.")
    text: Text | None = Field(
        None,
        description="Beside a title the description of an item that is not in the catalogue; alone it stands for the title.",
    )

    @model_validator(mode="after")
    def _something(self) -> DocumentIn:
        if self.id is None and self.title is None and self.text is None:
            raise ValueError("a document has an id, a title or a text; found none of them")
        return self


def _text_or(kind: type | UnionType) -> Callable[[Any], str | None]:
    """Tells a text from what else may stand in its place."""
    return lambda value: "text" if isinstance(value, str) else "other" if isinstance(value, kind) else None


def _inside(value: Any) -> Any:
    """The text of a query that is an object, as Jina writes it."""
    if not isinstance(value, dict):
        return value
    if "text" not in value:
        raise ValueError("an object that is a query has a text")
    return value["text"]


def _null_is(default: bool) -> tuple[BeforeValidator, WithJsonSchema]:
    """Takes null for a switch that is absent."""
    return (
        BeforeValidator(lambda value: default if value is None else value),
        WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "null"}]}),
    )


_TEXT = TypeAdapter(Text).json_schema()
_OBJECT = {"type": "object", "properties": {"text": _TEXT}, "required": ["text"]}

Document: TypeAlias = Annotated[
    Annotated[Text, Tag("text")] | Annotated[DocumentIn, Tag("other")],
    Discriminator(
        _text_or(dict | DocumentIn),
        custom_error_type="document",
        custom_error_message="a document is a text, or an object with an id, a title or a text",
    ),
]
History: TypeAlias = Annotated[
    Annotated[Text, BeforeValidator(_inside), WithJsonSchema({"anyOf": [_TEXT, _OBJECT]}), Tag("text")]
    | Annotated[Ids, Tag("other")],
    Discriminator(
        lambda value: "text" if isinstance(value, dict) else _text_or(list)(value),
        custom_error_type="query",
        custom_error_message="a query is a list of item ids, or a text with an item a line",
    ),
]


class RerankIn(BaseModel):
    """What Jina's and Cohere's rerankers take, and Gorse's ranker sends. Fields that mean nothing here are ignored."""

    model_config = ConfigDict(
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {"query": ["50", "181"], "documents": ["172", "1", "Toy Story (1995)"], "top_n": 2},
                {
                    "model": "allmrec",
                    "query": "Star Wars (1977)\nReturn of the Jedi (1983)",
                    "documents": ["Alien (1979)", {"title": "Heat (1995)", "text": "A thief and a detective."}],
                },
            ]
        },
    )

    model: Annotated[StrictStr, Field(max_length=200)] | None = Field(
        None, description="A system's name; any other name means the server's own system."
    )
    query: History = Field(
        description="A history: item ids, or a text with an item a line, by id or by title, which may stand in an object as its `text`."
    )
    documents: list[Document] = Field(
        min_length=1, max_length=10_000, description="Items by id, by title, or new ones by their text."
    )
    top_n: int | None = Field(None, ge=1, le=1_000_000, description="How many come back; none: all.")
    return_documents: Annotated[bool, *_null_is(False)] = Field(False, description="Whether texts come back too.")
    user: IdText | None = Field(None, description="The user whose history `query` is, where the data holds it.")
    deadline_ms: float | None = Field(None, gt=0, le=600_000, description="As in a recommendation.")
    fallback: Annotated[bool, *_null_is(True)] = Field(True, description="As in a recommendation.")


class SimilarIn(In):
    """Items whose vectors are alike."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"item_id": "50", "k": 5}]})

    item_id: IdText = Field(description="The item.")
    k: int = Field(10, ge=1, le=1_000_000, description="How many.")
    by: Literal["joint", "cf"] | None = Field(
        None, description="joint: stage 1's vectors; cf: the CF model's. None: joint where A-LLMRec is served."
    )


class ExplainIn(In):
    """What the language model is asked to say."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"user": "42", "item_id": "50", "about": "reason"}, {"user": "42", "about": "profile"}]
        }
    )

    user: IdText | None = Field(None, description="Whom for.")
    history: Ids | None = Field(None, description="Or whose history.")
    item_id: IdText | None = Field(None, description="The item that is spoken of; none for a profile.")
    about: Literal["genres", "reason", "profile"] = Field("reason", description="What is asked.")

    @model_validator(mode="after")
    def _fits(self) -> ExplainIn:
        if (self.user is None) == (self.history is None):
            raise ValueError("give either a history or a user, not both and not neither")
        if (self.about == "profile") != (self.item_id is None):
            raise ValueError("a profile speaks of the user and takes no item_id; genres and reason need one")
        return self


class EventIn(In):
    """An interaction."""

    user_id: IdText = Field(description="Who.")
    item_id: IdText = Field(description="With what.")
    time: Annotated[int, Field(ge=0, le=_SECONDS)] | None = Field(None, description="Unix seconds; none: now.")
    key: Annotated[StrictStr, Field(min_length=1, max_length=200), AfterValidator(without_nul)] | None = Field(
        None, description="Makes a repeated call one event. Without it each call is a new event."
    )


class EventsIn(In):
    """Interactions at run time."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"events": [{"user_id": "42", "item_id": "50", "time": 893286638, "key": "order-7-1"}]}]
        }
    )

    events: list[EventIn] = Field(min_length=1, max_length=100_000, description="All are stored, or none.")


class ItemText(In):
    """What is known of an item."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"title": "Alien (1979)", "categories": ["Horror", "Sci-Fi"]}]}
    )

    title: Text | None = Field(None, description="Its title.")
    description: Text | None = Field(None, description="Its description.")
    categories: Annotated[list[Annotated[Text, Field(max_length=500)]], Field(max_length=100)] = Field(
        [], description="Its categories."
    )


class ItemIn(ItemText):
    """A new item, known by its texts."""

    item_id: IdText = Field(description="Its id.")


class ItemsIn(In):
    """New items."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"items": [{"item_id": "new-1", "title": "Alien (1979)", "categories": ["Horror"]}]}]
        }
    )

    items: list[ItemIn] = Field(min_length=1, max_length=100_000, description="All are taken up, or none.")


class ItemChange(In):
    """What is to be another."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"title": "Alien (1979)"}, {"available": False}]})

    title: Text | None = Field(None, description="Another title; null: none.")
    description: Text | None = Field(None, description="Another description; null: none.")
    categories: Annotated[list[Annotated[Text, Field(max_length=500)]], Field(max_length=100)] | None = Field(
        None, description="Other categories."
    )
    available: bool | None = Field(None, description="Whether it may be recommended.")


class ReloadIn(In):
    """Which version is to take over."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"run": "/srv/runs/shop-2"}]})

    run: Annotated[StrictStr, Field(min_length=1, max_length=4096), AfterValidator(without_nul)] | None = Field(
        None, description="Folder of another run; none: the same folder, trained anew."
    )
    label: Literal["main", "beside"] = Field("main", description="Which of the versions side by side.")
