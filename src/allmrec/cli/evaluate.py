"""`allmrec evaluate`: every system of a run on the same users and candidates."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from allmrec.cli.options import CONSOLE, DeviceOption, RunArgument, announce, chosen_device
from allmrec.core.artifacts import atomic_write
from allmrec.evaluation import markdown, render, verdict
from allmrec.pipeline.run import Run
from allmrec.pipeline.systems import SYSTEMS, evaluate_run

__all__ = ["register", "show_evaluation"]


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("evaluate", help="Rank the frozen users and candidates with every system; print and write a report.")
    def evaluate(
        run: RunArgument,
        users: Annotated[int | None, typer.Option(min=1, help="Test users; default: the recipe's.")] = None,
        title_users: Annotated[
            int | None, typer.Option(min=1, help="Users for systems that score titles, which is slow.")
        ] = None,
        systems: Annotated[str | None, typer.Option(help=f"Some of: {', '.join(SYSTEMS)}.")] = None,
        device: DeviceOption = "auto",
    ) -> None:
        opened = Run.open(run, chosen_device(device))
        changes = {"users": users, "title_users": title_users}
        wanted = opened.config.evaluation.model_copy(update={k: v for k, v in changes.items() if v is not None})
        opened.config = opened.config.model_copy(update={"evaluation": wanted})
        show_evaluation(opened, None if systems is None else [name.strip() for name in systems.split(",")])


def show_evaluation(run: Run, systems: list[str] | None = None) -> None:
    """Judge, print the table and who wins, write `report.json` and `report.md`."""
    command = shlex.join(["allmrec", *sys.argv[1:]])
    report = evaluate_run(run, systems, command)
    report.save(run.path / "report.json")
    atomic_write(run.path / "report.md", markdown(report))
    CONSOLE.print(render(report))
    announce(verdict(report))
    announce(f"Written: {run.path / 'report.json'} and {run.path / 'report.md'}")
