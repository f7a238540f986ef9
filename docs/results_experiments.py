"""The part of docs/results.md about the paper's tables as plans: what became of each claim, and each plan's main table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from allmrec.experiments.cuts import cuts_of
from allmrec.experiments.found import Experiment, read_experiment
from allmrec.experiments.markdown import figure_rows, headings, shown
from allmrec.experiments.paper import THEIRS

Table = Callable[[Sequence[Sequence[str]]], str]

_HEAD = """\
## The paper's experiments

Each of the paper's tables as `allmrec experiment` measures it ([experiments.md](experiments.md)), on {sets}: `python -m benchmarks.experiments measure`
with the data and the cuts of [experiments.toml](../benchmarks/experiments.toml). [experiments.html](experiments.html) is the whole report: all figures,
costs, learning curves, ranks, users by title, and what was cut. Intervals are over users, and over seeds where there are several. A
claim *holds* where the whole interval is on the claimed side, *does not hold* where it is on the other, and is *not shown* where it leaves both
open. Figures called theirs are the paper's: {theirs}.

The cuts are for two cores, and they tell: the systems that train a language model see few samples here. TALLRec, at chance on 256 of them, and
A-LLMRec stand [above](#the-papers-objective-a-llmrec-by-titles) as trained on an H200, on 12,800 and 51,200.
"""


def section(folder: Path, table: Table) -> list[str]:
    """The section's parts; none where nothing was measured.

    Args:
        folder: holds experiments.
        table: makes a table of rows of cells.
    """
    found = [read_experiment(path.parent) for path in sorted(folder.glob("*/experiment.json"))]
    found = [one for one in found if one.done]
    if not found:
        return []
    sets = dict.fromkeys(cell.cell.data for one in found for cell in one.done)
    parts = [
        _HEAD.format(sets=", ".join(sets), theirs=THEIRS),
        "### What became of the claims\n",
        table(_claims(found)),
    ]
    for one in found:
        parts += _plan(one, table)
    return parts


def _claims(found: Sequence[Experiment]) -> list[list[str]]:
    rows = [["plan", "claim", "where", "direction", "difference", "users", "seeds"]]
    for one in found:
        for part in one.sections:
            for result in part.claims:
                where = f"{part.data}, {part.scenario}, {result.claim.group}: {result.claim.metric}"
                figures = [shown(result.difference, "+"), f"{result.users:,}", str(result.seeds)]
                rows.append([one.folder.name, result.claim.text, where, result.verdict, *figures])
    return rows


def _plan(one: Experiment, table: Table) -> list[str]:
    plan = one.record.plan
    parts = [f"### {plan.title}\n", f"{plan.about}\n"]
    if one.waiting or one.failed:
        parts.append(f"{len(one.waiting)} cells were not measured, {len(one.failed)} failed; the report names them.\n")
    for part in one.sections:
        for kind in part.kinds:
            if rows := figure_rows(plan, part, kind):
                parts += [f"{part.data}, {part.scenario}, {kind.title}:\n", table([headings(plan, part, kind), *rows])]
        parts += [f"- {cut}\n" for cut in cuts_of(part)]
    return parts
