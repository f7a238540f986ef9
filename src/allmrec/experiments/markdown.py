"""An experiment's report in Markdown, and its tables on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from allmrec.core.visible import visible
from allmrec.evaluation.intervals import Estimate
from allmrec.experiments.answers import GENRE_QUESTIONS, RANKED, genre_metrics, lost
from allmrec.experiments.cuts import cuts_of
from allmrec.experiments.examples import said_examples
from allmrec.experiments.found import Experiment, asked_dataset
from allmrec.experiments.joined import HOW
from allmrec.experiments.paper import THEIRS, paper_costs, paper_sets
from allmrec.experiments.plan import Plan
from allmrec.experiments.stage_times import StagePart, StageTimes
from allmrec.experiments.tables import ClaimResult, Row, Section, TableKind

__all__ = [
    "claim_words",
    "cost_headings",
    "cost_notes",
    "cost_rows",
    "figure_rows",
    "has_theirs",
    "headings",
    "how_asked",
    "markdown",
    "note_of",
    "show_tables",
    "shown",
    "theirs_words",
]

_SIGNED = {*map(lost, RANKED), *(genre_metrics(question)[1] for question in GENRE_QUESTIONS)}


def shown(estimate: Estimate | None, sign: str = "") -> str:
    """As `0.523 [0.508, 0.538]`; a `+` as sign for differences."""
    if estimate is None:
        return ""
    return f"{estimate.value:{sign}.3f} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"


def how_asked(plan: Plan, section: Section) -> str:
    """What the systems of a section were asked, in a sentence, and what chance gives."""
    if plan.ask == "genres":
        return (
            "Systems were asked in words for genres. Above chance is the precision less that of naming as many of the most frequent genres; "
            "an answer that names none has 0 of both, so read it beside the share of answers that name any."
        )
    if plan.ask == "catalogue":
        return "Every item that the user has not met competes with the test item."
    count = int(section.rows[0].cells[0].about["protocol"]["candidates"])
    return f"The test item stands among {count} candidates, so Hit@1 of chance is {1 / count:.3f}."


def headings(plan: Plan, section: Section, kind: TableKind) -> list[str]:
    """Of one of a section's tables: ours, the difference to the reference, and theirs."""
    found = ["system", "users", "seeds", *(head for head, _ in kind.before), kind.head]
    if section.reference is not None:
        found.append(f"less {section.reference.title}")
    if has_theirs(plan, section, kind.group):
        found.append(f"theirs, {section.theirs}")
    return [*found, *(head for head, _ in kind.more)]


def figure_rows(plan: Plan, section: Section, kind: TableKind) -> list[list[str]]:
    """One of a section's tables in words, best first; systems that were asked about nobody of its group are left out."""
    metric, group = kind.metric, kind.group
    figures = {row.row: row.figure(metric, group) for row in section.rows}
    there = [(figure.value, row) for row in section.rows if (figure := figures[row.row]) is not None]
    rows = []
    for _, row in sorted(there, key=lambda pair: -pair[0]):
        cells = [row.title, f"{int(row.users(group).sum()):,}", str(len(row.cells))]
        cells += [shown(row.figure(name, group)) for _, name in kind.before]
        cells.append(shown(figures[row.row], "+" if metric in _SIGNED else ""))
        if section.reference is not None:
            cells.append("" if row is section.reference else shown(row.less(section.reference, metric, group), "+"))
        if has_theirs(plan, section, group):
            theirs = section.paper(plan, row, group)
            cells.append("" if theirs is None else f"{theirs:.4f}")
        # A figure that is a difference already shows on which side of 0 it is.
        more = [shown(row.figure(name, group), "+" if name in _SIGNED else "") for _, name in kind.more]
        rows.append([*cells, *more])
    return rows


def has_theirs(plan: Plan, section: Section, group: str) -> bool:
    """Whether the paper has a figure of any row."""
    return any(section.paper(plan, row, group) is not None for row in section.rows)


