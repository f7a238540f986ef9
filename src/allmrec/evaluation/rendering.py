"""A report for people: a table for the terminal, one for Markdown, and a sentence on the best system."""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table

from allmrec.core.visible import as_markdown, as_markdown_code, as_terminal
from allmrec.evaluation.changes import changes
from allmrec.evaluation.intervals import Estimate
from allmrec.evaluation.report import Report, SystemResult

__all__ = ["markdown", "render", "verdict"]


def render(report: Report, before: Report | None = None) -> Group:
    """Tables for the terminal, narrow enough for 80 columns: the figures, differences and speed, costs, notes.

    Args:
        report: what to show.
        before: a report of the same protocol from before something was trained again; what it changed is shown too.
    """
    title = as_terminal(_title(report))
    quality = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    first, *_ = names = list(report.systems[0].metrics)
    about = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for table, columns in (
        (quality, ["users", *names]),
        (about, [f"{first} 95 %", f"less {report.reference} [95 %]", "users/s"]),
    ):
        table.add_column("system", max_width=24)
        for column in columns:
            table.add_column(as_terminal(column), justify="right", no_wrap=True)
    notes = []
    for system in report.systems:
        quality.add_row(
            as_terminal(system.name), str(system.n_users), *(f"{m.value:.3f}" for m in system.metrics.values())
        )
        difference = report.difference(system.name)
        against = "" if difference is None else _figure(difference.estimate, signed=True, digits=3)
        speed = system.users_per_second
        leading = f"{system.metrics[first].low:.3f}–{system.metrics[first].high:.3f}"
        about.add_row(
            as_terminal(system.name), leading, as_terminal(against), f"{speed:,.0f}" if speed >= 10 else f"{speed:.2f}"
        )
        if system.note:
            notes.append(as_terminal(f"  {system.name}: {system.note}"))
    more = [_table(rows) for rows in _more_cells(report, before, digits=3)]
    said = [as_terminal(line) for line in (*_pair_lines(report, digits=3), *_either_lines(report, digits=3))]
    return Group(quality, about, *more, *notes, *said)


def markdown(report: Report, before: Report | None = None) -> str:
    """The same for a document, with every interval, what it was measured on, the verdict, and what two systems show together."""
    lines = _ruled(_cells(report), last="---")
    for rows in _more_cells(report, before):
        lines += ["", *_ruled(rows)]
    about = [
        as_markdown(_title(report)) + ".",
        as_markdown(f"Device: {report.device}. Date: {report.date}. Commit: {report.git_commit or 'unknown'}."),
        f"Protocol {report.protocol_hash[:12]}, data {report.dataset_hash[:12]}.",
        "Brackets: 95 % bootstrap intervals over users.",
        "Versions: " + as_markdown(", ".join(" ".join(version) for version in report.versions.items())) + ".",
    ]
    if report.command:
        about.append(f"Command: {as_markdown_code(report.command)}")
    said = "\n\n".join(as_markdown(line) for line in (verdict(report), *_pair_lines(report), *_either_lines(report)))
    return "\n".join([*lines, "", said, "", *about]) + "\n"


def _ruled(rows: list[list[str]], last: str = "---:") -> list[str]:
    """A table in Markdown; the first row is its head."""
    ruler = ["---", *["---:"] * (len(rows[0]) - 2), last]
    return ["| " + " | ".join(map(as_markdown, row)) + " |" for row in (rows[0], ruler, *rows[1:])]


def _table(rows: list[list[str]]) -> Table:
    """A table for the terminal; the first row is its head."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(rows[0][0], max_width=24)
    for column in rows[0][1:]:
        table.add_column(as_terminal(column), justify="right")
    for row in rows[1:]:
        table.add_row(*map(as_terminal, row))
    return table


def _more_cells(report: Report, before: Report | None, digits: int = 4) -> list[list[list[str]]]:
    """The tables behind the first, of those that say something."""
    tables = (_order_cells(report, digits), _cost_cells(report), _change_cells(before, report))
    return [rows for rows in tables if len(rows) > 1]


def _order_cells(report: Report, digits: int) -> list[list[str]]:
    """What each system loses when histories are shuffled, of those that were asked."""
    names = ["Hit@1", f"NDCG@{max(report.ks)}"] if max(report.ks) > 1 else ["Hit@1"]
    rows = [["histories shuffled", *(f"{name}, shuffled less in order" for name in names)]]
    for system in report.systems:
        if system.order is not None:
            found = [_figure(system.order.differences[name], True, digits) for name in names]
            rows.append([system.name, *found])
    return rows


def _cost_cells(report: Report) -> list[list[str]]:
    """What each system's training took, of those that tell."""
    rows = [["system", "trained parameters", "training", "process's peak memory"]]
    for system in report.systems:
        costs = system.costs
        if costs:
            parameters = f"{costs['trained_parameters']:,.0f}" if "trained_parameters" in costs else "not known"
            seconds = f"{costs['train_seconds']:,.0f} s" if "train_seconds" in costs else "not known"
            memory = f"{costs['peak_memory'] / 2**30:.1f} GB" if "peak_memory" in costs else "not known"
            rows.append([system.name, parameters, seconds, memory])
    return rows


