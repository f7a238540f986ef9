"""The results page's section on a month of updates; used by `generate_results.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEAD = """\
## A month of weekly updates

What `allmrec update` costs, and what it is worth, on {data} by time: `{command}` ({device}, {date}, commit {commit}). A small CF model of the
recipe `cpu` is trained on the first {interactions:,} interactions ({seconds:.0f} CPU seconds). Then each week's interactions come, and the week after asks: of
every user with a history the first item, among all that the user has not met. "Moved" are the mean cosine distances, items / users, that an update
compares with its `--keep-within` (0.05 by default): above it stages 1 and 2 train again. Other work ran on the machine; processor seconds count.
"""

TOGETHER = """\
All weeks together, NDCG@10: {ways}. The updated model less the one trained anew {anew}; less the one that was left as it was {left}. Brackets are over
the users of each week.
"""


def section(found: Mapping[str, Any], table: Any, figure: Any) -> list[str]:
    """The section's parts.

    Args:
        found: `month.json`.
        table: makes a table of rows of cells.
        figure: writes a figure with its interval.
    """
    first = found["first"]
    head = HEAD.format(
        data="MovieTweetings" if found["data"].startswith("movietweetings") else found["data"],
        command=found["command"],
        device=found["device"],
        date=found["date"][:10],
        commit=found["commit"][:7],
        interactions=first["interactions"],
        seconds=first["cpu_seconds"],
    )
    rows = [
        ["week", "interactions", "new users, items", "users asked", "CPU s, update", "anew", "NDCG@10, update", "anew", "as it was",
         "moved by update", "moved by training anew"]
    ]  # fmt: skip
    for week in found["weeks"]:
        ndcg, moved = week["ndcg@10"], week["moved"]
        rows.append(
            [
                str(week["week"]),
                f"{week['interactions']:,}",
                f"{week['new_users']}, {week['new_items']}",
                f"{week['asked']:,}",
                *(f"{week['cpu_seconds'][way]:.1f}" for way in ("update", "anew")),
                *(f"{ndcg[way]:.4f}" for way in ("update", "anew", "as it was")),
                *(f"{moved[way]['items']:.3f} / {moved[way]['users']:.3f}" for way in ("update", "anew")),
            ]
        )
    together = TOGETHER.format(
        ways=", ".join(f"{way} {figure(found['month'][way])}" for way in found["month"]),
        anew=figure(found["less"]["anew"], "+"),
        left=figure(found["less"]["as it was"], "+"),
    )
    return [head, table(rows), together]
