"""The results page's section on how time and memory grow; used by `generate_results.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEAD = """\
## How time and memory grow

`python -m benchmarks.growth`, {device}, {dates}, commits {commits}, on drawn data. Each cell is a process of its own:
processor seconds, and in brackets the megabytes by which its memory rose at the most above the imports and, but for preparing and recommending in bulk, above the data set. Four sizes from
the left to the right. Where a tiny language model or encoder is named, it has two or three layers of random weights, so that what grows is our own part; what a
real one takes is a rate ([scale.md](scale.md)). On Ray both are those of all processes of the cluster together, and seconds have the actors' start in them, with their imports. A slope is the exponent of growth, fitted to the logarithms: 1 grows with the size, 0 does not grow. That of
all sizes has what every call costs in it; that of the last two is nearer to what a larger size would do. "Memory" is of the last two as well; below 0 it is noise.
"""


def section(found: Mapping[str, Any], table: Any) -> list[str]:
    """The section's parts.

    Args:
        found: `growth.json`.
        table: makes a table of rows of cells.
    """
    measured = found["rows"].values()
    dates, commits = (", ".join(sorted({of[name][:10] for of in measured})) for name in ("date", "commit"))
    parts = [HEAD.format(device=found["device"], dates=dates, commits=commits)]
    rows: list[Sequence[str]] = [
        ["", "grows", "sizes", *("", "", "", ""), "slope of all", "of the last two", "memory, of the last two"]
    ]
    for of in measured:
        cells = [f"{seconds:,.3g} s ({mb:,.0f})" for seconds, mb in zip(of["cpu_s"], of["mb"], strict=True)]
        sizes = " ".join(f"{size:,}" for size in of["sizes"])
        slopes = [f"{slope:.2f}" for slope in of["slopes"]]
        rows.append([of["what"], of["grows"], sizes, *cells, *slopes])
    parts.append(table(rows))
    return parts
