"""`allmrec prepare SOURCE`: raw files to a data set, with what was left out on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from allmrec.cli.options import CONSOLE, announce
from allmrec.cli.prepare_options import Columns, Layouts, Shared, SharedBesidePreset, named_columns, said, with_groups
from allmrec.core.errors import ConfigError
from allmrec.core.places import check_folder
from allmrec.data.build import PrepareConfig
from allmrec.data.files import shown
from allmrec.data.large import prepare_to
from allmrec.data.provenance import Provenance, Summary
from allmrec.data.sources import SOURCES
from allmrec.data.sources.amazon import PRESETS, AmazonPreset
from allmrec.data.sources.base import RawData
from allmrec.recipes.files import parse_changes

__all__ = ["register", "show_summary"]

Output = Annotated[Path, typer.Option("-o", "--output", help="Folder to write the data set to.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the verb with one sub-verb a source."""
    verbs = typer.Typer(no_args_is_help=True, help="Make a data set of raw files.")
    app.add_typer(verbs, name="prepare")

    @verbs.command("table", help="A file of interactions and one of items: CSV, TSV, Parquet or JSON lines.")
    @with_groups
    def table(
        interactions: Annotated[Path, typer.Option(help="One interaction a record.", show_default=False)],
        output: Output,
        items: Annotated[Path | None, typer.Option(help="One item a record.")] = None,
        *,
        columns: Columns,
        layouts: Layouts,
        shared: Shared,
    ) -> None:
        options = {"interactions": interactions, "items": items, **columns.options(), **layouts.options()}
        _prepare("table", options, output, shared)

    @verbs.command("movielens", help="A MovieLens folder: 100K (GroupLens or RecBole), 1M, or the CSV of newer ones.")
    @with_groups
    def movielens(
        directory: Annotated[Path, typer.Argument(help="The folder with ratings and films.", show_default=False)],
        output: Output,
        files: Annotated[
            Literal["100k", "1m", "latest", "recbole"] | None,
            typer.Option("--files", help="Which of the data sets in the folder; none: the one that is there."),
        ] = None,
        encoding: Annotated[str | None, typer.Option(help="Of the films; none: UTF-8 or latin-1.")] = None,
        *,
        shared: Shared,
    ) -> None:
        _prepare("movielens", {"directory": directory, "files": files, "encoding": encoding}, output, shared)

    @verbs.command("amazon", help="Raw Amazon reviews and metadata as published in 2014, 2018 or 2023.")
    @with_groups
    def amazon(
        reviews: Annotated[Path, typer.Option(help="One review a line, plain or gzip.", show_default=False)],
        output: Output,
        metadata: Annotated[Path | None, typer.Option(help="One item a line, plain or gzip.")] = None,
        preset: Annotated[
            str | None, typer.Option(help=f"Filters and words of a set of the paper: {', '.join(PRESETS)}.")
        ] = None,
        form: Annotated[
            Literal["2014", "2018", "2023"] | None, typer.Option(help="Names of the fields; none: as the files tell.")
        ] = None,
        description: Annotated[
            Literal["joined", "first"] | None, typer.Option(help="Of several parts: all or the first. Default: joined.")
        ] = None,
        duplicate_items: Annotated[
            Literal["fail", "first", "last"],
            typer.Option("--duplicate-items", help="Which record counts where an item has several."),
        ] = "first",
        *,
        shared: SharedBesidePreset,
    ) -> None:
        if preset is not None and preset not in PRESETS:
            raise ConfigError(f"There is no preset {preset!r}; known are {', '.join(PRESETS)}.")
        chosen = None if preset is None else PRESETS[preset]
        options: dict[str, Any] = {"reviews": reviews, "metadata": metadata, "form": form}
        options |= {"duplicate_items": duplicate_items}
        # What was said outweighs the preset.
        options |= {**(chosen.source if chosen else {}), **said(description=description)}
        _prepare("amazon", options, output, shared, chosen)

    @verbs.command("movietweetings", help="A snapshot of MovieTweetings: ratings.dat and movies.dat.")
    @with_groups
    def movietweetings(
        directory: Annotated[Path, typer.Argument(help="The folder with ratings and films.", show_default=False)],
        output: Output,
        encoding: Annotated[str, typer.Option(help="Of both files.")] = "utf-8",
        *,
        shared: Shared,
    ) -> None:
        _prepare("movietweetings", {"directory": directory, "encoding": encoding}, output, shared)

    @verbs.command("recbole", help="RecBole's atomic files: NAME.inter and, where there is one, NAME.item.")
    @with_groups
    def recbole(
        directory: Annotated[Path, typer.Argument(help="The folder with the files.", show_default=False)],
        output: Output,
        name: Annotated[str | None, typer.Option(help="Which data set, where the folder holds several.")] = None,
        user: Annotated[str, typer.Option(help="Column of the user's id, without its type.")] = "user_id",
        item: Annotated[str, typer.Option(help="Column of the item's id.")] = "item_id",
        rating: Annotated[str, typer.Option(help="Column of the rating, or none.")] = "auto",
        time: Annotated[str, typer.Option(help="Column of the time, or none: file order counts.")] = "auto",
        title: Annotated[str, typer.Option(help="Column of the title, or none.")] = "auto",
        description: Annotated[str, typer.Option(help="Column of the description, or none.")] = "auto",
        categories: Annotated[str, typer.Option(help="Column of the categories, or none.")] = "auto",
        encoding: Annotated[str, typer.Option(help="Of both files.")] = "utf-8",
        *,
        shared: Shared,
    ) -> None:
        options: dict[str, Any] = {"directory": directory, "name": name, "user": user, "item": item}
        options |= {"encoding": encoding}
        options |= named_columns(rating=rating, time=time, title=title, description=description, categories=categories)
        _prepare("recbole", options, output, shared)

    special = {command.name for command in verbs.registered_commands}
    for name in SOURCES:
        if name not in special:
            verbs.command(name, help="A source whose options are given by --set.")(with_groups(_plain(name)))


