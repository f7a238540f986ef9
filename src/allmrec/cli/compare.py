"""`allmrec compare`: two runs or experiments, user by user."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from allmrec.cli.options import CONSOLE

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("compare", help="Paired differences of two runs or experiments, and what changed in their settings.")
    def compare(
        first: Annotated[Path, typer.Argument(help="A run with a report, an experiment, or a report's file.")],
        second: Annotated[Path, typer.Argument(help="Another one, of the same users and candidates.")],
        metric: Annotated[str, typer.Option("--metric", help="Figure to compare.")] = "Hit@1",
    ) -> None:
        from allmrec.experiments.comparing import show_comparison

        show_comparison(first, second, metric, CONSOLE)