def theirs_words(plan: Plan, section: Section) -> str:
    """Which of the paper's data sets stands beside a section, and why that one."""
    if plan.paper is not None and len(paper_sets(plan.paper.table)) == 1:
        return f"the paper has figures of {section.theirs} alone"
    return f"of the paper's data sets {section.theirs} stands beside, the nearest in users, items and length"


def cost_headings(plan: Plan) -> list[str]:
    """Of a section's costs: ours, and theirs where the paper has any."""
    found = ["system", "training", "trained parameters", "users/s", "asked on", "peak memory"]
    theirs = ["theirs: training", "theirs: users/s"] if _their_costs(plan) else []
    return [*found, *theirs]


def cost_rows(plan: Plan, section: Section, times: StageTimes) -> list[list[str]]:
    """What each row cost, mean over seeds; training apart for each device, as seconds of unlike ones make no sum."""
    found, theirs = [], _their_costs(plan)
    for row in section.rows:
        parameters, memory = row.cost("trained_parameters"), row.cost("peak_memory")
        cells = [
            row.title,
            _training(row, times),
            "" if parameters is None else f"{parameters:,.0f}",
            _speed(row.cost("users_per_second")),
            "; ".join(dict.fromkeys(str(cell.about["device"]) for cell in row.cells)),
            "" if memory is None else f"{memory / 2**30:.2f} GiB",
        ]
        if theirs:
            own = theirs.get(row.row)
            cells += ["", ""] if own is None else [f"{own[0]:,.0f} min", _speed(own[1])]
        found.append(cells)
    return found


def cost_notes(plan: Plan, section: Section) -> list[tuple[str, str]]:
    """What a reader must know of the costs and of each system, by whom it is about."""
    found = [(row.title, note) for row in section.rows if (note := note_of(row))]
    costs = None if plan.paper is None else paper_costs(plan.paper.table)
    return found if costs is None else [*found, ("theirs", f"{costs.hardware}; users a second by batches of 4")]


def _their_costs(plan: Plan) -> dict[str, tuple[float, float]]:
    """Minutes of training and users a second of the paper, by row."""
    costs = None if plan.paper is None else paper_costs(plan.paper.table)
    if plan.paper is None or costs is None:
        return {}
    return {row: costs.rows[name] for row, name in plan.paper.rows.items() if name in costs.rows}


def _training(row: Row, times: StageTimes) -> str:
    """Seconds of training; of each stage where they were trained on unlike devices, or nobody knows on which."""
    found: dict[tuple[tuple[str, ...], str], list[StagePart]] = {}
    for cell in row.cells:
        for part in times.parts(cell.about):
            found.setdefault((tuple(label.rpartition(".")[2] for label in part.labels), part.machine), []).append(part)
    machines = {machine for _, machine in found}
    total = row.cost("train_seconds")
    if total is None:
        return ""
    if len(machines) == 1 and machines != {""}:
        return f"{total:,.0f} s ({next(iter(machines))})"
    return (
        "; ".join(
            f"{sum(part.seconds for part in parts) / len(parts):,.0f} s {', '.join(labels)} ({machine or 'device not kept'})"
            for (labels, machine), parts in found.items()
        )
        or f"{total:,.0f} s"
    )


