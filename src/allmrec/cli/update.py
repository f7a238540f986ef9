"""`allmrec update`: a new run with newer interactions, users and items, which goes on from an earlier one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from allmrec.cli.options import DeviceOption, RunArgument, announce, chosen_device
from allmrec.cli.prepare_options import Layouts, said, with_groups
from allmrec.core.config import parse_config
from allmrec.core.errors import ConfigError
from allmrec.data.sources.table import TableConfig, read_table_files
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
        interactions: Annotated[Path, typer.Option(help="Newer interactions, one a record.", show_default=False)],
        output: Annotated[
            Path, typer.Option("-o", "--output", help="The new run's folder; RUN stays as it is.", show_default=False)
        ],
        items: Annotated[
            Path | None, typer.Option(help="New items, one a record; known ones may be among them.")
        ] = None,
        user: Annotated[str, typer.Option(help="Column of the user's id.")] = "auto",
        item: Annotated[str, typer.Option(help="Column of the item's id.")] = "auto",
        items_item: Annotated[
            str | None, typer.Option("--items-item", help="The same in the items file, where it is called otherwise.")
        ] = None,
        rating: Annotated[str, typer.Option(help="Column of the rating, or none.")] = "auto",
        time: Annotated[str, typer.Option(help="Column of the time, or none.")] = "auto",
        position: Annotated[str, typer.Option(help="Column of the place in the user's order, or none.")] = "auto",
        title: Annotated[str, typer.Option(help="Column of the title, or none.")] = "auto",
        description: Annotated[str, typer.Option(help="Column of the description, or none.")] = "auto",
        categories: Annotated[str, typer.Option(help="Column of the categories, or none.")] = "auto",
        duplicate_items: Annotated[
            Literal["fail", "first", "last"],
            typer.Option("--duplicate-items", help="Which row counts where an item has several."),
        ] = "fail",
        on_error: Annotated[
            Literal["fail", "skip"],
            typer.Option("--on-error", help="Whether a bad line fails, or is left out and counted."),
        ] = "fail",
        max_skipped: Annotated[
            float | None,
            typer.Option(
                "--max-skipped", min=0, max=1, help="Share of a file's lines that may be left out. Default: 0.1."
            ),
        ] = None,
        keep_within: Annotated[
            float,
            typer.Option(
                "--keep-within",
                help="Stages 1 and 2 stay as they are where their inputs moved by this at most, in mean cosine distance.",
            ),
        ] = 0.05,
        change: Annotated[
            list[str] | None, typer.Option("--set", help="Change a field, e.g. tune.training.epochs=3; repeatable.")
        ] = None,
        device: DeviceOption = "auto",
        save_every: Annotated[
            float,
            typer.Option("--save-every", min=0, help="Seconds between two savings of a stage that is not finished."),
        ] = 60.0,
        *,
        layouts: Layouts,
    ) -> None:
        earlier = Run.open(run, chosen_device(device))
        earlier.check_unpublished()
        if output.resolve() == run.resolve():
            raise ConfigError(f"{run} stays as it is; give the new run another folder with -o.")
        columns = {"rating": rating, "time": time, "position": position, "title": title}
        columns |= {"description": description, "categories": categories}
        options: dict[str, Any] = {"interactions": interactions, "items": items, "user": user, "item": item}
        options |= {name: None if column == "none" else column for name, column in columns.items()}
        options |= {"item_in_items": items_item, "duplicate_items": duplicate_items, "on_error": on_error}
        options |= said(max_skipped=max_skipped) | layouts.options()
        raw = read_table_files(parse_config(TableConfig, options, "The table"))
        for kind, count in raw.skipped.items():
            where = f" (lines {raw.skipped_lines[kind]})" if kind in raw.skipped_lines else ""
            announce(f"skipped {count:,} lines: {kind}{where}")
        config = checked_settings(earlier.config.changed(parse_changes(change or [])))
        found = update_run(
            earlier, raw, output, config=config, keep_within=keep_within, save_every=save_every, log=announce
        )
        if found.run is None:
            announce(f"Nothing is new, so nothing was trained and {output} was not written; {run} is up to date.")
        else:
            announce(f"Next: allmrec evaluate {output}")
