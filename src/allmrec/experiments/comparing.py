"""Two runs or experiments side by side: paired differences of the same users, and what changed in their settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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

_Where = tuple[str, str, str]

# What a plan says in words, what is compared with what, and what each cell's own settings say better.
_NOT_COMPARED = {"title", "about", "claims", "paper", "reference", "data", "changes"}


@dataclass(frozen=True)
class Difference:
    """A system in both: the second less the first.

    Attributes:
        where: data set, scenario and group; empty for runs.
        name: of the system.
        first, second: its figures, over the users and seeds that both have.
        difference: paired by user, and by seed where there are several.
        users: whom both were asked about.
        seeds: that both have; none of runs.
    """

    where: str
    name: str
    first: Estimate
    second: Estimate
    difference: Estimate
    users: int
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Side:
    """What one side has: values by data set, scenario and system, and settings by place."""

    path: Path
    rows: Mapping[_Where, Row]
    report: Report | None
    settings: Mapping[str, Mapping[str, Any]]
    ask: str = ""
    """What an experiment's plan asks for; of a report nothing."""
    undone: int = 0
    """Cells of an experiment's plan that are not done."""

    @property
    def names(self) -> list[str]:
        """What it has: systems of a report, or rows of an experiment with their data set and scenario."""
        if self.report is not None:
            return [system.name for system in self.report.systems]
        return [f"{row} ({data}, {scenario})" for data, scenario, row in self.rows]


def compared(first: Path, second: Path, metric: str = "Hit@1") -> tuple[list[Difference], dict[str, tuple[Any, Any]]]:
    """Compare two experiments, or two runs or reports.

    Returns:
        A difference for each system that both have, on the users and seeds that both have; and settings that differ, by name, those
        of experiments' plans among them as `plan.NAME`.

    Raises:
        ArtifactError: one of them is neither, or damaged.
        ConfigError: an experiment came with a run, the two asked other users or candidates or one of them the whole catalogue, or
            there is no such metric.
    """
    return _compared((_side(first), _side(second)), metric)


def _compared(sides: tuple[_Side, _Side], metric: str) -> tuple[list[Difference], dict[str, tuple[Any, Any]]]:
    first, second = (side.path for side in sides)
    if (sides[0].report is None) != (sides[1].report is None):
        raise ConfigError("One is an experiment and the other a run or a report; compare like with like.")
    asked = [side.ask for side in sides]
    if asked[0] != asked[1]:
        what = " and ".join(f"{path} asks for {ask}" for path, ask in zip((first, second), asked, strict=True))
        raise ConfigError(f"{what}: their figures are of other questions and do not compare. It takes the same `ask`.")
    found = list(_of_reports(*sides, metric) if sides[0].report is not None else _of_rows(*sides, metric))
    if not found:
        raise ConfigError(f"Nothing of {first} and {second} can be compared: {_why_nothing(*sides)}")
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
        rows = {(section.data, section.scenario, row.row): row for section in found.sections for row in section.rows}
        settings = {one.cell.id: one.about["config"] for one in found.done}
        plan = found.record.plan.model_dump(mode="json", exclude=_NOT_COMPARED)
        return _Side(
            path,
            rows,
            None,
            {"plan": {"plan": plan}, **settings},
            found.record.plan.ask,
            len(found.failed) + len(found.waiting),
        )
    file = path / "report.json" if path.is_dir() else path
    if not path.exists():
        raise ArtifactError(
            f"There is no {path}; expected the folder of a run or an experiment, or the file of a report."
        )
    if not file.is_file():
        raise ArtifactError(
            f"{path} has neither {FILE} of an experiment nor report.json of a run. Make one: allmrec evaluate {path}"
        )
    run = file.parent / "run.json"
    config = read_json(run).get("config") if run.is_file() else None
    return _Side(path, {}, Report.load(file), {"run": config} if isinstance(config, dict) else {})


