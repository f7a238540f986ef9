"""The paper's own figures, to stand beside ours: other data, and a language model fifty times the size.

`paper.json` has them by table, row, group of users and data set (Kim et al., KDD 2024, doi 10.1145/3637528.3671931).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from allmrec.core.errors import ConfigError
from allmrec.data.provenance import Summary

__all__ = ["THEIRS", "PaperCosts", "nearest_set", "paper_costs", "paper_figure", "paper_sets"]

THEIRS = "theirs, other data and a model fifty times the size"


@cache
def _paper() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((resources.files("allmrec.experiments") / "paper.json").read_text("utf-8"))
    return found


def paper_sets(table: str) -> list[str]:
    """Data sets that a table of the paper is about.

    Raises:
        ConfigError: the paper has no such table.
    """
    tables = _paper()["tables"]
    if table not in tables:
        raise ConfigError(f"There are no figures of {table!r} of the paper; there are those of {', '.join(tables)}.")
    return list(dict.fromkeys(name for row in tables[table].values() for group in row.values() for name in group))


@dataclass(frozen=True)
class PaperCosts:
    """What training and inference cost in the paper.

    Attributes:
        hardware: what they ran on.
        rows: by the paper's name minutes of training, and users a second.
    """

    hardware: str
    rows: Mapping[str, tuple[float, float]]


def paper_costs(table: str) -> PaperCosts | None:
    """The costs of a table of the paper; none of one that has none."""
    found = _paper()["costs"].get(table)
    if found is None:
        return None
    rows = {
        name: (row["train_minutes"], 4 / row["inference_seconds_per_batch_of_4"]) for name, row in found["rows"].items()
    }
    return PaperCosts(found["hardware"], rows)


def nearest_set(summary: Summary, sets: Collection[str]) -> str:
    """The paper's data set most like another one: by the ratio of users, of items and of the average length, all alike.

    Args:
        summary: of the other one.
        sets: of which sets to choose; at least one.
    """

    def distance(name: str) -> float:
        theirs = _paper()["sets"][name]
        pairs = (
            (summary.users, theirs["users"]),
            (summary.items, theirs["items"]),
            (summary.average_length, theirs["average_length"]),
        )
        return sum(abs(math.log(max(ours, 1) / their)) for ours, their in pairs)

    return min(sets, key=distance)


def paper_figure(table: str, row: str, group: str, data: str) -> float | None:
    """Hit@1 of a row of the paper; none where it has no such figure."""
    value: float | None = _paper()["tables"].get(table, {}).get(row, {}).get(group, {}).get(data)
    return value