def _change_cells(before: Report | None, report: Report) -> list[list[str]]:
    """Each system before and after."""
    rows = [["system", "Hit@1 before", "now", "change"]]
    for change in changes(before, report) if before is not None else ():
        old, new = change.before, change.after
        name = new.name if new.name == old.name else f"{old.name}, now {new.name}"
        values = [f"{system.metrics[change.metric].value:.3f}" for system in (old, new)]
        rows.append([name, *values, _figure(change.difference, signed=True, digits=3)])
    return rows


def verdict(report: Report) -> str:
    """Who has the highest Hit@1, and whether its difference to the reference can be told from none.

    Where the reference itself is highest, it is compared with the next. A system that was asked about fewer users is
    compared on these; its own figure and the reference's figure over all users are never set side by side.
    """
    ordered = sorted(report.systems, key=lambda s: (-s.metrics["Hit@1"].value, -s.n_users))
    best = ordered[0]
    sentence = (
        f"{best.name} has the highest Hit@1: {_figure(best.metrics['Hit@1'])} over {best.n_users} "
        f"user{'s' if best.n_users != 1 else ''}."
    )
    if len(ordered) == 1:
        return sentence
    if report.reference not in report.by_name:
        return f"{sentence} {report.reference} was not measured, so no difference is tested."
    challenger = best if best.name != report.reference else ordered[1]
    return f"{sentence} {_contest(report, challenger)}"


def _contest(report: Report, challenger: SystemResult) -> str:
    """One system against the reference in words."""
    difference = report.difference(challenger.name)
    if difference is None:
        return f"{challenger.name} and {report.reference} share no user, so they cannot be compared."
    estimate = difference.estimate
    said = (
        f"On the {difference.n_users} users that both ranked, {challenger.name} less {report.reference} is "
        f"{_figure(estimate, signed=True)}: the interval "
    )
    if estimate.includes_zero:
        return said + "includes 0, so neither is shown to be better."
    ahead = challenger.name if estimate.value > 0 else report.reference
    return said + f"excludes 0, in favour of {ahead}."


def _pair_lines(report: Report, digits: int = 4) -> list[str]:
    """A sentence for each pair: Hit@1, and NDCG at the largest k that there is."""
    lines = []
    for pair in report.pairs:
        by_metric = {difference.metric: difference for difference in pair.differences}
        first = by_metric["Hit@1"]
        users = f"{first.n_users:,} user{'s' if first.n_users != 1 else ''}"
        said = f"Hit@1 of {pair.system} less {pair.against}: {_figure(first.estimate, True, digits)}, {users}"
        if more := by_metric.get(metric := f"NDCG@{max(report.ks)}"):
            said += f"; {metric} {_figure(more.estimate, True, digits)}"
        lines.append(f"{pair.title}: {said}.")
    return lines


def _either_lines(report: Report, digits: int = 4) -> list[str]:
    """A sentence for each two systems whose hits are wanted together: at the largest k that there is."""
    lines = []
    for either in report.either:
        name, users = f"Hit@{max(report.ks)}", f"{either.n_users:,} user{'s' if either.n_users != 1 else ''}"
        lines.append(
            f"{name} of {' or '.join(either.systems)}, whichever hits: {_figure(either.hits[name], digits=digits)}, "
            f"{_figure(either.gains[name], True, digits)} on the better of the two, {users}: what choosing between both "
            "for each user could reach."
        )
    return lines


def _cells(report: Report) -> list[list[str]]:
    """Header and rows, as text."""
    metrics = list(report.systems[0].metrics)
    header = ["system", "users", *metrics, f"Hit@1 less {report.reference}", "users/s", "note"]
    rows = []
    for system in report.systems:
        figures = [_figure(estimate) for estimate in system.metrics.values()]
        difference = report.difference(system.name)
        against = "" if difference is None else _figure(difference.estimate, signed=True)
        speed = f"{system.users_per_second:.3g}"
        rows.append([system.name, str(system.n_users), *figures, against, speed, system.note])
    return [header, *rows]


def _figure(estimate: Estimate, signed: bool = False, digits: int = 4) -> str:
    form = f"{'+' if signed else ''}.{digits}f"
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def _title(report: Report) -> str:
    return f"{report.part.capitalize()} items among {report.n_candidates} candidates, {report.scenario}"
