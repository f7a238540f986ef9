"""The results page's sections on a month of updates; used by `generate_results.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEAD = """\
## A month of weekly updates

What `allmrec update` costs, and what it is worth, on {data} by time: `{command}` ({device}, {date}, commit {commit}). A small CF model of the
recipe `cpu` is trained on the first {interactions:,} interactions ({seconds:.0f} CPU seconds). Then each week's interactions come, and the week after asks: of
every user with a history the first item, among all that the user has not met. "Moved" are the mean cosine distances, items / users, that an update
compares with its `--keep-within` (0.05 by default), from the week before: above it stages 1 and 2 train again. Other work ran on the machine; processor seconds count.
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


STAGES = """\
### The month with stages 1 and 2

The same month for A-LLMRec, small: `{command}` ({device}, {date}, commit {commit}). The recipe `demo` with SmolLM2-135M, a CF model of {dim} numbers, {align:,} samples an
epoch in stage 1 and {tune:,} in stage 2. Anew is everything from nothing each week; updated stages go on for one epoch in place of {align_epochs} and {tune_epochs};
kept ones stay as they were before the month, only the CF model goes on. Each week's users are asked for the first item of the week after among {candidates}
candidates, the same for all ways. "Moved" are the mean cosine distances of items' / users' vectors of the CF model from the week before, and from the
run that the kept stages were trained in. CPU seconds are of the week's training, and what of it is stages 1 and 2.
"""

STAGES_TOGETHER = """\
All weeks together, {users:,} users. A-LLMRec: {of}. {less}. The CF model alone: {alone}.
"""


def stages_section(found: Mapping[str, Any], table: Any, figure: Any) -> list[str]:
    """The parts of the section with stages 1 and 2.

    Args:
        found: `month-stages.json`.
        table: makes a table of rows of cells.
        figure: writes a figure with its interval.
    """
    whole = found["config"]["whole"]
    head = STAGES.format(
        command=found["command"],
        device=found["device"],
        date=found["date"][:10],
        commit=found["commit"][:7],
        dim=whole["pretrain"]["model"]["dim"],
        align=whole["align"]["samples_per_epoch"],
        tune=whole["tune"]["samples_per_epoch"],
        align_epochs=whole["align"]["training"]["epochs"],
        tune_epochs=whole["tune"]["training"]["epochs"],
        candidates=found["candidates"],
    )
    names = {"kept": "kept", "rule": "updated", "anew": "anew"}
    rows = [
        ["week", "users", *(f"NDCG@10, {name}" for name in names.values()), "CF alone, updated", "moved in the week", "moved since",
         *(f"CPU s, {name}" for name in names.values())]
    ]  # fmt: skip
    for week in found["weeks"]:
        ways, ndcg = week["ways"], {way: of["NDCG@10"] for way, of in week["figures"]["allmrec"].items()}
        moved = ways["kept"]["moved"]
        rows.append(
            [
                str(week["week"]),
                f"{week['users']:,}",
                *(f"{ndcg[way]:.4f}" for way in names),
                f"{week['figures']['backbone']['kept']['NDCG@10']:.4f}",
                *(f"{moved[since]['items']:.3f} / {moved[since]['users']:.3f}" for since in ("week", "since")),
                *(_seconds(ways[way]["cpu_seconds"]) for way in names),
            ]
        )
    systems = found["systems"]
    less = systems["allmrec"]["less"]
    together = STAGES_TOGETHER.format(
        users=sum(week["users"] for week in found["weeks"]),
        of="; ".join(
            f"{name} NDCG@10 {figure(systems['allmrec']['month'][way]['NDCG@10'])}, Hit@1 "
            f"{figure(systems['allmrec']['month'][way]['Hit@1'])}"
            for way, name in names.items()
        ),
        less="; ".join(
            f"{pair.replace('rule', 'updated').capitalize()}: NDCG@10 {figure(of['NDCG@10'], '+')}, Hit@1 {figure(of['Hit@1'], '+')}"
            for pair, of in less.items()
        ),
        alone="; ".join(
            f"{name} NDCG@10 {figure(systems['backbone']['month'][way]['NDCG@10'])}"
            for way, name in names.items()
            if way != "rule"
        ),
    )
    return [head, table(rows), together]


def _seconds(of: Mapping[str, float]) -> str:
    return f"{sum(of.values()):.0f} ({of['align'] + of['tune']:.0f})"
