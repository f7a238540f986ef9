"""What a plan is asked for, and a row of its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from allmrec.core.errors import ConfigError

__all__ = ["Row", "Size", "When"]

When = Literal["once", "each time", "online"]


@dataclass(frozen=True)
class Size:
    """What is asked for.

    Attributes:
        users, items: how many.
        interactions: of all users together.
        requests: how many a second are to be served.
        llm: the name of the language model.
        dim: length of item and user vectors.
        cf_epochs, align_epochs, tune_epochs: passes over the users in each training.
        cf_batch: users of one step of the CF model's training; each step moves the whole table of items.
        tuned_users: how many users stage 2 learns from.
        cores, cards: how many share the work of a row.
    """

    users: float
    items: float
    interactions: float
    requests: float = 100
    llm: str = "facebook/opt-6.7b"
    dim: int = 64
    cf_epochs: int = 10
    cf_batch: int = 128
    align_epochs: int = 1
    tune_epochs: int = 1
    tuned_users: float = 1e6
    cores: int = 1
    cards: int = 1

    def __post_init__(self) -> None:
        for name in ("users", "items", "interactions", "requests", "dim", "cores", "cards", "tuned_users", "cf_batch"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is {getattr(self, name):g}; expected a finite number above 0.")


@dataclass(frozen=True)
class Row:
    """The cost of one part of the work.

    Attributes:
        part: data, training, retrieval, scoring or serving.
        what: the work.
        when: once, each time it is done anew, or online, for each request.
        seconds: of all its machines; None where no rate was measured, or where a row is of memory or of machines.
        bytes: of memory or disk; None where nothing was measured or computed.
        machines: how many are busy, of an online row.
        formula: how the figure comes about, with the figures.
        rate: the name of the rate; None where there is none.
    """

    part: str
    what: str
    when: When
    formula: str
    seconds: float | None = None
    bytes: float | None = None
    machines: float | None = None
    rate: str | None = None
