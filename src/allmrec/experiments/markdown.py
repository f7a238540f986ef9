"""An experiment's report in Markdown, and its tables on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from allmrec.core.visible import visible
from allmrec.evaluation.intervals import Estimate
from allmrec.experiments.found import Experiment
from allmrec.experiments.joined import HOW
from allmrec.experiments.paper import THEIRS
from allmrec.experiments.plan import Plan
from allmrec.experiments.tables import ClaimResult, Row, Section

__all__ = [
    "COSTS",
    "claim_words",
    "cost_rows",
    "figure_rows",
    "has_theirs",
    "headings",
    "markdown",
    "note_of",
    "show_tables",
    "shown",
]

COSTS = ("training", "trained parameters", "users/s", "peak memory")


def shown(estimate: Estimate | None, sign: str = "") -> str:
    """As `0.523 [0.508, 0.538]`; a `+` as sign for differences."""
    if estimate is None:
        return ""
    return f"{estimate.value:{sign}.3f} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"


def headings(plan: Plan, section: Section, group: str) -> list[str]:
    """Of a section's table of a group of users: ours, the difference to the reference, and theirs."""
    found = ["system", "users", "seeds", "Hit@1"]
    if section.reference is not None:
        found.append(f"less {section.reference.title}")
    if has_theirs(plan, section, group):
        found.append(f"theirs, {section.theirs}")
    return [*found, "NDCG@10", "MRR"]


def figure_rows(plan: Plan, section: Section, group: str) -> list[list[str]]:
    """A section's table of a group in words, best first; systems that were asked about nobody of it are left out."""
    figures = {row.row: row.figure("Hit@1", group) for row in section.rows}
    there = [(figure.value, row) for row in section.rows if (figure := figures[row.row]) is not None]
    rows = []
    for _, row in sorted(there, key=lambda pair: -pair[0]):
        cells = [row.title, f"{int(row.users(group).sum()):,}", str(len(row.cells)), shown(figures[row.row])]
        if section.reference is not None:
            cells.append("" if row is section.reference else shown(row.less(section.reference, "Hit@1", group), "+"))
        if has_theirs(plan, section, group):
            theirs = section.paper(plan, row, group)
            cells.append("" if theirs is None else f"{theirs:.4f}")
        rows.append([*cells, shown(row.figure("NDCG@10", group)), shown(row.figure("MRR", group))])
    return rows


def has_theirs(plan: Plan, section: Section, group: str) -> bool:
    """Whether the paper has a figure of any row."""
    return any(section.paper(plan, row, group) is not None for row in section.rows)


def cost_rows(section: Section) -> list[list[str]]:
    """What each row cost, mean over seeds."""
    found = []
    for row in section.rows:
        seconds, parameters = row.cost("train_seconds"), row.cost("trained_parameters")
        speed, memory = row.cost("users_per_second"), row.cost("peak_memory")
        found.append(
            [
                row.title,
                "" if seconds is None else f"{seconds:,.0f} s",
                "" if parameters is None else f"{parameters:,.0f}",
                "" if speed is None else f"{speed:,.3g}",
                "" if memory is None else f"{memory / 2**30:.2f} GiB",
            ]
        )
    return found


def claim_words(result: ClaimResult) -> str:
    """What became of a claim, in a sentence."""
    claim = result.claim
    times = "" if claim.times == 1 else f"{claim.times:g} times "
    seeds = "1 seed" if result.seeds == 1 else f"{result.seeds} seeds"
    equal = f"; equal means within {claim.margin:g}" if claim.says == "equal" else ""
    return (
        f"{claim.text}: {result.verdict}. {claim.better} less {times}{claim.than}, {claim.metric}, {claim.group}: "
        f"{shown(result.difference, '+')} ({result.users:,} users, {seeds}{equal})."
    )


def markdown(found: Experiment) -> str:
    """The whole report as Markdown."""
    return "\n".join(_lines(found)).rstrip() + "\n"


def _lines(found: Experiment) -> Iterator[str]:
    plan = found.record.plan
    yield f"# {_cell(plan.title)}\n"
    if plan.about:
        yield f"{_cell(plan.about)}\n"
    yield f"{len(found.done)} cells are done, {len(found.failed)} failed, {len(found.waiting)} wait. {HOW}\n"
    for section in found.sections:
        yield f"## {section.data}, {section.scenario}\n"
        for group in section.groups:
            if rows := figure_rows(plan, section, group):
                yield f"### {section.data}, {section.scenario}: {group}\n"
                yield from _table(headings(plan, section, group), rows)
        if any(has_theirs(plan, section, group) for group in section.groups):
            yield f"*theirs*: {THEIRS}; of the paper's sets {section.theirs} stands beside.\n"
        for claim in section.claims:
            yield f"- {_cell(claim_words(claim))}"
        yield f"\n### {section.data}, {section.scenario}: what it cost\n"
        yield from _table(["system", *COSTS], cost_rows(section))
        yield from (f"- {_cell(row.title)}: {_cell(note)}" for row in section.rows if (note := note_of(row)))
        yield ""
    if found.failed:
        yield "## What failed\n"
        yield from _table(["cell", "why"], [[cell.words, str(why["message"])] for cell, why in found.failed.items()])
    yield "## How it was measured\n"
    yield f"Command: `{found.record.command}`  \nCommit: {found.record.commit or 'not known'}\n"
    rows = [
        [one.cell.words, str(one.about["device"]), str(one.about["date"]), str(one.about["commit"] or "not known")]
        for one in found.done
    ]
    yield from _table(["cell", "device", "date", "commit"], rows)


def note_of(row: Row) -> str:
    """What a reader must know of a system."""
    return "; ".join(dict.fromkeys(str(cell.about["note"]) for cell in row.cells if cell.about["note"]))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(map(_cell, heads)) + " |"
    yield "|" + "---|" * len(heads)
    yield from ("| " + " | ".join(map(_cell, row)) + " |" for row in rows)
    yield ""


def _cell(text: str) -> str:
    """A text that is no markup and stays in its cell."""
    return visible(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def show_tables(found: Experiment, console: Console) -> None:
    """The tables on a terminal."""
    plan = found.record.plan
    for section in found.sections:
        for group in section.groups:
            table = Table(title=Text(f"{section.data}, {section.scenario}: {group}"))
            for head in headings(plan, section, group):
                table.add_column(Text(head))
            for row in figure_rows(plan, section, group):
                table.add_row(*(Text(visible(cell)) for cell in row))
            console.print(table)
        for claim in section.claims:
            console.print(Text(visible(claim_words(claim))))
    for cell, why in found.failed.items():
        console.print(Text(visible(f"{cell.words} failed: {why['message']}", lines=True)))
