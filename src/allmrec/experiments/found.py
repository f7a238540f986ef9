"""Everything a report shows, read from an experiment's folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from allmrec.core.errors import AllmrecError, ArtifactError
from allmrec.data.interactions import InteractionDataset
from allmrec.experiments.cells import Cell, cells_of, other_data
from allmrec.experiments.failures import Failures
from allmrec.experiments.record import FILE, Record
from allmrec.experiments.results import CellResult, Results
from allmrec.experiments.stage_times import StageTimes
from allmrec.experiments.tables import Section, sections_of

__all__ = ["Experiment", "asked_dataset", "read_experiment", "read_experiments"]


@dataclass(frozen=True, eq=False)
class Experiment:
    """An experiment with what was found.

    Attributes:
        title: its plan's, with the names of its data where another experiment has the same.
        folder: where it stands.
        record: its plan, data and command.
        sections: its tables.
        done: cells that are done.
        failed: what went wrong, by cell.
        waiting: cells that were not tried.
        datasets: the data, where it can be read still.
        times: how long stages were trained that cells share, those of other experiments in the same folder of results too.
    """

    title: str
    folder: Path
    record: Record
    sections: tuple[Section, ...]
    done: tuple[CellResult, ...]
    failed: Mapping[Cell, Mapping[str, Any]]
    waiting: tuple[Cell, ...]
    datasets: Mapping[str, InteractionDataset]
    times: StageTimes


def read_experiment(folder: Path) -> Experiment:
    """Read an experiment; results of cells that the plan has changed since are left out, and count as waiting.

    Raises:
        ArtifactError: the folder is no experiment, or damaged; or its results are elsewhere and not there, or of an earlier version.
    """
    record, failures = Record.read(folder), Failures(folder)
    at = record.results_in(folder)
    if not at.is_dir():
        raise ArtifactError(
            f"The results of {folder} were in {at}, which is not there. Bring it back, or measure again."
        )
    if any((at / "cells").glob("*.json")) and not any((at / "cells").glob("*.npz")):
        raise ArtifactError(
            f"{at} has results of an earlier version, which this one does not read. To measure again: allmrec experiment -o {folder}"
        )
    results = Results(at)
    datasets = {}
    for name, path in record.data.items():
        try:
            datasets[name] = InteractionDataset.load(path)
        except AllmrecError:
            continue  # figures stay without the data; titles do not
    done, failed, waiting = [], {}, []
    for cell in cells_of(record.plan):
        if (key := record.keys.get(cell.id)) is not None and (found := results.read(cell, key)) is not None:
            done.append(found)
        elif (failure := failures.read(cell)) is not None:
            failed[cell] = failure
        else:
            waiting.append(cell)
    summaries = {name: data.summary() for name, data in datasets.items()}
    sections = sections_of(record.plan, [(one, results.asked(one)) for one in done], summaries)
    return Experiment(
        record.plan.title,
        folder,
        record,
        tuple(sections),
        tuple(done),
        failed,
        tuple(waiting),
        datasets,
        StageTimes(results.abouts()),
    )


def read_experiments(folder: Path) -> list[Experiment]:
    """Read all experiments that stand in a folder: those beside the paper's figures first, then by name, table4 before table10.

    Two of one plan tell in their titles of which data they are, or where they stand.

    Raises:
        ArtifactError: one is damaged.
    """
    found = [read_experiment(path.parent) for path in folder.glob(f"*/{FILE}")]
    for told in (lambda one: ", ".join(one.record.data), lambda one: one.folder.name):
        found = [_told_apart(one, found, told(one)) for one in found]
    return sorted(found, key=_place)


def _told_apart(one: Experiment, all_of_them: list[Experiment], by: str) -> Experiment:
    """An experiment whose title tells it apart from others with the same."""
    alone = sum(one.title == other.title for other in all_of_them) == 1
    return one if alone else replace(one, title=f"{one.title} ({by})")


def _place(one: Experiment) -> tuple[bool, list[tuple[int, str]]]:
    parts = re.split(r"(\d+)", one.folder.name)
    return one.record.plan.paper is None, [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def asked_dataset(found: Experiment, section: Section) -> InteractionDataset | None:
    """The data that a section's users are of; none where it cannot be read any more."""
    plan = found.record.plan
    return found.datasets.get(other_data(plan, section.data, plan.scenarios[section.scenario]) or section.data)