def _plain(source: str) -> Callable[..., None]:
    """The sub-verb of a source that has no options of its own on the command line, such as another package's."""

    def verb(
        output: Output,
        option: Annotated[
            list[str] | None, typer.Option("--set", help="An option of the source: field=value; repeatable.")
        ] = None,
        *,
        shared: Shared,
    ) -> None:
        options = parse_changes(option or [])
        fields = SOURCES[source].config.model_fields
        if "on_error" not in fields and shared.on_error != "fail":
            raise ConfigError(f"The source {source!r} cannot leave lines out; leave out --on-error.")
        unknown = [name for name in shared.reading() if name not in fields and name != "on_error"]
        if unknown:
            raise ConfigError(f"The source {source!r} does not know --{unknown[0].replace('_', '-')}; leave it out.")
        reading = {name: value for name, value in shared.reading().items() if name in fields}
        _write(source, {**options, **reading}, output, shared, shared.filters())

    return verb


def _prepare(
    source: str, options: Mapping[str, Any], output: Path, shared: Shared, preset: AmazonPreset | None = None
) -> None:
    asked = "" if preset is None else f" --words {','.join(preset.words)}"
    filters = shared.filters(preset.prepare if preset else None)
    _write(source, {**options, **shared.reading()}, output, shared, filters, asked)


def _write(
    source: str, options: Mapping[str, Any], output: Path, shared: Shared, filters: PrepareConfig, asked: str = ""
) -> None:
    """Read a source and write the data set; `asked` is what the next command should say beside the data."""
    check_folder(output)
    if output.exists() and not (output / "manifest.json").is_file() and any(output.iterdir()):
        raise ConfigError(f"{output} exists and is no data set of allmrec. Give another folder with -o.")
    with CONSOLE.status("Reading …"):
        done = prepare_to(output, source, options, filters, shared.engine, shared.limit())
    if done.engine == "duckdb":
        announce("  prepared by DuckDB (--engine)")
    show_summary(done.summary, done.provenance)
    train = f"allmrec train {output} -o runs/{output.name}{asked}"
    announce(f"Written: {output}\nNext: {train}   # without a GPU: --recipe cpu")


def show_summary(summary: Summary, about: Provenance) -> None:
    """Print a data set's size as the paper's Table 2 does, and what was left out."""
    table = Table("users", "items", "interactions", "per user", "density", "no title", "no description")
    table.add_row(
        f"{summary.users:,}",
        f"{summary.items:,}",
        f"{summary.interactions:,}",
        f"{summary.average_length:.2f}",
        f"{summary.density:.3%}",
        f"{summary.items_without_title:,}",
        f"{summary.items_without_description:,}",
    )
    CONSOLE.print(table)
    for step in about.steps[1:]:
        announce(f"  {step}")
    show_reading(about)
    if about.items_without_interactions and not about.kept_items_without_interactions:
        announce(f"  left out {about.items_without_interactions:,} items that nobody interacted with (--keep-items)")


def show_reading(about: Provenance | RawData) -> None:
    """Print what the columns of files were used for, what was recognised in them without being told, and which lines were left out."""
    for file, columns in about.columns.items():
        announce(f"  {file}: " + ", ".join(f"{option} is {shown(name)}" for option, name in columns.items()))
    for note in about.notes:
        announce(f"  {note}")
    for kind, count in about.skipped.items():
        where = f" (lines {about.skipped_lines[kind]})" if kind in about.skipped_lines else ""
        announce(f"  skipped {count:,} lines: {kind}{where}")
