"""The results page's section on copying; used by `generate_results.py`, computes no figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_COPYING = """\
### What the start by copying is worth

The recipes for CPUs begin stage 2 with 200 steps in which the user's slot holds a listed item's own vector, with noise (`tune.copying`). The
demo's data and recipe, seed 0, the first 500 test users, 20 candidates; the cells share their CF model and stage 1, and differences are to the
demo's recipe without that start:
`python -m benchmarks.titles plan benchmarks/copying.toml` ([copying.json](../benchmarks/results/titles/copying.json) has device, date, commit).
"""


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