def _of_rows(first: _Side, second: _Side, metric: str) -> Iterator[Difference]:
    """Rows that both experiments have, group by group."""
    for where, one in first.rows.items():
        other = second.rows.get(where)
        if other is None or other.cells[0].protocol != one.cells[0].protocol:
            continue
        known = [name for name in other.cells[0].found.metrics if name in one.cells[0].found.metrics]
        if metric not in known:
            raise ConfigError(f"There is no figure {metric!r} of both experiments; there are {', '.join(known)}.")
        seeds = _common_seeds(one, other)
        if not seeds:
            continue
        old, new = _with_seeds(one, seeds), _with_seeds(other, seeds)
        for group in old.asked.groups:
            if group not in new.asked.groups or not (mask := old.users(group) & new.users(group)).any():
                continue
            before, after = (row.values(metric)[:, mask] for row in (old, new))
            means = [joined_mean(part, f"{metric} {group}") for part in (before, after, after - before)]
            place = f"{', '.join(where[:2])}: {group}"
            yield Difference(place, new.title, means[0], means[1], means[2], int(mask.sum()), seeds)


def _common_seeds(first: Row, second: Row) -> tuple[int, ...]:
    return tuple(sorted({cell.cell.seed for cell in first.cells} & {cell.cell.seed for cell in second.cells}))


def _with_seeds(row: Row, seeds: Sequence[int]) -> Row:
    """A row of these seeds alone, in their order."""
    cells = {cell.cell.seed: cell for cell in row.cells}
    return replace(row, cells=[cells[seed] for seed in seeds])


def _why_nothing(first: _Side, second: _Side) -> str:
    """Why two sides have nothing in common: the first reason that holds."""
    if first.report is not None:
        return "they have no system in common that was asked about the same users."
    for side in (first, second):
        if not side.rows:
            return f"{side.path} has no cell that is done. Measure it: allmrec experiment -o {side.path}"
    for place, what in enumerate(("data sets", "scenarios", "systems")):
        own, others = ({where[: place + 1] for where in side.rows} for side in (first, second))
        if not own & others:
            names = [", ".join(sorted({where[place] for where in there})) for there in (own, others)]
            return f"they have no {what} in common: {names[0]}, and {names[1]}. They are found by the same name."
    both = [(first.rows[where], second.rows[where]) for where in first.rows if where in second.rows]
    if all(one.cells[0].protocol != other.cells[0].protocol for one, other in both):
        asked = [[row.cells[0].about["protocol"] for row in rows] for rows in both]
        said = [f"{of['users']:,} users on {of['candidates']} candidates each" for of in asked[0]]
        return f"other users or candidates were asked about ({said[0]}, and {said[1]}). It takes the same data, users and candidates."
    if not any(_common_seeds(one, other) for one, other in both):
        seeds = [sorted({cell.cell.seed for pair in both for cell in pair[side].cells}) for side in (0, 1)]
        return f"they have no seed in common: {', '.join(map(str, seeds[0]))}, and {', '.join(map(str, seeds[1]))}."
    return "no system has users and seeds in common."


def _of_reports(first: _Side, second: _Side, metric: str) -> Iterator[Difference]:
    """Systems that both reports have, by the name that commands know them by."""
    old, new = first.report, second.report
    if old is None or new is None:
        return
    if old.protocol_hash != new.protocol_hash:
        raise ConfigError(
            f"{first.path} and {second.path} are of different users or candidates, so figures do not compare."
        )
    if old.n_candidates != new.n_candidates:
        what = " and ".join(
            f"{side.path} ranks each test item among {report.n_candidates:,} ({report.scenario})"
            for side, report in ((first, old), (second, new))
        )
        raise ConfigError(
            f"{what}: such figures do not compare. Give two reports of candidates, or two of the whole catalogue."
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
    sides = _side(first), _side(second)
    found, settings = _compared(sides, metric)
    table = Table(title=Text(visible(f"{metric}: {second} less {first}")))
    heads: Sequence[str] = ("where", "system", "users", "seeds", "first", "second", "difference")
    for head in heads:
        table.add_column(head)
    for one in found:
        asked = f"{one.users:,}", ", ".join(map(str, one.seeds))
        cells = (one.where, one.name, *asked, shown(one.first), shown(one.second), shown(one.difference, "+"))
        table.add_row(*(Text(visible(cell)) for cell in cells))
    console.print(table)
    console.print(Text(HOW))
    for side, other in (sides, sides[::-1]):
        if side.undone:
            console.print(Text(visible(f"Not done of {side.path}'s plan: {side.undone:,} cells.")), soft_wrap=True)
        if only := [name for name in side.names if name not in other.names]:
            console.print(Text(visible(f"Only in {side.path}: {', '.join(only)}.")), soft_wrap=True)
    if not settings:
        console.print(Text("Their settings are the same."))
    for name, (old, new) in settings.items():
        console.print(Text(visible(f"{name}: {old!r} -> {new!r}")), soft_wrap=True)
