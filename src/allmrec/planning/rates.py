"""Measured rates, each with where and when it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, TypeAdapter

__all__ = ["RATES", "Rate", "read_rates"]

RATES = "rates.json"


class Rate(BaseModel):
    """One measured figure.

    Attributes:
        value: the figure, in `unit`.
        unit: such as "users a second".
        what: what was measured, in words.
        machine: the processor or card that it was measured on, as the benchmark names it.
        date: when, ISO 8601.
        commit: of this project.
        command: which measures it again.
        file: of benchmarks/results, where it stands.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float
    unit: str
    what: str
    machine: str
    date: str
    commit: str
    command: str
    file: str


def read_rates() -> Mapping[str, Rate]:
    """The rates that come with the package, by name."""
    text = files("allmrec.planning").joinpath(RATES).read_text(encoding="utf-8")
    return TypeAdapter(dict[str, Rate]).validate_json(text)