def _speed(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def claim_words(result: ClaimResult) -> str:
    """What became of a claim, in a sentence."""
    claim = result.claim
    times = "" if claim.times == 1 else f"{claim.times:g} times "
    seeds = "1 seed" if result.seeds == 1 else f"{result.seeds} seeds"
    margin = {
        "above": "",
        "equal": f"; equal means within {claim.margin:g}",
        "not above": f"; up to {claim.margin:g} counts as 0",
    }
    less = "" if claim.than is None else f" less {times}{claim.than}"
    return (
        f"{claim.text}: {result.verdict}. {claim.better}{less}, {claim.metric}, {claim.group}: "
        f"{shown(result.difference, '+')} ({result.users:,} users, {seeds}{margin[claim.says]})."
    )


def markdown(experiments: Sequence[Experiment]) -> str:
    """The whole report as Markdown, of one experiment or of several."""
    many = len(experiments) > 1
    parts = ["# Experiments\n"] if many else []
    parts += ["\n".join(_lines(found, "##" if many else "#")).rstrip() + "\n" for found in experiments]
    if undone := "\n".join(_undone(experiments)):
        parts.append(undone.rstrip() + "\n")
    return "\n".join(parts)


def _lines(found: Experiment, heading: str) -> Iterator[str]:
    """An experiment's part; `heading` is that of its title."""
    plan = found.record.plan
    yield f"{heading} {_cell(found.title)}\n"
    if plan.about:
        yield f"{_cell(plan.about)}\n"
    yield f"{len(found.done)} cells are done, {len(found.failed)} failed, {len(found.waiting)} were not measured. {HOW}\n"
    for section in found.sections:
        yield f"{heading}# {section.title}\n"
        yield f"{how_asked(plan, section)}\n"
        for kind in section.kinds:
            if rows := figure_rows(plan, section, kind):
                yield f"{heading}## {section.title}: {kind.title}\n"
                if kind.about:
                    yield f"{kind.about[0].upper()}{kind.about[1:]}.\n"
                yield from _table(headings(plan, section, kind), rows)
        if any(has_theirs(plan, section, group) for group in section.groups):
            yield f"*theirs*: {THEIRS}; {theirs_words(plan, section)}.\n"
        for claim in section.claims:
            yield f"- {_cell(claim_words(claim))}"
        yield f"\n{heading}## {section.title}: what it cost\n"
        yield from _table(cost_headings(plan), cost_rows(plan, section, found.times))
        yield from (f"- {_cell(name)}: {_cell(note)}" for name, note in cost_notes(plan, section))
        yield ""
        if cuts := cuts_of(found.record.plan, section):
            yield f"{heading}## {section.title}: what was cut\n"
            yield from (f"- {_cell(cut)}" for cut in cuts)
            yield ""
        dataset = asked_dataset(found, section)
        for example in [] if dataset is None else said_examples(section, dataset):
            yield f"- {_cell(example.target)} ({_cell(example.genres)}), after {_cell('; '.join(example.history))}"
            for name, of_item, of_user in example.said:
                yield f"  - {_cell(name)}: of the item “{_cell(of_item)}”, of the user “{_cell(of_user)}”"
        yield ""
    yield f"{heading}# How it was measured\n"
    yield f"Command: `{found.record.command}`  \nCommit: {found.record.commit or 'not known'}\n"
    rows = [
        [one.cell.words, str(one.about["device"]), str(one.about["date"]), str(one.about["commit"] or "not known")]
        for one in found.done
    ]
    yield from _table(["cell", "device", "date", "commit"], rows)


def _undone(experiments: Sequence[Experiment]) -> Iterator[str]:
    """What failed and what was not measured, of all experiments together."""
    plan = ["plan"] if len(experiments) > 1 else []
    failed = [
        [found.title, cell.words, str(why["message"])] for found in experiments for cell, why in found.failed.items()
    ]
    waiting = [[found.title, cell.words] for found in experiments for cell in found.waiting]
    for title, heads, rows in (
        ("What failed", ["cell", "why"], failed),
        ("What was not measured", ["cell"], waiting),
    ):
        if rows:
            yield f"## {title}\n"
            yield from _table([*plan, *heads], [row if plan else row[1:] for row in rows])


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
        for kind in section.kinds:
            table = Table(title=Text(f"{section.title}: {kind.title}"))
            for head in headings(plan, section, kind):
                table.add_column(Text(head))
            for row in figure_rows(plan, section, kind):
                table.add_row(*(Text(visible(cell)) for cell in row))
            console.print(table)
        for claim in section.claims:
            console.print(Text(visible(claim_words(claim))))
    for cell, why in found.failed.items():
        console.print(Text(visible(f"{cell.words} failed: {why['message']}", lines=True)))
