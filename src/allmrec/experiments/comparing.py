"""Two runs or experiments side by side: paired differences of the same users, and what changed in their settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from allmrec.core.artifacts import read_json
from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.core.visible import visible
from allmrec.evaluation import Report
from allmrec.evaluation.intervals import Estimate
from allmrec.evaluation.metrics import metric_values
from allmrec.experiments.found import read_experiment
from allmrec.experiments.joined import HOW, joined_mean
from allmrec.experiments.markdown import shown
from allmrec.experiments.record import FILE
from allmrec.experiments.tables import Row

__all__ = ["Difference", "changed_settings", "compared", "show_comparison"]


@dataclass(frozen=True)
class Difference:
    """A system in both: the second less the first.

    Attributes:
        where: data set, scenario and group; empty for runs.
        name: of the system.
        first, second: its figures.
        difference: paired by user, and by seed where there are several.
        users: whom both were asked about.
    """

    where: str
    name: str
    first: Estimate
    second: Estimate
    difference: Estimate
    users: int


@dataclass(frozen=True)
class _Side:
    """What one side has: values by place and system, and settings by place."""

    path: Path
    rows: Mapping[tuple[str, str], Row] | None
    report: Report | None
    settings: Mapping[str, Mapping[str, Any]]


def compared(first: Path, second: Path, metric: str = "Hit@1") -> tuple[list[Difference], dict[str, tuple[Any, Any]]]:
    """Compare two experiments, or two runs or reports.

    Returns:
        A difference for each system that both have, on the users that both asked about; and settings that differ, by name.

    Raises:
        ArtifactError: one of them is neither, or damaged.
        ConfigError: an experiment came with a run, the two asked other users or candidates, or there is no such metric.
    """
    sides = _side(first), _side(second)
    if (sides[0].report is None) != (sides[1].report is None):
        raise ConfigError("One is an experiment and the other a run or a report; compare like with like.")
    found = list(_of_reports(*sides, metric) if sides[0].report is not None else _of_rows(*sides, metric))
    if not found:
        raise ConfigError(
            f"{first} and {second} have no system in common that was asked about the same users and candidates, so nothing "
            "can be compared. It takes the same data, number of candidates and, for runs, the same seed."
        )
    return found, changed_settings(sides[0].settings, sides[1].settings)


def changed_settings(
    first: Mapping[str, Mapping[str, Any]], second: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple[Any, Any]]:
    """Fields that differ, by dotted name, with both values; None where one side has no such field.

    Args:
        first, second: configurations by what they belong to; what one side lacks is left out.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for name in first:
        if name in second:
            old, new = dict(_flat(first[name])), dict(_flat(second[name]))
            for field in sorted(old.keys() | new.keys()):
                if old.get(field) != new.get(field):
                    found[field] = (old.get(field), new.get(field))
    return found


def _flat(values: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{start}{name}.")
        else:
            yield start + name, value


def _side(path: Path) -> _Side:
    """An experiment's folder, a run's folder, or a report's file."""
    if (path / FILE).is_file():
        found = read_experiment(path)
        rows = {
            (f"{section.data}, {section.scenario}", row.row): row for section in found.sections for row in section.rows
        }
        settings = {one.cell.id: one.about["config"] for one in found.done}
        return _Side(path, rows, None, settings)
    file = path / "report.json" if path.is_dir() else path
    if not file.is_file():
        raise ArtifactError(
            f"{path} has neither {FILE} of an experiment nor report.json of a run. Make one: allmrec evaluate {path}"
        )
    run = file.parent / "run.json"
    config = read_json(run).get("config") if run.is_file() else None
    return _Side(path, None, Report.load(file), {"run": config} if isinstance(config, dict) else {})


def _of_rows(first: _Side, second: _Side, metric: str) -> Iterator[Difference]:
    """Rows that both experiments have, group by group."""
    if first.rows is None or second.rows is None:
        return
    for (where, name), old in first.rows.items():
        new = second.rows.get((where, name))
        if new is None or new.cells[0].protocol != old.cells[0].protocol:
            continue
        known = [name for name in new.cells[0].found.metrics if name in old.cells[0].found.metrics]
        if metric not in known:
            raise ConfigError(f"There is no figure {metric!r} of both experiments; there are {', '.join(known)}.")
        for group in old.asked.groups:
            figures = old.figure(metric, group), new.figure(metric, group), new.less(old, metric, group)
            if group in new.asked.groups and figures[0] and figures[1] and figures[2]:
                users = int((old.users(group) & new.users(group)).sum())
                yield Difference(f"{where}: {group}", new.title, figures[0], figures[1], figures[2], users)


def _of_reports(first: _Side, second: _Side, metric: str) -> Iterator[Difference]:
    """Systems that both reports have, by the name that commands know them by."""
    old, new = first.report, second.report
    if old is None or new is None:
        return
    if old.protocol_hash != new.protocol_hash:
        raise ConfigError(
            f"{first.path} and {second.path} are of different users or candidates, so figures do not compare."
        )
    earlier = {system.key or system.name: system for system in old.systems}
    for system in new.systems:
        before = earlier.get(system.key or system.name)
        if before is None:
            continue
        common, mine, theirs = np.intersect1d(system.user_array(), before.user_array(), True, True)
        if not len(common):
            continue
        after_values = metric_values(system.rank_array()[mine], new.ks)
        before_values = metric_values(before.rank_array()[theirs], new.ks)
        if metric not in after_values:
            raise ConfigError(f"There is no figure {metric!r}; the reports have {', '.join(after_values)}.")
        values = [before_values[metric], after_values[metric], after_values[metric] - before_values[metric]]
        means = [joined_mean(part[None, :], metric) for part in values]
        yield Difference("", system.name, means[0], means[1], means[2], len(common))


def show_comparison(first: Path, second: Path, metric: str, console: Console) -> None:
    """Print what `compared` finds."""
    found, settings = compared(first, second, metric)
    table = Table(title=Text(visible(f"{metric}: {second} less {first}")))
    heads: Sequence[str] = ("where", "system", "users", "first", "second", "difference")
    for head in heads:
        table.add_column(head)
    for one in found:
        cells = (one.where, one.name, f"{one.users:,}", shown(one.first), shown(one.second), shown(one.difference, "+"))
        table.add_row(*(Text(visible(cell)) for cell in cells))
    console.print(table)
    console.print(Text(HOW))
    if not settings:
        console.print(Text("Their settings are the same."))
    for name, (old, new) in settings.items():
        console.print(Text(visible(f"{name}: {old!r} -> {new!r}")), soft_wrap=True)
