"""Writes an experiment's reports and prints its tables."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from allmrec.core.artifacts import atomic_write
from allmrec.core.errors import ArtifactError
from allmrec.experiments.found import read_experiment, read_experiments
from allmrec.experiments.html import page
from allmrec.experiments.markdown import markdown, show_tables
from allmrec.experiments.record import FILE

__all__ = ["write_report"]


def write_report(folder: Path, console: Console) -> list[Path]:
    """Write `report.md` and `report.html` of what is done, and print the tables.

    Args:
        folder: an experiment's, or one whose folders are experiments: then they stand on one page.
        console: prints the tables.

    Returns:
        The files.

    Raises:
        ArtifactError: the folder is neither, or something in it is damaged.
    """
    single = (folder / FILE).is_file()
    experiments = [read_experiment(folder)] if single else read_experiments(folder)
    if not experiments:
        raise ArtifactError(
            f"{folder} is no experiment, and holds none. Measure one: allmrec experiment PLAN -o {folder}/PLAN"
        )
    for found in experiments:
        show_tables(found, console)
    atomic_write(folder / "report.md", markdown(experiments))
    atomic_write(folder / "report.html", page(experiments))
    return [folder / "report.md", folder / "report.html"]
