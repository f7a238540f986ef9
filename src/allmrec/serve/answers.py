"""What comes back, field by field."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Answer",
    "Answers",
    "Events",
    "History",
    "Item",
    "ItemList",
    "ItemsChanged",
    "OneItem",
    "Out",
    "Reranked",
    "Similar",
    "UserList",
    "example",
]


class Part(BaseModel):
    """What one system alone says of an item."""

    part: str = Field(description="behaviour, text, popularity or language model.")
    system: str = Field(description="Which system says so.")
    score: float | None = Field(description="Its own score; null: it does not know the item.")
    place: int | None = Field(
        description="The item's place by that score among all that may be recommended, of the language model among those that it was "
        "asked about; null: not known."
    )
    of: int = Field(description="Among how many.")


class Recommended(BaseModel):
    """One recommended item."""

    item_id: str
    title: str | None
    categories: list[str]
    score: float = Field(description="Compares within one answer only.")
    added: bool = Field(description="Whether it came after training.")
    parts: list[Part] | None = Field(None, description="With `explain`.")


class Fallback(BaseModel):
    """A system that did not answer."""

    system: str = Field(description="The one that did not.")
    reason: str = Field(description="unknown_user, empty_history, unknown_items, queue_full, deadline, or failed.")
    detail: str = Field(description="In words.")


class Timings(BaseModel):
    """Milliseconds."""

    queue_ms: float = Field(description="Waited for its turn.")
    compute_ms: float = Field(description="Computed, with the others of its batch.")
    total_ms: float = Field(description="From the request to the answer.")
    batch: int = Field(description="Requests that were computed together.")


_TIMINGS = {"queue_ms": 0.3, "compute_ms": 1.1, "total_ms": 203.0, "batch": 1}


def example(**fields: Any) -> ConfigDict:
    """Settings of an answer whose example has these fields, behind those that every answer has."""
    return ConfigDict(
        json_schema_extra={"example": {"request_id": "0f3c9a1be2d44f10", "version": "b2c036208374", **fields}}
    )


class Out(BaseModel):
    """What every answer has."""

    request_id: str = Field(description="Log lines have it too.")
    version: str = Field(description="Which weights answered.")


class Answer(Out):
    """Recommendations for one request."""

    model_config = example(
        label="main",
        system="backbone",
        part="cf",
        answered_by="SASRec",
        note="",
        items=[
            {
                "item_id": "181",
                "title": "Return of the Jedi (1983)",
                "categories": ["Action"],
                "score": 3.2,
                "added": False,
            }
        ],
        skipped=[],
        fallbacks=[{"system": "allmrec", "reason": "deadline", "detail": "No answer within 200 ms."}],
        notes=[],
        timings=_TIMINGS,
    )

    label: str = Field(description="main or beside.")
    system: str = Field(description="Which system answered.")
    part: str = Field(description="What kind of thing answered: llm, towers, cf, popularity, or baseline.")
    answered_by: str = Field(
        description="Name, as in tables, of what put the items in order; Popularity where nothing is known of a history."
    )
    note: str = Field(description="A sentence where the answer is another than was asked for, say fewer items.")
    items: list[Recommended] = Field(description="Best first.")
    skipped: list[str] = Field(description="Ids that the catalogue does not hold.")
    fallbacks: list[Fallback] = Field(description="Systems that were to answer and did not, and why.")
    notes: list[str] = Field(description="What else was not as usual.")
    timings: Timings


class Answers(Out):
    """Answers to several requests, in their order."""

    answers: list[Answer]


class RerankedDocument(BaseModel):
    """A document in its place."""

    index: int = Field(description="Its place in the request, from 0.")
    relevance_score: float = Field(
        description="Softmax of the system's scores over the documents: they add up to 1, and compare within this answer only."
    )
    document: dict[str, str] | None = Field(None, description="With `return_documents`.")


class Usage(BaseModel):
    """Part of that shape; nothing is charged, so it counts documents."""

    total_tokens: int = 0


class Meta(BaseModel):
    """What other rerankers do not say."""

    label: str
    system: str
    part: str
    skipped: list[str] = Field(description="Lines of the query that are no item.")
    unranked: list[int] = Field(description="Documents that the system cannot rank; they stand last, with relevance 0.")
    fallbacks: list[Fallback]
    notes: list[str]
    timings: Timings


class Reranked(Out):
    """Documents, best first."""

    model_config = example(
        id="0f3c9a1be2d44f10",
        model="allmrec",
        results=[{"index": 1, "relevance_score": 0.8}, {"index": 0, "relevance_score": 0.2}],
        usage={"total_tokens": 2},
        meta={
            "label": "main",
            "system": "allmrec",
            "part": "llm",
            "skipped": [],
            "unranked": [],
            "fallbacks": [],
            "notes": [],
            "timings": _TIMINGS,
        },
    )

    id: str
    model: str
    results: list[RerankedDocument]
    usage: Usage
    meta: Meta


class SimilarItem(BaseModel):
    """One similar item."""

    item_id: str
    title: str | None
    categories: list[str]
    similarity: float = Field(description="Cosine of centred vectors.")


class Similar(Out):
    """Items whose vectors are alike."""

    model_config = example(
        item_id="50",
        by="joint",
        items=[{"item_id": "181", "title": "Return of the Jedi (1983)", "categories": ["Action"], "similarity": 0.91}],
        timings={"queue_ms": 0.1, "compute_ms": 0.4, "total_ms": 2.1, "batch": 1},
    )

    item_id: str
    by: str = Field(description="Whose vectors were compared: joint (stage 1's) or cf.")
    items: list[SimilarItem]
    timings: Timings


class Events(Out):
    """What became of events; they are on disk."""

    model_config = example(stored=1, repeated=0, unknown_items=[])

    stored: int
    repeated: int = Field(description="Events whose key was known.")
    unknown_items: list[str] = Field(
        description="Items that the catalogue does not hold; their events count once it does."
    )


class Interaction(BaseModel):
    """One step of a history."""

    item_id: str
    title: str | None
    known: bool = Field(description="Whether the catalogue holds the item.")
    time: int | None
    source: str = Field(description="training or event.")


class History(Out):
    """A user's history, oldest first."""

    model_config = example(
        user_id="42",
        length=1,
        interactions=[
            {"item_id": "50", "title": "Star Wars (1977)", "known": True, "time": 893286638, "source": "training"}
        ],
    )

    user_id: str
    length: int
    interactions: list[Interaction]


class Item(BaseModel):
    """An item."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "item_id": "50",
                "title": "Star Wars (1977)",
                "description": "A farm boy, a princess and a pilot.",
                "categories": ["Action", "Sci-Fi"],
                "added": False,
                "available": True,
            }
        }
    )

    item_id: str
    title: str | None
    description: str | None
    categories: list[str]
    added: bool = Field(description="Whether it came after training.")
    available: bool = Field(description="Whether it may be recommended.")


class OneItem(Out, Item):
    """One item, by itself."""

    model_config = example(
        item_id="181",
        title="Return of the Jedi (1983)",
        description="The rebels take on a second Death Star.",
        categories=["Action", "Sci-Fi"],
        added=False,
        available=True,
    )


class ItemList(Out):
    """Items of the catalogue."""

    items: list[Item]
    after: int | None = Field(description="Give it as `after` for more; null: that was all.")


class UserList(Out):
    """Users of the training data."""

    users: list[str]
    after: int | None = Field(description="Give it as `after` for more; null: that was all.")


class ItemsChanged(Out):
    """What became of items; it is on disk, and every request from now on knows it."""

    model_config = example(changed=1, items=1683)

    changed: int
    items: int = Field(description="Items of the catalogue now.")
