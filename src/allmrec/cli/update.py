"""`allmrec update`: a new run with newer interactions, users and items, which goes on from an earlier one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from allmrec.cli.options import ChangeOption, DeviceOption, RunArgument, SaveEveryOption, announce, chosen_device
from allmrec.cli.prepare import show_reading
from allmrec.cli.prepare_options import Columns, Layouts, MaxSkippedOption, OnErrorOption, said, with_groups
from allmrec.core.config import parse_config
from allmrec.core.errors import ConfigError
from allmrec.core.places import check_folder
from allmrec.data.sources.newer import NewerConfig, read_newer_files
from allmrec.pipeline.run import Run
from allmrec.recipes.files import parse_changes
from allmrec.systems.registry import checked_settings
from allmrec.systems.updating import update_run

__all__ = ["register"]

_COLUMNS = "Columns that are not named are found as by `allmrec prepare table`."


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("update", help=f"Join newer interactions to a run's data, and train a run that goes on. {_COLUMNS}")
    @with_groups
    def update(
        run: RunArgument,
        output: Annotated[
            Path, typer.Option("-o", "--output", help="The new run's folder; RUN stays as it is.", show_default=False)
        ],
        interactions: Annotated[
            Path | None, typer.Option(help="Newer interactions, one a record; needed where there are no --items.")
        ] = None,
        items: Annotated[
            Path | None, typer.Option(help="New items, one a record; known ones may be among them.")
        ] = None,
        on_error: OnErrorOption = "fail",
        max_skipped: MaxSkippedOption = None,
        keep_within: Annotated[
            float,
            typer.Option(
                "--keep-within",
                help="Stages 1 and 2 stay as they are where their inputs moved by this at most, in mean cosine distance.",
            ),
        ] = 0.05,
        change: ChangeOption = None,
        device: DeviceOption = "auto",
        save_every: SaveEveryOption = 60.0,
        *,
        columns: Columns,
        layouts: Layouts,
    ) -> None:
        earlier = Run.open(run, chosen_device(device))
        earlier.check_unpublished()
        check_folder(output)
        if output.resolve() == run.resolve():
            raise ConfigError(f"{run} stays as it is; give the new run another folder with -o.")
        options = {"interactions": interactions, "items": items, "on_error": on_error, **said(max_skipped=max_skipped)}
        options |= columns.options() | layouts.options()
        raw = read_newer_files(parse_config(NewerConfig, options, "The table"))
        show_reading(raw)
        config = checked_settings(earlier.config.changed(parse_changes(change or [])))
        found = update_run(
            earlier, raw, output, config=config, keep_within=keep_within, save_every=save_every, log=announce
        )
        if found.run is None:
            announce(f"Nothing is new, so nothing was trained and {output} was not written; {run} is up to date.")
        else:
            announce(f"Next: allmrec evaluate {output}")
