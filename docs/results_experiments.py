"""The part of docs/results.md about the paper's tables as plans: what became of each claim, and each plan's main table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from allmrec.experiments.claims import CLAIMANTS, ClaimRow, claim_rows, counted
from allmrec.experiments.cuts import cuts_of
from allmrec.experiments.found import Experiment, read_experiment, read_experiments
from allmrec.experiments.markdown import cost_headings, cost_notes, cost_rows, figure_rows, headings, shown
from allmrec.experiments.paper import THEIRS, paper_costs
from allmrec.experiments.scenario_config import ALL

# README has room for fewer columns.
_LEFT_OUT = ("seeds", "MRR")

Table = Callable[[Sequence[Sequence[str]]], str]

_HEAD = """\
## The paper's experiments

Each of the paper's tables as `allmrec experiment` measures it ([experiments.md](experiments.md)), on {sets}: `python -m benchmarks.experiments measure`
with the data and the cuts of [experiments.toml](../benchmarks/experiments.toml). [experiments.html](experiments.html) is the whole report: all figures,
costs, learning curves, ranks, users by title, and what was cut. Intervals are over users, and over seeds where there are several. A
claim *holds* where the whole interval is on the claimed side, *does not hold* where it is on the other, and is *not shown* where it leaves both
open. What several plans claim of the same cells counts once. Figures called theirs are the paper's: {theirs}.

Cells of language models on movietweetings and games were measured on one H200, 47 of them in eleven minutes, up to 16 beside one another
(`python -m benchmarks.experiment_pool`); the others, and all of beauty, on two cores; each cell says where. So their seconds and users a second, Table 10's among
them, say little; some of beauty's were stopped for up to 75 minutes while tests ran beside them, and count that. The cuts tell: TALLRec and A-LLMRec see 8,000 samples here, on beauty 256 and 2,000, and 12,800 and 51,200
[above](#the-papers-objective-a-llmrec-by-titles).
"""

_POSITIONS = """\
The recipe `cpu`, which these plans have, trains A-LLMRec on each user's last item (`tune.positions = last`), and the rows above called seed on all
positions, so Table 1's A-LLMRec compares with `positions-last` above ({last}).
"""


def section(folder: Path, table: Table) -> list[str]:
    """The section's parts; none where nothing was measured.

    Args:
        folder: holds experiments.
        table: makes a table of rows of cells.
    """
    found = [one for one in read_experiments(folder) if one.done]
    if not found:
        return []
    sets = dict.fromkeys(cell.cell.data for one in found for cell in one.done)
    parts = [
        _HEAD.format(sets=", ".join(sets), theirs=THEIRS),
        *_positions(folder.parent / "titles" / "movietweetings.json"),
    ]
    for whose, title in CLAIMANTS.items():
        if rows := claim_rows(found, whose):
            parts += [f"### {title}\n", f"{counted(rows, whose)}\n", table(_claims(rows))]
    for one in found:
        parts += _plan(one, table)
    return parts


def table1(folder: Path, table: Table) -> str | None:
    """README's table of the first set of the plan `table1`; none where it was not measured.

    Args:
        folder: holds experiments.
        table: makes a table of rows of cells.
    """
    if not (folder / "table1" / "experiment.json").is_file():
        return None
    one = read_experiment(folder / "table1")
    part = one.sections[0]
    (kind,) = (kind for kind in part.kinds if kind.group == ALL and kind.metric == "Hit@1")
    rows = [headings(one.record.plan, part, kind), *figure_rows(one.record.plan, part, kind)]
    kept = [number for number, head in enumerate(rows[0]) if head not in _LEFT_OUT and not head.startswith("theirs")]
    return table([[row[number] for number in kept] for row in rows])


def _positions(titles: Path) -> list[str]:
    """Why A-LLMRec has other figures in the page's upper part; nothing where that is not there.

    Args:
        titles: the file of that part.
    """
    rows = json.loads(titles.read_text("utf-8"))["rows"] if titles.is_file() else []
    figures = [
        row["figures"]["all"]["Hit@1"] for row in rows if (row["cell"], row["key"]) == ("positions-last", "allmrec")
    ]
    return [_POSITIONS.format(last=f"Hit@1 {value:.3f} [{low:.3f}, {high:.3f}]") for value, low, high in figures]


def _claims(found: Sequence[ClaimRow]) -> list[list[str]]:
    rows = [["plan", "claim", "where", "direction", "difference", "users", "seeds"]]
    for one in found:
        result, plans = one.result, ", ".join(found.folder.name for found in one.experiments)
        figures = [shown(result.difference, "+"), f"{result.users:,}", str(result.seeds)]
        rows.append([plans, result.claim.text, one.where, result.verdict, *figures])
    return rows


def _plan(one: Experiment, table: Table) -> list[str]:
    plan = one.record.plan
    parts = [f"### {one.title}\n", f"{plan.about}\n"]
    for what, cells in (("Not measured", one.waiting), ("Failed", tuple(one.failed))):
        if cells:
            rows = Counter(cell.row for cell in cells)
            named = ", ".join(row if count == 1 else f"{row} ({count} cells)" for row, count in rows.items())
            parts.append(f"{what}: {named}.\n")
    for part in one.sections:
        for kind in part.kinds:
            if rows := figure_rows(plan, part, kind):
                parts += [f"{part.title}, {kind.title}:\n", table([headings(plan, part, kind), *rows])]
        if plan.paper is not None and paper_costs(plan.paper.table):
            parts += [f"{part.title}, what it cost:\n"]
            parts += [table([cost_headings(plan), *cost_rows(plan, part, one.times)])]
            parts += [f"- {name}: {note}\n" for name, note in cost_notes(plan, part)]
        parts += [f"- {cut}\n" for cut in cuts_of(plan, part)]
    return parts
