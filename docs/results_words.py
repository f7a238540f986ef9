"""The results page's sections on genres in words and on copying; used by `generate_results.py`, computes no figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_GENRES = """\
### Genres in words (Figures 4 and 5)

The paper shows by examples that A-LLMRec names the genres of an item and of a user's taste, and that LLM-Only and TALLRec do not. Here it is
counted: what share of the genres that a system names are right. Of an item its own genres are right; of a user those of the next item, which
no system has seen, and those that more than half of the history has. A system that always says "Drama" is often right on films, so
what counts is precision above the base rate: how often the named genres are right of any item. Silent are answers that name no genre.
{device}, {date}, by `benchmarks/genres.py` of commit {commit}, which is the plan `figures4-5` now ([experiments.md](experiments.md)):
[genres.json](../benchmarks/results/genres.json).
"""

_COPYING = """\
### What the start by copying is worth

The recipes for CPUs begin stage 2 with 200 steps in which the user's slot holds a listed item's own vector, with noise (`tune.copying`). The
demo's data and recipe, seed 0, the first 500 test users, 20 candidates; the cells share their CF model and stage 1, and differences are to the
demo's recipe without that start:
`python -m benchmarks.titles plan benchmarks/copying.toml` ([copying.json](../benchmarks/results/titles/copying.json) has device, date, commit).
"""


def genres(found: Mapping[str, Any], table: Any, figure: Any) -> list[str]:
    """Precision above the base rate, of every system and question.

    Args:
        found: `genres.json`.
        table: makes a table of rows of cells.
        figure: makes text of a figure with its interval.
    """
    parts = [
        _GENRES.format(
            device=found["device"], date=found["date"][:10], commit=found["commit"][:7], command=found["command"]
        )
    ]
    if found.get("tallrec"):
        parts.append(found["tallrec"] + "\n")
    rows: list[Sequence[str]] = [
        [
            "asked about",
            "right is",
            "system",
            "answers",
            "silent",
            "precision",
            "base rate",
            "above it",
            "own vectors' precision less",
        ]
    ]
    for asked, kinds in found["right"].items():
        for right, of in kinds.items():
            for system, one in of["systems"].items():
                difference = of["differences"].get(system)
                rows.append([
                    asked, right, system, str(of["answers"]), str(one["silent"]),
                    figure(one["precision"]), figure(one["base_rate"]), figure(one["above_base_rate"], "+"),
                    figure(difference, "+") if difference else "",
                ])  # fmt: skip
    parts.append(table(rows))
    return parts


def copying(rows: Sequence[Sequence[str]], cells: Mapping[str, Any], table: Any) -> list[str]:
    """Hit@1 with and without the start by copying, and what each stage cost.

    Args:
        rows: of the titles' table.
        cells: of `copying.json`.
        table: makes a table of rows of cells.
    """
    costs: list[Sequence[str]] = [["cell", "CF model, CPU s", "stage 1, CPU s", "stage 2, CPU s"]]
    for name, cell in cells.items():
        spent = cell["cpu_seconds_by_stage"]
        costs.append(
            [name, *(f"{spent[stage]:.0f}" if stage in spent else "" for stage in ("pretrain", "align", "tune"))]
        )
    return [_COPYING, table(rows), table(costs)]
