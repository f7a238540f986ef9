"""Writes an experiment's reports and prints its tables."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from allmrec.core.artifacts import atomic_write
from allmrec.experiments.found import read_experiment
from allmrec.experiments.html import page
from allmrec.experiments.markdown import markdown, show_tables

__all__ = ["write_report"]


def write_report(folder: Path, console: Console) -> list[Path]:
    """Write `report.md` and `report.html` of what is done, and print the tables.

    Returns:
        The files.

    Raises:
        ArtifactError: the folder is no experiment, or damaged.
    """
    found = read_experiment(folder)
    show_tables(found, console)
    atomic_write(folder / "report.md", markdown(found))
    atomic_write(folder / "report.html", page(found))
    return [folder / "report.md", folder / "report.html"]
