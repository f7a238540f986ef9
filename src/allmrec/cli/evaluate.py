"""`allmrec evaluate`: every system of a run on the same users and candidates."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from allmrec.cli.options import CONSOLE, DeviceOption, RunArgument, announce, chosen_device
from allmrec.core.artifacts import atomic_write
from allmrec.evaluation import Report, markdown, render, verdict
from allmrec.pipeline.run import Run
from allmrec.systems.evaluating import earlier_report, evaluate_catalogue, evaluate_run, keep_report
from allmrec.systems.registry import SYSTEMS

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
        systems: Annotated[
            str | None,
            typer.Option(
                help=f"Some of: {', '.join(SYSTEMS)}. Default: all that the run has; with --catalogue what ranks without the "
                "language model, and A-LLMRec."
            ),
        ] = None,
        catalogue: Annotated[
            bool, typer.Option("--catalogue", help="Rank the whole catalogue instead of the candidates.")
        ] = False,
        order: Annotated[
            bool,
            typer.Option(
                "--order",
                help="Rank again with every history shuffled, and show what that costs each system; takes as long again.",
            ),
        ] = False,
        device: DeviceOption = "auto",
    ) -> None:
        opened = Run.open(run, chosen_device(device))
        changes = {"users": users, "title_users": title_users, "order_test": order or None}
        wanted = opened.config.evaluation.model_copy(update={k: v for k, v in changes.items() if v is not None})
        opened = opened.with_config(opened.config.model_copy(update={"evaluation": wanted}))
        names = None if systems is None else [name.strip() for name in systems.split(",")]
        if catalogue:
            show_report(opened, evaluate_catalogue(opened, names, _command(), log=announce), "report-catalogue")
        else:
            show_evaluation(opened, names)


def show_evaluation(run: Run, systems: list[str] | None = None) -> None:
    """Evaluate on the frozen candidates; print the table and the best system, write `report.json` and `report.md`.

    What is known of some systems alone is no report of the run, and does not take its place.
    """
    name = "report" if systems is None else "report-selected"
    show_report(run, evaluate_run(run, systems, _command(), log=announce), name)


def show_report(run: Run, report: Report, name: str) -> None:
    """Write a report into the run's folder as JSON and Markdown, then print it; a disk that takes no file is reported last."""
    before = earlier_report(run, report, name)
    try:
        atomic_write(run.path / f"{name}.md", markdown(report, before))
        keep_report(run, report, name)
    finally:
        CONSOLE.print(render(report, before))
        announce(verdict(report))
    announce(f"Written: {run.path / f'{name}.json'} and {run.path / f'{name}.md'}")


def _command() -> str:
    return shlex.join(["allmrec", *sys.argv[1:]])
