"""What comes back about the server itself: which versions it serves, whether it is ready, its limits."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from allmrec.serve.answers import Out, example

__all__ = ["Readiness", "Reloaded", "Reported", "ServedModel"]


class Reloaded(Out):
    """Which version took over."""

    label: str
    before: str = Field(description="The version that was served until now.")


class Readiness(BaseModel):
    """Whether requests are answered."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"status": "ready", "versions": {"main": "b2c036208374"}}},
    )

    status: str = Field(description="ready, loading, or stopping.")
    versions: dict[str, str] = Field({}, description="The versions that are served, by label.")


class ServedSystem(BaseModel):
    """A system that may be asked."""

    name: str = Field(description="As `system` of a request.")
    title: str = Field(description="Its name, as in tables.")
    part: str = Field(description="llm, towers, cf, popularity, or baseline.")
    asks_language_model: bool = Field(description="Whether an answer of it takes the language model's time.")


class ServedVersion(BaseModel):
    """One of the versions side by side."""

    label: str = Field(description="main or beside.")
    version: str = Field(description="Of the weights.")
    default_system: str = Field(description="Which system answers where a request names none.")
    systems: list[ServedSystem]
    fallbacks: list[str] = Field(description="Systems that take over from one another, the dearest first.")
    users: int = Field(description="Users of the training data.")
    items: int = Field(description="Items of the catalogue, those that came after training among them.")
    items_added: int
    items_withdrawn: int
    categories: list[str]
    language_model: str | None = Field(description="null: none is served, and nothing can be explained.")
    encoder: str | None = Field(description="The sentence encoder.")
    takes_new_items: bool
    data_hash: str = Field(description="Of the training data.")


class Limits(BaseModel):
    """What this server takes at the most."""

    max_k: int = Field(description="Items of an answer.")
    max_requests: int = Field(description="Requests of a call.")
    max_rows: int = Field(description="Events, or items, of a call.")
    max_documents: int = Field(description="Documents of a reranking.")
    max_body: int = Field(description="Bytes of a body.")
    max_queue: int = Field(description="Requests that wait for one part.")
    max_batch: int = Field(description="Requests that are computed together.")
    deadline_ms: float = Field(description="Milliseconds that an answer may take.")
    read_seconds: float = Field(description="Seconds that a request's head, and then its body, may take to come.")
    drain_seconds: float = Field(description="Seconds that requests in hand may take once the server stops.")


class ServedModel(Out):
    """What is served, and this server's limits."""

    model_config = example(
        versions=[
            {
                "label": "main",
                "version": "b2c036208374",
                "default_system": "allmrec",
                "systems": [
                    {"name": "allmrec", "title": "A-LLMRec", "part": "llm", "asks_language_model": True},
                    {"name": "backbone", "title": "SASRec", "part": "cf", "asks_language_model": False},
                    {"name": "popularity", "title": "Popularity", "part": "popularity", "asks_language_model": False},
                ],
                "fallbacks": ["allmrec", "backbone", "popularity"],
                "users": 943,
                "items": 1683,
                "items_added": 1,
                "items_withdrawn": 0,
                "categories": ["Action", "Sci-Fi"],
                "language_model": "smollm2",
                "encoder": "all-minilm-l6-v2",
                "takes_new_items": True,
                "data_hash": "9f2c5b7a01de",
            }
        ],
        share=0.0,
        limits={
            "max_k": 100,
            "max_requests": 64,
            "max_rows": 1000,
            "max_documents": 200,
            "max_body": 1000000,
            "max_queue": 128,
            "max_batch": 32,
            "deadline_ms": 10000.0,
            "read_seconds": 10.0,
            "drain_seconds": 30.0,
        },
    )

    versions: list[ServedVersion] = Field(description="The main one first.")
    share: float = Field(description="Share of the users whom the version beside answers.")
    limits: Limits


class Reported(Out):
    """The run's last evaluation."""

    model_config = example(
        report={
            "scenario": "all",
            "part": "test",
            "n_candidates": 20,
            "ks": [1],
            "systems": [{"name": "SASRec", "metrics": {"Hit@1": {"value": 0.41, "low": 0.38, "high": 0.44}}}],
        }
    )

    report: dict[str, Any] = Field(description="As `allmrec evaluate` wrote it.")
